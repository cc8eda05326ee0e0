"""Has workers answer HTTP-01 and TLS-ALPN-01 challenges, and takes them back.

The note on disk is for the next certifier: a certifier that died in the middle has left workers
answering for a token that nobody asks for any more, and `clear` takes it back. A note names the
session that wrote it, and while that session lives nobody else takes its challenge back: during an
upgrade two certifiers work beside each other.

Attempts may share a challenge (`holders`); the last of them takes it back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..errors import IssuanceError
from ..link import Challenge, Link
from ..storage import documents
from ..storage.store import Store, is_anothers
from . import document
from .holders import Holders, key_of

log = logging.getLogger("treehouse.certifier")


class Challenges:
    def __init__(self, store: Store, link: Link) -> None:
        self._store = store
        self._link = link
        self._holders = Holders()

    @contextlib.contextmanager
    def presented(self, name: str, challenges: list[Challenge]) -> Iterator[None]:
        """Inside, every worker answers all challenges; afterwards none does, whatever happens.
        ``name`` is the certificate's, for the log. Raises `IssuanceError`."""
        shown: list[Challenge] = []
        try:
            for challenge in challenges:
                self._holders.take(key_of(challenge), id(shown))
                shown.append(challenge)
                self._write(challenge)
                if not self._link.present(challenge):
                    raise IssuanceError(
                        "presentation",
                        f"not all workers have taken the challenge for {challenge.host} in time",
                        challenge=challenge.kind,
                    )
                log.debug("%s: challenge %s for %s presented", name, challenge.kind, challenge.host)
            yield
        finally:
            for challenge in shown:
                self._take_back(challenge, id(shown))

    def clear(self) -> None:
        """Take back what certifiers that have ended left behind."""
        try:
            left = self._store.load(document.FOLDER)
            for token, data in left.items():
                self._clear_one(token, data)
        except OSError as error:
            log.warning("challenges on disk cannot be read: %s", error)

    def _clear_one(self, token: str, data: bytes) -> None:
        if documents.newer(data, document.VERSION):
            log.info("challenges/%s: left to the newer version that has written it", token)
            return
        if is_anothers(self._store, documents.read(data, document.VERSION).get("holder")):
            log.debug("challenges/%s: another certifier holds it", token)
            return
        challenge = document.read(token, data)
        if challenge is None:
            self._erase(token)
        else:
            self._take_back(challenge, None)

    def _take_back(self, challenge: Challenge, holder: int | None) -> None:
        with self._holders.leave(key_of(challenge), holder) as is_last:
            if is_last:
                self._link.retract(challenge)
                self._erase(challenge.token)

    def _write(self, challenge: Challenge) -> None:
        try:
            data = document.write(challenge, self._store.session())
            self._store.store(document.FOLDER, {challenge.token: data})
        except OSError as error:
            log.warning("%s: the challenge cannot be written: %s", challenge.host, error)

    def _erase(self, token: str) -> None:
        try:
            self._store.delete(document.FOLDER, token)
        except OSError as error:
            log.warning("the challenge %s cannot be taken off the disk: %s", token, error)

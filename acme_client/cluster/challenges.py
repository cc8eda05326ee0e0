"""Challenges that every machine answers, because a CA may be led to any of them.

The machine that makes an attempt has its own workers answer first. Then it writes the challenge
into the engine, with its session, so that it vanishes with its writer; every other machine has its
workers answer and says up to which revision it has come, and only when all have come that far is
the CA told to look. A machine that is away costs its lease once; an engine that is away costs
nothing: then this machine answers alone.

When an attempt is cut off, another machine may go on with its order, and so with its challenges. So
a challenge may be this machine's own and another's, one after the other or for a moment both, and
neither of the two takes back what the other one needs: not from the workers (`holders`), and not
from the engine, where a challenge is deleted only by the session that has written it last.

Of TLS-ALPN-01 only the key authorization travels; each machine makes the certificate itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..challenges import document, tls_alpn
from ..challenges.holders import Holders, key_of
from ..link import Challenge, Command, Link, Served, Taken
from ..status import CertificateStatus
from ..storage.etcd.store import EtcdStore

log = logging.getLogger("treehouse.certifier")

# Longer than a lease: a machine that is gone has left the members by then.
_ANSWERED_WITHIN = 25.0
_MOST = 1000


class Told:
    """The challenges of this machine, told to the others. ``behind``: members that have not come
    up to a revision yet; ``available``: whether the engine answers."""

    def __init__(
        self,
        shared: EtcdStore,
        behind: Callable[[int], list[str]],
        available: Callable[[], bool],
        tidy: Callable[[], object],
    ) -> None:
        self._shared = shared
        self._behind = behind
        self._available = available
        self._tidy = tidy
        self.changed = threading.Condition()  # notified when members have come further
        self.ours: set[str] = set()
        """Tokens of this machine's own challenges."""
        self._over: set[str] = set()  # those of them that are still to be deleted
        self._deleting = threading.Lock()

    def tell(self, challenge: Challenge) -> None:
        """Return when all members answer, or there is no more to wait for."""
        with self._deleting:
            self._over.discard(challenge.token)  # an earlier attempt's, and needed again
        if not self._available():
            log.warning("%s: only this machine answers its challenge", challenge.host)
            return
        data = document.write(challenge)
        self.ours.add(challenge.token)
        try:
            revision = self._shared.put_while_here(document.FOLDER, challenge.token, data)
        except OSError as error:
            log.warning("%s: the others cannot be told the challenge: %s", challenge.host, error)
            return
        deadline = time.monotonic() + _ANSWERED_WITHIN
        with self.changed:
            while behind := self._behind(revision):
                left = deadline - time.monotonic()
                if left <= 0 or not self._available():
                    log.warning(
                        "%s: the challenge is not answered by %s",
                        challenge.host,
                        ", ".join(behind),
                    )
                    return
                self.changed.wait(min(left, 1.0))

    def forget(self, challenge: Challenge) -> None:
        """Have the others answer no more, in a while."""
        with self._deleting:
            if challenge.token not in self.ours:
                return  # nobody was told, or it was an earlier process, whose session has ended
            self._over.add(challenge.token)
        self._tidy()

    def delete(self) -> bool:
        """Delete from the engine what is over; returns whether another machine has written a
        challenge with the same token, which is to be answered from now on. Raises OSError; then the
        rest is still to be deleted."""
        anothers = False
        while self._over:
            with self._deleting:
                token = next(iter(self._over), None)
                if token is not None:
                    anothers |= not self._shared.delete_ours(document.FOLDER, token)
                    self._over.discard(token)
                    self.ours.discard(token)
        return anothers


class _Shown:
    """What this machine's workers answer, as far as this ``holder`` needs it shown."""

    def __init__(self, link: Link, holders: Holders, holder: str) -> None:
        self._link = link
        self._holders = holders
        self._holder = holder

    def present(self, challenge: Challenge) -> bool:
        self._holders.take(key_of(challenge), self._holder)
        return self._link.present(challenge)

    def retract(self, challenge: Challenge) -> None:
        with self._holders.leave(key_of(challenge), self._holder) as is_last:
            if is_last:
                self._link.retract(challenge)


class ClusterLink:
    """`link.Link` of a machine whose challenges the others answer too."""

    def __init__(self, link: Link, told: Told, holders: Holders) -> None:
        self._link = link
        self._told = told
        self._shown = _Shown(link, holders, "own")

    def present(self, challenge: Challenge) -> bool:
        taken = self._shown.present(challenge)
        if taken:
            self._told.tell(challenge)
        return taken

    def retract(self, challenge: Challenge) -> None:
        self._shown.retract(challenge)
        self._told.forget(challenge)

    # As it is

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        return self._link.publish(several, new=new)

    def report(self, name: str, status: CertificateStatus | None) -> None:
        self._link.report(name, status)

    def loaded(self) -> None:
        self._link.loaded()

    def idle(self) -> None:
        self._link.idle()

    def answer(self, ticket: int, value: dict[str, Any]) -> None:
        self._link.answer(ticket, value)

    def receive(self, timeout: float | None) -> list[Command]:
        return self._link.receive(timeout)

    def wake(self) -> None:
        self._link.wake()


class Answered:
    """The challenges of other machines that this one answers. Used by one thread."""

    def __init__(self, link: Link, now: Callable[[], float], holders: Holders) -> None:
        self._shown = _Shown(link, holders, "others")
        self._now = now
        self._answered: dict[str, tuple[bytes | OSError, Challenge]] = {}
        self._refused: set[str] = set()

    def follow(self, found: Mapping[str, bytes | OSError]) -> None:
        """Answer those that are there, and no others. A token may come with another challenge than
        before: whoever goes on with an order may choose another kind."""
        for token, (answered, old) in list(self._answered.items()):
            if found.get(token) != answered:
                self._shown.retract(old)
                del self._answered[token]
        self._refused &= found.keys()
        for token, data in list(found.items())[:_MOST]:
            if token in self._answered:
                continue
            challenge = None if isinstance(data, OSError) else document.read(token, data)
            if challenge is None:
                if token not in self._refused:
                    self._refused.add(token)
                    log.error("challenges/%s: not answered: %s", token, _why(data))
                continue
            self._answered[token] = data, challenge
            self._present(challenge)

    def _present(self, challenge: Challenge) -> None:
        if challenge.kind == "tls-alpn-01":
            pair = tls_alpn.certificate(challenge.host, challenge.key_authorization, self._now())
            challenge = replace(challenge, chain_pem=pair.chain_pem, key_pem=pair.key_pem)
        if not self._shown.present(challenge):
            log.warning("%s: not all workers have taken its challenge yet", challenge.host)


def _why(data: bytes | OSError) -> str:
    return str(data.strerror) if isinstance(data, OSError) else "it is no challenge that we know"

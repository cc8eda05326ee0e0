"""Keeps our account with each CA: one per directory, made once, found again, renewed when closed.

The key is on disk before the CA hears of it. So an account can always be found again by its key
(RFC 8555 §7.3.1), whatever was lost since: the answer on its way to us, or ``account.json``. The
same holds for a key that is to follow: if we do not live to hear the CA's answer, it is asked whose
key that is.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from acme import jws
from acme import messages as library
from cryptography.hazmat.primitives import hashes
from josepy.b64 import b64encode
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey
from requests import Response

from .. import explain
from ..errors import IssuanceError, plainly
from ..link import Authority
from ..rate_limits.ledger import Ledger
from ..storage.store import Store
from ..x509 import keys
from . import messages
from .account_files import (
    ACCOUNT,
    CLOSED_KEY,
    KEY,
    LEASE,
    NEXT_KEY,
    earlier_keys,
    folder,
    keep_document,
    known,
    remember_key,
)
from .external_account import mac_key
from .messages import Directory
from .transport import CONFLICT, Transport

log = logging.getLogger("treehouse.certifier")

# Asks for the account of a key, and makes none (RFC 8555 §7.3.1).
_EXISTING = library.Registration(only_return_existing=True)
# States of an account that never end (§7.1.6).
_CLOSED = ("deactivated", "revoked")
_SAYS_CLOSED = re.compile(r"(?i)deactivat|revoked|disabled|suspended|not valid|closed")


class Fate(enum.Enum):
    """What has become of an account for which a CA refused a request."""

    STANDS = enum.auto()
    REPLACED = enum.auto()  # by another of ours, meanwhile
    GONE = enum.auto()
    CLOSED = enum.auto()


class Accounts:
    """Finds, makes and changes accounts. May be used by several threads; accounts are made one at a
    time."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._lock = threading.Lock()

    def use(self, authority: Authority, directory: Directory, transport: Transport) -> None:
        """Have the transport sign for our account at this CA, which is made if there is none yet.
        Raises `IssuanceError`."""
        with self._lock:
            try:
                self._use(authority, directory, transport)
            except OSError as error:
                raise IssuanceError(
                    "disk", f"the account cannot be kept: {plainly(error)}"
                ) from None

    def refused(self, authority: Authority, url: str, gone: bool, transport: Transport) -> Fate:
        """Return what has become of the account with this URL, for which the CA has refused a
        request; one that is gone or closed is put aside, and whoever asks next makes another.

        ``gone``: the CA says that it knows no such account. Whether the CA has closed the account,
        the account's key alone asks it. All of that is one step: meanwhile nobody else puts another
        account there, whose key would be asked instead. Raises `IssuanceError`."""
        with self._lock:
            try:
                where = folder(self._store, authority.directory)
                files = self._store.load(where)
                if known(files).get("uri") != url:
                    return Fate.REPLACED
                if gone:
                    self._store.delete(where, ACCOUNT)  # its key may serve the next one
                    return Fate.GONE
                if KEY not in files:
                    return Fate.STANDS
                transport.sign_with(_key(files[KEY], where))
                if not _is_closed(authority, transport):
                    return Fate.STANDS
                self._put_aside(where, files)
                return Fate.CLOSED
            except OSError as error:
                raise IssuanceError(
                    "disk", f"the account cannot be kept: {plainly(error)}"
                ) from None

    def _files(self, authority: Authority) -> tuple[str, dict[str, bytes]]:
        """Return the account's folder, and the files in it."""
        with self._lock:
            try:
                where = folder(self._store, authority.directory)
                return where, self._store.load(where)
            except OSError as error:
                raise IssuanceError(
                    "disk", f"the account cannot be read: {plainly(error)}"
                ) from None

    def _put_aside(self, where: str, files: dict[str, bytes]) -> None:
        """Put a closed account aside, and its key with it."""
        self._store.store(where, {CLOSED_KEY: files[KEY]})
        for file in (ACCOUNT, KEY, NEXT_KEY):
            if file in files:
                self._store.delete(where, file)

    def roll_key(self, authority: Authority, directory: Directory, transport: Transport) -> None:
        """Give the account a new key (RFC 8555 §7.3.5). Raises `IssuanceError`."""
        self.use(authority, directory, transport)
        with self._lock:
            try:
                self._roll_key(folder(self._store, authority.directory), directory, transport)
            except OSError as error:
                raise IssuanceError(
                    "disk", f"the new key cannot be kept: {plainly(error)}"
                ) from None

    def _roll_key(self, where: str, directory: Directory, transport: Transport) -> None:
        url = directory.key_change
        if url is None:
            raise IssuanceError("settings", "this CA lets no account change its key")
        if transport.account_url is None:
            raise IssuanceError("internal", "there is no account to give a key to")
        pem = keys.to_pem(keys.generate(keys.DEFAULT))
        self._store.store(where, {NEXT_KEY: pem})
        following = JWKEC(key=ComparableECKey(keys.from_pem(pem)))
        change = {
            "account": transport.account_url,
            "oldKey": transport.account_key.public_key().to_partial_json(),
        }
        payload = json.dumps(change).encode()
        transport.send(url, jws.JWS.sign(payload, key=following, alg=ES256, nonce=None, url=url))
        remember_key(self._store, where, thumbprint(transport.account_key))
        self._store.store(where, {KEY: pem})
        self._store.delete(where, NEXT_KEY)
        log.info("the account with %s has a new key", urlsplit(url).netloc)

    def thumbprints(self, authority: Authority, transport: Transport) -> tuple[str, ...]:
        """Return the thumbprints of the key that the transport signs with, and of the account's
        earlier keys."""
        where, _files = self._files(authority)
        try:
            earlier = earlier_keys(self._store, where)
        except OSError as error:
            raise IssuanceError("disk", f"the account cannot be read: {plainly(error)}") from None
        return tuple(dict.fromkeys((thumbprint(transport.account_key), *reversed(earlier))))

    def _settle_next_key(
        self, where: str, files: dict[str, bytes], directory: Directory, transport: Transport
    ) -> bytes:
        """Return the account's key after a change whose answer was lost: ask the CA which of the
        two keys it knows."""
        transport.sign_with(_key(files[KEY], where))
        present = thumbprint(transport.account_key)
        transport.sign_with(_key(files[NEXT_KEY], where))
        if _find(directory, transport) is None:
            self._store.delete(where, NEXT_KEY)
            return files[KEY]
        remember_key(self._store, where, present)
        self._store.store(where, {KEY: files[NEXT_KEY]})
        self._store.delete(where, NEXT_KEY)
        return files[NEXT_KEY]

    def _use(self, authority: Authority, directory: Directory, transport: Transport) -> None:
        where = folder(self._store, authority.directory)
        if KEY in self._store.load(where):
            self._use_key(authority, directory, transport, where)
            return
        with self._alone(where):
            # Again, now that nobody else can put one there.
            made_before = KEY in self._store.load(where)
            if not made_before:
                self._store.store(where, {KEY: keys.to_pem(keys.generate(keys.DEFAULT))})
            self._use_key(authority, directory, transport, where, new=not made_before)

    def _use_key(
        self,
        authority: Authority,
        directory: Directory,
        transport: Transport,
        where: str,
        new: bool = False,
    ) -> None:
        """Use the key that is there; ``new``: the CA cannot know it yet."""
        files = self._store.load(where)
        document = known(files)
        contact = [f"mailto:{authority.email}"] if authority.email else []
        pem = files[KEY]
        if NEXT_KEY in files:
            pem = self._settle_next_key(where, files, directory, transport)
        transport.sign_with(_key(pem, where))
        url = None
        if isinstance(document.get("uri"), str):
            url = document["uri"]
            transport.sign_for(url)
            if document.get("contact") == contact or not _tell_contact(transport, url, contact):
                return
        elif not new:
            url = _find(directory, transport)
        if url is None:
            self._ledger.reserve_account(authority.directory)
            url = _register(directory, transport, authority, contact)
        transport.sign_for(url)
        keep_document(self._store, where, authority.directory, url, contact)

    @contextlib.contextmanager
    def _alone(self, where: str) -> Iterator[None]:
        lock = self._store.lock(where, LEASE)
        if lock is None:
            raise IssuanceError(
                "busy", "somebody else is making or bringing the account with this CA"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a lease ends by itself
                lock.release()


def thumbprint(key: JWK) -> str:
    """Return a key's thumbprint (RFC 7638), as in key authorizations (RFC 8555 §8.1)."""
    return b64encode(key.thumbprint(hash_function=hashes.SHA256)).decode()


def _is_closed(authority: Authority, transport: Transport) -> bool:
    """Whether the CA has deactivated or revoked the account of the transport's key (RFC 8555
    §7.1.6). Some CAs tell its state, others do not even let it ask (§7.3.6)."""
    directory = transport.directory(authority.directory)
    try:
        answer = transport.send(directory.new_account, _EXISTING)
    except IssuanceError as problem:
        return problem.typ == messages.UNAUTHORIZED and bool(_SAYS_CLOSED.search(problem.text))
    return messages.account_status(answer.content) in _CLOSED


def _find(directory: Directory, transport: Transport) -> str | None:
    """Return the URL of the account that the transport's key belongs to; None if the CA knows no
    such account."""
    try:
        answer = transport.send(directory.new_account, _EXISTING)
    except IssuanceError as problem:
        # Some ask for the external account before they look; the RFC knows the first alone.
        if problem.typ in (messages.NO_ACCOUNT, messages.ACCOUNT_FROM_ELSEWHERE):
            return None
        raise
    return _account_url(answer)


def _tell_contact(transport: Transport, url: str, contact: list[str]) -> bool:
    """Tell the CA a new contact; whether it took it. A refusal is no reason to go without a
    certificate: the contact is told again next time, and an account that is gone shows at the next
    request."""
    try:
        transport.send(url, library.UpdateRegistration(contact=tuple(contact)))
    except IssuanceError as problem:
        words = ", ".join(contact) or "none"
        log.warning("the CA does not take the contact %s: %s", words, problem.text)
        return False
    return True


def _register(
    directory: Directory, transport: Transport, authority: Authority, contact: list[str]
) -> str:
    """Make an account; return its URL."""
    binding = _binding(directory, transport, authority)
    transport.sign_for(None)
    wanted = library.NewRegistration(
        contact=tuple(contact), terms_of_service_agreed=True, external_account_binding=binding
    )
    try:
        answer = transport.send(directory.new_account, wanted)
    except IssuanceError as problem:
        there = None if transport.last is None else _location(transport.last)
        if problem.status == CONFLICT and there is not None:
            return there
        raise _without_contact(_unbound(problem, authority), contact) from None
    terms = directory.meta.get("termsOfService")
    log.info(
        "account made with %s%s",
        urlsplit(authority.directory).netloc,
        f"; its terms of service are accepted: {terms}" if isinstance(terms, str) else "",
    )
    return _account_url(answer)


def _account_url(answer: Response) -> str:
    url = _location(answer)
    if url is None:
        raise IssuanceError("nonsense", "the CA's answer makes no sense: the account has no URL")
    return url


def _location(answer: Response) -> str | None:
    return messages.location(answer.headers.get("Location"), answer.url)


def _binding(
    directory: Directory, transport: Transport, authority: Authority
) -> dict[str, Any] | None:
    """Return the external account binding (RFC 8555 §7.3.4); None where none is configured, and
    none is needed."""
    if authority.eab is None:
        if directory.meta.get("externalAccountRequired") is True:
            raise IssuanceError(
                "binding", "this CA needs an external account, and acme.eab has none"
            )
        return None
    try:
        key = mac_key(authority.eab.hmac_key)
    except IssuanceError as problem:
        raise IssuanceError("binding", f"the file acme.eab.hmac_key_file: {problem.text}") from None
    bound: dict[str, Any] = library.ExternalAccountBinding.from_data(
        transport.account_key.public_key(),
        authority.eab.kid,
        key,
        library.Directory({"newAccount": directory.new_account}),
    )
    return bound


def _without_contact(problem: IssuanceError, contact: list[str]) -> IssuanceError:
    """Say of a refused account that it has no contact, where the CA's words say so."""
    if contact or problem.kind != "refused" or not explain.is_about_contact(problem.said):
        return problem
    return IssuanceError(
        "settings",
        f"this CA wants an address to write to, and acme.email has none: {problem.text}",
        typ=problem.typ,
        said=problem.said,
        status=problem.status,
    )


# What CAs call a binding that they do not take; a contact or an algorithm they call otherwise.
_ABOUT_BINDING = ("unauthorized", "malformed", "externalAccountRequired")


def _unbound(problem: IssuanceError, authority: Authority) -> IssuanceError:
    """Say of a refused account that its binding was refused, where the CA's type says so."""
    typ = problem.said.typ if problem.said else ""
    if problem.kind != "refused" or typ not in _ABOUT_BINDING:
        return problem
    if authority.eab is not None:
        lead = f"the CA does not take the external account {authority.eab.kid} (acme.eab)"
    elif typ == "externalAccountRequired":
        lead = "this CA needs an external account, and acme.eab has none"
    else:
        return problem
    return IssuanceError("binding", f"{lead}: {problem.text}", typ=problem.typ, said=problem.said)


def _key(pem: bytes, where: str) -> keys.PrivateKey:
    """Read the account's key. A damaged key is never replaced without a person: an account is worth
    more than the minute that this takes."""
    try:
        return keys.from_pem(pem)
    except ValueError:
        raise IssuanceError(
            "disk", f"the account key {where}/{KEY} is damaged; restore it or move it away"
        ) from None

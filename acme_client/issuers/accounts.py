"""Keeps our account with each CA: one per directory, made once, found again, renewed when closed.

The key is on disk before the CA hears of it. So an account can always be found again by its key
(RFC 8555 §7.3.1), whatever was lost since: the answer on its way to us, or ``account.json``. The
same holds for a key that is to follow: if we do not live to hear the CA's answer, it is asked whose
key that is.
"""

from __future__ import annotations

import contextlib
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
from ..certificates import keys
from ..errors import Problem
from ..link import Authority
from ..rate_limits.ledger import Ledgers
from ..storage.store import Store
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
from .transport import CONFLICT, Network

log = logging.getLogger("treehouse.certifier")

# Asks for the account of a key, and makes none (RFC 8555 §7.3.1).
_EXISTING = library.Registration(only_return_existing=True)
# States of an account that never end (§7.1.6).
_CLOSED = ("deactivated", "revoked")
_SAYS_CLOSED = re.compile(r"(?i)deactivat|revoked|disabled|suspended|not valid|closed")


class Accounts:
    """May be used by several threads; accounts are made one at a time."""

    def __init__(self, store: Store, ledgers: Ledgers) -> None:
        self._store = store
        self._ledgers = ledgers
        self._lock = threading.Lock()

    def speak(self, authority: Authority, directory: Directory, network: Network) -> None:
        """Have the network speak for our account at this CA, made if there is none yet. Raises
        `Problem`."""
        with self._lock:
            try:
                self._speak(authority, directory, network)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def is_closed(self, authority: Authority, directory: Directory, network: Network) -> bool:
        """Whether the CA has deactivated or revoked our account (RFC 8555 §7.1.6), asked by the
        account's key alone. Some CAs tell its state, others do not even let it ask (§7.3.6)."""
        with self._lock:
            where = folder(self._store, authority.directory)
            files = self._store.load(where)
        if KEY not in files:
            return False
        network.speak_with(_key(files[KEY], where))
        try:
            answer = network.send(directory.new_account, _EXISTING)
        except Problem as problem:
            return problem.typ == messages.UNAUTHORIZED and bool(_SAYS_CLOSED.search(problem.text))
        return messages.account_status(answer.content) in _CLOSED

    def replace(self, authority: Authority) -> None:
        """The account is closed for good, and its key with it: whoever asks next makes another."""
        with self._lock:
            try:
                where = folder(self._store, authority.directory)
                files = self._store.load(where)
                if KEY in files:
                    self._store.store(where, {CLOSED_KEY: files[KEY]})
                for file in (ACCOUNT, KEY, NEXT_KEY):
                    if file in files:
                        self._store.delete(where, file)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def forget(self, authority: Authority) -> None:
        """The CA does not know the account any more; the key may serve for the next one."""
        with self._lock:
            try:
                self._store.delete(folder(self._store, authority.directory), ACCOUNT)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def roll_key(self, authority: Authority, directory: Directory, network: Network) -> None:
        """Give the account a new key (RFC 8555 §7.3.5). Raises `Problem`."""
        self.speak(authority, directory, network)
        with self._lock:
            try:
                self._roll_key(folder(self._store, authority.directory), directory, network)
            except OSError as error:
                raise Problem("disk", f"the new key cannot be kept: {error}") from None

    def _roll_key(self, where: str, directory: Directory, network: Network) -> None:
        url = directory.key_change
        if url is None:
            raise Problem("settings", "this CA lets no account change its key")
        if network.account_url is None:
            raise Problem("internal", "there is no account to give a key to")
        pem = keys.to_pem(keys.generate(keys.DEFAULT))
        self._store.store(where, {NEXT_KEY: pem})
        following = JWKEC(key=ComparableECKey(keys.from_pem(pem)))
        change = {
            "account": network.account_url,
            "oldKey": network.account_key.public_key().to_partial_json(),
        }
        payload = json.dumps(change).encode()
        network.send(url, jws.JWS.sign(payload, key=following, alg=ES256, nonce=None, url=url))
        remember_key(self._store, where, thumbprint(network.account_key))
        self._store.store(where, {KEY: pem})
        self._store.delete(where, NEXT_KEY)
        log.info("the account with %s has a new key", urlsplit(url).netloc)

    def thumbprints(self, authority: Authority, network: Network) -> tuple[str, ...]:
        """Of the key that the network signs with, then of the account's earlier ones."""
        with self._lock:
            try:
                where = folder(self._store, authority.directory)
                earlier = earlier_keys(self._store, where)
            except OSError as error:
                raise Problem("disk", f"the account cannot be read: {error}") from None
        return tuple(dict.fromkeys((thumbprint(network.account_key), *reversed(earlier))))

    def _settle_next_key(
        self, where: str, files: dict[str, bytes], directory: Directory, network: Network
    ) -> bytes:
        """The account's key, after a change of keys of which the end was not heard."""
        network.speak_with(_key(files[KEY], where))
        present = thumbprint(network.account_key)
        network.speak_with(_key(files[NEXT_KEY], where))
        if _find(directory, network) is None:
            self._store.delete(where, NEXT_KEY)
            return files[KEY]
        remember_key(self._store, where, present)
        self._store.store(where, {KEY: files[NEXT_KEY]})
        self._store.delete(where, NEXT_KEY)
        return files[NEXT_KEY]

    def _speak(self, authority: Authority, directory: Directory, network: Network) -> None:
        where = folder(self._store, authority.directory)
        if KEY in self._store.load(where):
            self._speak_by_key(authority, directory, network, where)
            return
        with self._alone(where):
            # Again, now that nobody else can put one there.
            made_before = KEY in self._store.load(where)
            if not made_before:
                self._store.store(where, {KEY: keys.to_pem(keys.generate(keys.DEFAULT))})
            self._speak_by_key(authority, directory, network, where, new=not made_before)

    def _speak_by_key(
        self,
        authority: Authority,
        directory: Directory,
        network: Network,
        where: str,
        new: bool = False,
    ) -> None:
        """By the key that is there; ``new``: the CA cannot have heard of it."""
        files = self._store.load(where)
        document = known(files)
        contact = [f"mailto:{authority.email}"] if authority.email else []
        pem = files[KEY]
        if NEXT_KEY in files:
            pem = self._settle_next_key(where, files, directory, network)
        network.speak_with(_key(pem, where))
        url = None
        if isinstance(document.get("uri"), str):
            url = document["uri"]
            network.speak_for(url)
            if document.get("contact") == contact or not _tell_contact(network, url, contact):
                return
        elif not new:
            url = _find(directory, network)
        if url is None:
            self._ledgers.admit_account(authority.directory)
            url = _register(directory, network, authority, contact)
        network.speak_for(url)
        keep_document(self._store, where, authority.directory, url, contact)

    @contextlib.contextmanager
    def _alone(self, where: str) -> Iterator[None]:
        lock = self._store.lock(where, LEASE)
        if lock is None:
            raise Problem("busy", "somebody else is making or bringing the account with this CA")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # a lease ends by itself
                lock.release()


def thumbprint(key: JWK) -> str:
    """RFC 7638, as in key authorizations (RFC 8555 §8.1)."""
    return b64encode(key.thumbprint(hash_function=hashes.SHA256)).decode()


def _find(directory: Directory, network: Network) -> str | None:
    """The URL of the account that the network's key belongs to, if the CA knows one."""
    try:
        answer = network.send(directory.new_account, _EXISTING)
    except Problem as problem:
        # Some ask for the external account before they look; the RFC knows the first alone.
        if problem.typ in (messages.NO_ACCOUNT, messages.ACCOUNT_FROM_ELSEWHERE):
            return None
        raise
    return _account_url(answer)


def _tell_contact(network: Network, url: str, contact: list[str]) -> bool:
    """The CA's address book is no reason to go without a certificate: it is told again next time.
    An account that is gone is found out by what is asked for next."""
    try:
        network.send(url, library.UpdateRegistration(contact=tuple(contact)))
    except Problem as problem:
        words = ", ".join(contact) or "none"
        log.warning("the CA does not take the contact %s: %s", words, problem.text)
        return False
    return True


def _register(
    directory: Directory, network: Network, authority: Authority, contact: list[str]
) -> str:
    """Make an account; its URL."""
    binding = _binding(directory, network, authority)
    network.speak_for(None)
    wanted = library.NewRegistration(
        contact=tuple(contact), terms_of_service_agreed=True, external_account_binding=binding
    )
    try:
        answer = network.send(directory.new_account, wanted)
    except Problem as problem:
        there = None if network.last is None else _location(network.last)
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
        raise Problem("nonsense", "the CA's answer makes no sense: the account has no URL")
    return url


def _location(answer: Response) -> str | None:
    return messages.location(answer.headers.get("Location"), answer.url)


def _binding(directory: Directory, network: Network, authority: Authority) -> dict[str, Any] | None:
    """What says to the CA which of its customers this account is for (RFC 8555 §7.3.4)."""
    if authority.eab is None:
        if directory.meta.get("externalAccountRequired") is True:
            raise Problem("binding", "this CA needs an external account, and acme.eab has none")
        return None
    try:
        key = mac_key(authority.eab.hmac_key)
    except Problem as problem:
        raise Problem("binding", f"the file acme.eab.hmac_key_file: {problem.text}") from None
    bound: dict[str, Any] = library.ExternalAccountBinding.from_data(
        network.account_key.public_key(),
        authority.eab.kid,
        key,
        library.Directory({"newAccount": directory.new_account}),
    )
    return bound


def _without_contact(problem: Problem, contact: list[str]) -> Problem:
    """A refused account of ours without a contact, where that is what the CA misses."""
    if contact or problem.kind != "refused" or not explain.is_about_contact(problem.said):
        return problem
    return Problem(
        "settings",
        f"this CA wants an address to write to, and acme.email has none: {problem.text}",
        typ=problem.typ,
        said=problem.said,
        status=problem.status,
    )


# What CAs call a binding that they do not take; a contact or an algorithm they call otherwise.
_ABOUT_BINDING = ("unauthorized", "malformed", "externalAccountRequired")


def _unbound(problem: Problem, authority: Authority) -> Problem:
    """A refused account, where it may be the binding that was refused."""
    typ = problem.said.typ if problem.said else ""
    if problem.kind != "refused" or typ not in _ABOUT_BINDING:
        return problem
    if authority.eab is not None:
        lead = f"the CA does not take the external account {authority.eab.kid} (acme.eab)"
    elif typ == "externalAccountRequired":
        lead = "this CA needs an external account, and acme.eab has none"
    else:
        return problem
    return Problem("binding", f"{lead}: {problem.text}", typ=problem.typ, said=problem.said)


def _key(pem: bytes, where: str) -> keys.PrivateKey:
    """Never replaced by itself: an account is worth more than the minute that a person needs."""
    try:
        return keys.from_pem(pem)
    except ValueError:
        raise Problem(
            "disk", f"the account key {where}/{KEY} is damaged; restore it or move it away"
        ) from None

"""Being the customer of a CA: one account per directory, made once and kept.

The key is on disk before the CA hears of it. So an account can always be found again by its key
(RFC 8555 §7.3.1), whatever was lost since: the answer on its way to us, or ``account.json``. The
same holds for a key that is to follow: if we do not live to hear the CA's answer, it is asked whose
key that is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from acme import client, jws, messages
from acme import errors as acme_errors
from cryptography.hazmat.primitives import hashes
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey
from requests import RequestException

from ..certificates import keys
from ..errors import Problem
from ..link import Authority
from ..rate_limits.ledger import Ledgers
from ..storage.store import Store
from . import messages as answers
from .account_files import (
    ACCOUNT,
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
from .transport import Network

log = logging.getLogger("treehouse.certifier")


class Accounts:
    """May be used by several threads; accounts are made one at a time."""

    def __init__(self, store: Store, ledgers: Ledgers) -> None:
        self._store = store
        self._ledgers = ledgers
        self._lock = threading.Lock()

    def customer(
        self, authority: Authority, directory: messages.Directory, network: Network
    ) -> client.ClientV2:
        """A client that speaks for our account at this CA, made if there is none yet."""
        with self._lock, network.translating():
            try:
                return self._customer(authority, directory, network)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def forget(self, authority: Authority) -> None:
        """The CA does not know the account any more; the key may serve for the next one."""
        with self._lock:
            try:
                self._store.delete(folder(self._store, authority.directory), ACCOUNT)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def roll_key(
        self, authority: Authority, directory: messages.Directory, network: Network
    ) -> None:
        """Give the account a new key (RFC 8555 §7.3.5)."""
        customer = self.customer(authority, directory, network)
        with self._lock, network.translating():
            try:
                self._roll_key(folder(self._store, authority.directory), customer, network)
            except OSError as error:
                raise Problem("disk", f"the new key cannot be kept: {error}") from None

    def _roll_key(self, where: str, customer: client.ClientV2, network: Network) -> None:
        pem = keys.to_pem(keys.generate(keys.DEFAULT))
        self._store.store(where, {NEXT_KEY: pem})
        following = JWKEC(key=ComparableECKey(keys.from_pem(pem)))
        url = customer.directory["keyChange"]
        if network.account is None:
            raise Problem("internal", "there is no account to give a key to")
        change = {
            "account": network.account.uri,
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
        self, where: str, files: dict[str, bytes], customer: client.ClientV2, network: Network
    ) -> bytes:
        """The account's key, after a change of keys of which the end was not heard."""
        network.speak_with(_key(files[KEY], where))
        present = thumbprint(network.account_key)
        network.speak_with(_key(files[NEXT_KEY], where))
        if _find(customer) is None:
            self._store.delete(where, NEXT_KEY)
            return files[KEY]
        remember_key(self._store, where, present)
        self._store.store(where, {KEY: files[NEXT_KEY]})
        self._store.delete(where, NEXT_KEY)
        return files[NEXT_KEY]

    def _customer(
        self, authority: Authority, directory: messages.Directory, network: Network
    ) -> client.ClientV2:
        where = folder(self._store, authority.directory)
        if KEY in self._store.load(where):
            return self._known(authority, directory, network, where)
        with self._alone(where):
            # Again, now that nobody else can put one there.
            made_before = KEY in self._store.load(where)
            if not made_before:
                self._store.store(where, {KEY: keys.to_pem(keys.generate(keys.DEFAULT))})
            return self._known(authority, directory, network, where, new=not made_before)

    def _known(
        self,
        authority: Authority,
        directory: messages.Directory,
        network: Network,
        where: str,
        new: bool = False,
    ) -> client.ClientV2:
        """By the key that is there; ``new``: the CA cannot have heard of it."""
        files = self._store.load(where)
        document = known(files)
        contact = [f"mailto:{authority.email}"] if authority.email else []
        customer = client.ClientV2(directory, network)
        pem = files[KEY]
        if NEXT_KEY in files:
            pem = self._settle_next_key(where, files, customer, network)
        network.speak_with(_key(pem, where))
        account = None
        if isinstance(document.get("uri"), str):
            account = messages.RegistrationResource(
                body=messages.Registration(), uri=document["uri"]
            )
            network.account = account
            if document.get("contact") == contact:
                return customer
            if not _tell_contact(customer, account, contact):
                return customer
        elif not new:
            account = _find(customer)
        if account is None:
            self._ledgers.admit_account(authority.directory)
            account = _register(customer, network, authority, contact)
        network.account = account
        keep_document(self._store, where, authority.directory, account.uri, contact)
        return customer

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


def _find(customer: client.ClientV2) -> messages.RegistrationResource | None:
    """The account that this key belongs to, if the CA knows one."""
    empty = messages.RegistrationResource(body=messages.Registration(), uri="")
    try:
        return customer.query_registration(empty)
    except messages.Error as error:
        # Some ask for the external account before they look; the RFC knows the first alone.
        if error.typ in (answers.NO_ACCOUNT, answers.ACCOUNT_FROM_ELSEWHERE):
            return None
        raise


def _tell_contact(
    customer: client.ClientV2, account: messages.RegistrationResource, contact: list[str]
) -> bool:
    """The CA's address book is no reason to go without a certificate: it is told again next time.
    An account that is gone is found out by what is asked for next."""
    try:
        customer.update_registration(account, messages.Registration(contact=tuple(contact)))
    except (messages.Error, acme_errors.Error, JoseError, RequestException, Problem) as error:
        log.warning("the CA does not take the contact %s: %s", ", ".join(contact) or "none", error)
        return False
    return True


def _register(
    customer: client.ClientV2, network: Network, authority: Authority, contact: list[str]
) -> messages.RegistrationResource:
    meta = customer.directory["meta"]
    binding = _binding(customer, network, authority)
    network.account = None
    wanted = messages.NewRegistration(
        contact=tuple(contact), terms_of_service_agreed=True, external_account_binding=binding
    )
    try:
        with network.translating():
            try:
                account = customer.new_account(wanted)
            except acme_errors.ConflictError as known:
                body = messages.Registration()
                return messages.RegistrationResource(body=body, uri=known.location)
    except Problem as problem:
        raise _unbound(problem, authority) from None
    log.info(
        "account made with %s%s",
        urlsplit(authority.directory).netloc,
        f"; its terms of service are accepted: {meta.terms_of_service}"
        if meta.terms_of_service
        else "",
    )
    return account


def _binding(
    customer: client.ClientV2, network: Network, authority: Authority
) -> dict[str, Any] | None:
    """What says to the CA which of its customers this account is for (RFC 8555 §7.3.4)."""
    if authority.eab is None:
        if customer.directory["meta"].external_account_required:
            raise Problem("binding", "this CA needs an external account, and acme.eab has none")
        return None
    try:
        key = mac_key(authority.eab.hmac_key)
    except Problem as problem:
        raise Problem("binding", f"the file acme.eab.hmac_key_file: {problem.text}") from None
    bound: dict[str, Any] = messages.ExternalAccountBinding.from_data(
        network.account_key.public_key(), authority.eab.kid, key, customer.directory
    )
    return bound


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

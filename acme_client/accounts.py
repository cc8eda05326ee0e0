"""Being the customer of a CA: one account per directory, made once and kept.

The key is on disk before the CA hears of it. So an account can always be found again by its key
(RFC 8555 §7.3.1), whatever was lost since: the answer on its way to us, or ``account.json``. The
same holds for a key that is to follow: if we do not live to hear the CA's answer, it is asked whose
key that is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from urllib.parse import urlsplit

from acme import client, jws, messages
from acme import errors as acme_errors
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

from . import answers, documents, keys
from .errors import Problem
from .ledgers import Ledgers
from .link import Authority
from .network import Network
from .shelf import folder_name
from .store import Store

log = logging.getLogger("treehouse.certifier")

_FOLDER = "accounts"
ACCOUNT, KEY = "account.json", "key.pem"
# Between its making and the CA's word that it is the account's key now.
NEXT_KEY = "key-next.pem"
VERSION = 1


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
                self._store.delete(self._folder(authority.directory), ACCOUNT)
            except OSError as error:
                raise Problem("disk", f"the account cannot be kept: {error}") from None

    def roll_key(
        self, authority: Authority, directory: messages.Directory, network: Network
    ) -> None:
        """Give the account a new key (RFC 8555 §7.3.5)."""
        customer = self.customer(authority, directory, network)
        with self._lock, network.translating():
            try:
                self._roll_key(self._folder(authority.directory), customer, network)
            except OSError as error:
                raise Problem("disk", f"the new key cannot be kept: {error}") from None

    def _roll_key(self, folder: str, customer: client.ClientV2, network: Network) -> None:
        pem = keys.to_pem(keys.generate(keys.DEFAULT))
        self._store.store(folder, {NEXT_KEY: pem})
        following = _key(pem, folder)
        url = customer.directory["keyChange"]
        if network.account is None:
            raise Problem("internal", "there is no account to give a key to")
        change = {
            "account": network.account.uri,
            "oldKey": network.account_key.public_key().to_partial_json(),
        }
        payload = json.dumps(change).encode()
        network.send(url, jws.JWS.sign(payload, key=following, alg=ES256, nonce=None, url=url))
        self._store.store(folder, {KEY: pem})
        self._store.delete(folder, NEXT_KEY)
        log.info("the account with %s has a new key", urlsplit(url).netloc)

    def _settle_next_key(
        self, folder: str, files: dict[str, bytes], customer: client.ClientV2, network: Network
    ) -> bytes:
        """The account's key, after a change of keys of which the end was not heard."""
        network.key, network.account = _key(files[NEXT_KEY], folder), None
        if _find(customer) is None:
            self._store.delete(folder, NEXT_KEY)
            return files[KEY]
        self._store.store(folder, {KEY: files[NEXT_KEY]})
        self._store.delete(folder, NEXT_KEY)
        return files[NEXT_KEY]

    def _customer(
        self, authority: Authority, directory: messages.Directory, network: Network
    ) -> client.ClientV2:
        folder = self._folder(authority.directory)
        files = self._store.load(folder)
        known = documents.read(files.get(ACCOUNT, b""), VERSION)
        contact = [f"mailto:{authority.email}"] if authority.email else []
        made_before = KEY in files
        if not made_before:
            self._store.store(folder, {KEY: keys.to_pem(keys.generate(keys.DEFAULT))})
            files = self._store.load(folder)
        customer = client.ClientV2(directory, network)
        pem = files[KEY]
        if NEXT_KEY in files:
            pem = self._settle_next_key(folder, files, customer, network)
        network.key = _key(pem, folder)
        network.account = None
        account = None
        if isinstance(known.get("uri"), str):
            account = messages.RegistrationResource(body=messages.Registration(), uri=known["uri"])
            network.account = account
            if known.get("contact") == contact:
                return customer
            customer.update_registration(account, messages.Registration(contact=tuple(contact)))
        elif made_before:
            account = _find(customer)
        if account is None:
            self._ledgers.admit_account(authority.directory)
            account = _register(customer, network, authority, contact)
        network.account = account
        document = {
            "directory": authority.directory,
            "uri": account.uri,
            "contact": contact,
        }
        aside = documents.set_aside(ACCOUNT, files.get(ACCOUNT, b""), VERSION)
        if aside is not None:
            self._store.store(folder, {aside: files[ACCOUNT]})
        self._store.store(folder, {ACCOUNT: documents.write(document, VERSION)})
        return customer

    def _folder(self, directory: str) -> str:
        """Named after the host. Where one host has several directories, the first that came has
        the plain name, and the others are told apart by a mark."""
        host = urlsplit(directory).hostname or "unknown"
        folder = f"{_FOLDER}/{folder_name(host)}"
        kept = self._store.load(folder).get(ACCOUNT, b"")
        owner = documents.read(kept, VERSION).get("directory")
        if owner in (None, directory):
            return folder
        mark = hashlib.sha256(directory.encode()).hexdigest()[:8]
        return f"{folder}_{mark}"


def _find(customer: client.ClientV2) -> messages.RegistrationResource | None:
    """The account that this key belongs to, if the CA knows one."""
    empty = messages.RegistrationResource(body=messages.Registration(), uri="")
    try:
        return customer.query_registration(empty)
    except messages.Error as error:
        if error.typ == answers.NO_ACCOUNT:
            return None
        raise


def _register(
    customer: client.ClientV2, network: Network, authority: Authority, contact: list[str]
) -> messages.RegistrationResource:
    meta = customer.directory["meta"]
    binding = None
    if authority.eab is not None:
        try:
            binding = messages.ExternalAccountBinding.from_data(
                network.account_key.public_key(),
                authority.eab.kid,
                authority.eab.hmac_key,
                customer.directory,
            )
        except (ValueError, JoseError):
            raise Problem("settings", "the external account's HMAC key is not base64url") from None
    elif meta.external_account_required:
        raise Problem("settings", "this CA needs an external account binding (acme.eab)")
    network.account = None
    try:
        account = customer.new_account(
            messages.NewRegistration(
                contact=tuple(contact),
                terms_of_service_agreed=True,
                external_account_binding=binding,
            )
        )
    except acme_errors.ConflictError as known:
        return messages.RegistrationResource(body=messages.Registration(), uri=known.location)
    log.info(
        "account made with %s%s",
        urlsplit(authority.directory).netloc,
        f"; its terms of service are accepted: {meta.terms_of_service}"
        if meta.terms_of_service
        else "",
    )
    return account


def _key(pem: bytes, folder: str) -> JWKEC:
    """Never replaced by itself: an account is worth more than the minute that a person needs."""
    try:
        return JWKEC(key=ComparableECKey(keys.from_pem(pem)))
    except (ValueError, TypeError, AttributeError):
        raise Problem(
            "disk", f"the account key {folder}/{KEY} is damaged; restore it or move it away"
        ) from None

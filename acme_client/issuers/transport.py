"""Requests to a CA: signed by the `acme` library, understood here.

- badNonce is tried again until it works. The library does so once, and a CA with several front ends
  may refuse a good part of all nonces (RFC 8555 §6.5 expects the client to try again).
- A CA that sends no nonce with an answer is asked for one; the answer counts all the same.
- A refusal is read by `problem_documents`, whatever it looks like. The library's classes fail on
  shapes that the RFC does not know, and lose what decides: the type, Retry-After.
- URLs that a CA gives are resolved against the URL of the request (RFC 9110 §10.2.2).
- Trust is one `ssl.SSLContext`, made from the CA's own bundle or the system's; the file that
  requests would read by default may be unreadable by the time it is needed.
- Every failure leaves as an `IssuanceError`.

One `Transport` belongs to one thread.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from acme import client, messages
from acme import errors as acme_errors
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.b64 import b64decode
from josepy.errors import Error as JoseError
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWK, JWKEC, JWKRSA
from josepy.util import ComparableECKey, ComparableRSAKey
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

from ..certificates.retry import retry_after, retry_after_in
from ..errors import IssuanceError, plainly
from ..x509 import keys
from ..x509.pem import PemError
from ..x509.trust_bundle import authorities
from . import messages as acme_messages
from . import problem_documents
from .chains import ALTERNATES_MOST
from .messages import Directory

log = logging.getLogger("treehouse.certifier")

# At half of all nonces refused, one request in a million fails after this many.
NONCE_TRIES = 20
# To connect, and between two pieces of an answer. CAs under load take half a minute for an order.
TIMEOUT = (15.0, 60.0)
# For what a CA has at hand, its directory and nonces: whoever is silent for so long is down.
TIMEOUT_AT_HAND = (10.0, 20.0)
CONFLICT, TOO_MANY_REQUESTS, INTERNAL_ERROR = 409, 429, 500
_OTHER_METHOD = (404, 405, 501)


def trust(ca_pem: bytes | None) -> ssl.SSLContext:
    """Return a context that believes a CA's own TLS certificate by this bundle, or else by the
    system's roots. Raises `IssuanceError` ("settings") for a bundle without a certificate."""
    if ca_pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=authorities(ca_pem, "servers"))
        except (PemError, ssl.SSLError) as error:
            raise IssuanceError(
                "settings",
                "the file of the CA's own TLS (acme.ca_file) holds no certificate, or cannot be "
                f"read: {error}",
            ) from None
        return context
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not any(path and Path(path).exists() for path in (paths.cafile, paths.capath)):
        import certifi  # only where the system has no roots

        with contextlib.suppress(OSError):  # then every connection fails, and says why
            context.load_verify_locations(certifi.where())
    return context


class _Adapter(HTTPAdapter):
    """Makes connections that trust what the context trusts, and nothing that requests would add."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool: Any
    ) -> None:
        super().init_poolmanager(
            connections, maxsize, block, **{**pool, "ssl_context": self._context}
        )

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


class Transport(client.ClientNetwork):
    """Sends requests to one CA. ``now`` gives Unix seconds. ``last`` is the last answer;
    ``new_nonce`` where nonces come from."""

    def __init__(self, user_agent: str, context: ssl.SSLContext, now: Callable[[], float]) -> None:
        super().__init__(user_agent=user_agent, alg=ES256)
        self.session.mount("https://", _Adapter(context))
        self.session.auth = _no_netrc
        self.new_nonce: str | None = None
        self.last: requests.Response | None = None
        self._nonce: bytes | None = None  # the newest one; older ones may have lapsed
        self._now = now

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def account_key(self) -> JWK:
        key: JWK | None = self.key
        if key is None:
            raise ValueError("no account has been chosen")
        return key

    @property
    def account_url(self) -> str | None:
        """The account that requests are signed for; None: by the key alone."""
        return None if self.account is None else str(self.account.uri)

    def sign_with(self, key: keys.PrivateKey, account_url: str | None = None) -> None:
        """Sign with this key from now on, for this account or for none."""
        if isinstance(key, rsa.RSAPrivateKey):
            self.key, self.alg = JWKRSA(key=ComparableRSAKey(key)), RS256
        else:
            self.key = JWKEC(key=ComparableECKey(key))
            self.alg = ES384 if key.key_size == 384 else ES256
        self.sign_for(account_url)

    def sign_for(self, account_url: str | None) -> None:
        self.account = None
        if account_url is not None:
            self.account = messages.RegistrationResource(
                body=messages.Registration(), uri=account_url
            )

    def directory(self, url: str) -> Directory:
        """Fetch the CA's directory; from now on nonces come from where it says."""
        answer = self.read(url)
        found = acme_messages.directory(answer.content, answer.url)
        self.new_nonce = found.new_nonce
        return found

    def read(self, url: str) -> requests.Response:
        """Send GET, for the few resources that are public. Raises `IssuanceError`."""
        with self._translating():
            return self._checked(self._send_request("GET", url))

    def fetch(self, url: str) -> requests.Response:
        """Send POST-as-GET (RFC 8555 §6.3). Raises `IssuanceError`."""
        return self.send(url, None)

    def send(self, url: str, content: JSONDeSerializable | None) -> requests.Response:
        """Send ``content`` by POST, signed. Raises `IssuanceError`."""
        with self._translating():
            for _ in range(NONCE_TRIES):
                try:
                    return self._checked(self._sent(url, content))
                except IssuanceError as problem:
                    if problem.typ != acme_messages.BAD_NONCE:
                        raise
                    log.debug("the CA has refused a nonce; trying again with the one it sent")
        raise IssuanceError("unavailable", f"the CA has refused {NONCE_TRIES} nonces in a row")

    def retry_after(self) -> float | None:
        """Return when the last answer wants to be asked again (Unix seconds); None where it does
        not say."""
        if self.last is None:
            return None
        return retry_after(self.last.headers.get("Retry-After"), self._now())

    def date(self) -> str | None:
        """Return the Date field of the last answer; None where it has none."""
        return None if self.last is None else self.last.headers.get("Date")

    def refused_what_it_replaces(self, problem: IssuanceError) -> bool:
        """Whether this answer of the CA may be about ``replaces`` (RFC 9773 §5), and an order
        without it may fare better.

        So it is where the CA fails by a fault of its own and names no time for another attempt. As
        the next attempt would name the same certificate, it would meet the same fault: pebble 2.6
        finds no certificate whose serial number begins with a zero byte."""
        if problem.typ == acme_messages.SERVER_INTERNAL:
            return problem.status == INTERNAL_ERROR and problem.not_before is None
        conflict = problem.status == CONFLICT
        return problem.kind == "refused" and (conflict or problem.typ in acme_messages.NOT_REPLACED)

    # One request

    def _sent(self, url: str, content: JSONDeSerializable | None) -> requests.Response:
        nonce, self._nonce = self._nonce or self._new_nonce(), None
        # The library wants text and takes bytes: the nonce as it is inside its base64url.
        data = self._wrap_in_jws(content, nonce, url)  # type: ignore[arg-type]
        headers = {"Content-Type": self.JOSE_CONTENT_TYPE}
        # A signed request is for one URL (RFC 8555 §6.4), so a redirection leads nowhere.
        answer = self._send_request("POST", url, data=data, headers=headers, allow_redirects=False)
        self._nonce = _nonce_of(answer)
        return answer

    def _new_nonce(self) -> bytes:
        """Fetch a nonce. RFC 8555 §7.2 has both methods; some CAs know one of them."""
        if self.new_nonce is None:
            raise ValueError("the directory has not been fetched")
        for method in ("HEAD", "GET"):
            answer = self._send_request(method, self.new_nonce)
            if answer.status_code in _OTHER_METHOD:
                continue
            nonce = _nonce_of(self._checked(answer))
            if nonce is not None:
                return nonce
        raise IssuanceError("nonsense", "the CA gives no nonce")

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.last = None
        kwargs.setdefault("timeout", TIMEOUT_AT_HAND if method in ("GET", "HEAD") else TIMEOUT)
        self.last = super()._send_request(method, url, *args, **kwargs)
        return self.last

    def _checked(self, answer: requests.Response) -> requests.Response:
        """Return the answer; raises `IssuanceError` for a refusal, also with a status of
        success."""
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if 200 <= answer.status_code < 300 and media_type != self.JSON_ERROR_CONTENT_TYPE:
            return answer
        raise self._refusal(answer)

    # Failures

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (InvalidURL, InvalidSchema, MissingSchema) as error:
            raise IssuanceError("nonsense", f"the CA gives a URL that is none: {error}") from None
        except requests.RequestException as error:
            cause = _cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _OF_TIME:
                raise IssuanceError("clock", _untimely(cause, self._now())) from None
            raise IssuanceError(
                "unreachable", f"the CA cannot be reached: {_words(cause)}"
            ) from None
        except (acme_errors.Error, JoseError, ValueError, KeyError) as error:
            raise IssuanceError("nonsense", f"the CA's answer makes no sense: {error}") from None

    def _refusal(self, answer: requests.Response) -> IssuanceError:
        """Make an error of a refusal. The type and the HTTP status decide its kind."""
        problem = problem_documents.read(answer.content)
        typ = problem_documents.type_of(problem)
        document = problem_documents.said(problem) if problem else None
        status = answer.status_code
        kind = "refused"
        if typ == acme_messages.RATE_LIMITED or status == TOO_MANY_REQUESTS:
            kind = "rate_limited"
        elif status >= 500:
            kind = "unavailable"
        elif status < 400 and typ is None:
            kind = "nonsense"
        words = f"HTTP status {status}"
        if document is not None and (document.detail or document.typ or document.parts):
            words = problem_documents.in_words(document)
        elif "Location" in answer.headers and 300 <= status < 400:
            words += f", and sends elsewhere: {answer.headers['Location'][:200]}"
        return IssuanceError(
            kind,
            f"the CA says: {words}",
            not_before=self.retry_after() or retry_after_in(words),
            typ=typ,
            said=document,
            status=status,
        )


def _nonce_of(answer: requests.Response) -> bytes | None:
    """Return the nonce of an answer; None where there is none, or one that clients must ignore (RFC
    8555 §6.5.1)."""
    try:
        return b64decode(answer.headers["Replay-Nonce"].strip())
    except (KeyError, ValueError):
        return None


def alternates(answer: requests.Response) -> list[str]:
    """Return the URLs of other chains for the certificate in this answer (RFC 8555 §7.4.2, RFC
    8288)."""
    links = requests.utils.parse_header_links(answer.headers.get("Link", ""))
    found = [
        acme_messages.location(one["url"], answer.url)
        for one in links
        if "alternate" in one.get("rel", "").lower().split()
    ]
    return [url for url in found if url is not None][:ALTERNATES_MOST]


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials: with an ``auth`` of ours, requests does not look for ~/.netrc."""
    return request


def _cause(error: Exception) -> BaseException:
    """Return the exception that requests has wrapped."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or cause.__cause__ or cause.__context__
        if not isinstance(inner, BaseException):
            break
        cause = inner
    return cause


# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (x509_vfy.h): a machine that has
# just been switched on, before it has heard of the time, finds every CA's certificate one of these.
_OF_TIME = {9: "not valid yet", 10: "expired"}


def _untimely(cause: ssl.SSLCertVerificationError, now: float) -> str:
    shown = datetime.fromtimestamp(now, UTC)
    return (
        f"the CA's own TLS certificate is {_OF_TIME[cause.verify_code]} by this machine's clock, "
        f"which shows {shown:%Y-%m-%d %H:%M} UTC"
    )


def _words(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return plainly(cause)

"""Requests to a CA: what the `acme` library's network class leaves to be wished for.

- badNonce is retried until it works. The library retries once, and a CA with several front ends
  may refuse a good part of all nonces (RFC 8555 §6.5 expects the client to try again).
- The last response is kept, because the library's exceptions carry neither its header fields
  (Retry-After) nor the whole of a problem document.
- Trust is one `ssl.SSLContext`, made from the CA's own bundle or the system's; the file that
  requests would read by default may be unreadable by the time it is needed.
- Every failure leaves as a `Problem`.

One `Network` belongs to one thread.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from acme import client, messages
from acme import errors as acme_errors
from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.errors import Error as JoseError
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWK, JWKEC, JWKRSA
from josepy.util import ComparableECKey, ComparableRSAKey
from requests.adapters import HTTPAdapter

from ..certificates import keys
from ..certificates.pem import PemError
from ..certificates.retry import retry_after, retry_after_in
from ..certificates.trust_bundle import authorities
from ..errors import Problem
from . import messages as answers
from .chains import ALTERNATES_MOST

log = logging.getLogger("treehouse.certifier")

# At half of all nonces refused, one request in a million fails after this many.
NONCE_TRIES = 20
# To connect, and between two pieces of an answer. CAs under load take half a minute for an order.
TIMEOUT = (15.0, 60.0)


def trust(ca_pem: bytes | None) -> ssl.SSLContext:
    """What a CA's own TLS certificate must lead to: this bundle, or else the system's roots."""
    if ca_pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=authorities(ca_pem, "servers"))
        except (PemError, ssl.SSLError) as error:
            raise Problem(
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
    """Connections that trust what the context trusts, and nothing that requests would add."""

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


class Network(client.ClientNetwork):
    """``now`` gives Unix seconds."""

    def __init__(self, user_agent: str, context: ssl.SSLContext, now: Callable[[], float]) -> None:
        super().__init__(user_agent=user_agent, alg=ES256)
        self.session.mount("https://", _Adapter(context))
        self.session.auth = _no_netrc
        self.new_nonce: str | None = None
        self.last: requests.Response | None = None
        self.meta: dict[str, Any] = {}  # of the directory, with what the library does not know
        self._now = now

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    @property
    def account_key(self) -> JWK:
        key: JWK | None = self.key
        if key is None:
            raise ValueError("no account has been chosen")
        return key

    def speak_with(self, key: keys.PrivateKey) -> None:
        """From now on, sign with this key and for no account."""
        self.account = None
        if isinstance(key, rsa.RSAPrivateKey):
            self.key, self.alg = JWKRSA(key=ComparableRSAKey(key)), RS256
        else:
            self.key = JWKEC(key=ComparableECKey(key))
            self.alg = ES384 if key.key_size == 384 else ES256

    def read(self, url: str) -> requests.Response:
        """GET, for the few resources that are public."""
        with self._translating():
            return self.get(url)

    def fetch(self, url: str) -> requests.Response:
        """POST-as-GET (RFC 8555 §6.3)."""
        return self.send(url, None)

    def send(self, url: str, content: JSONDeSerializable | None) -> requests.Response:
        """POST ``content``, signed."""
        with self._translating():
            return self.post(url, content, new_nonce_url=self.new_nonce)

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        """For calls of the library that come here by themselves."""
        with self._translating():
            yield

    def retry_after(self) -> float | None:
        """When the last answer wants to be asked again."""
        if self.last is None:
            return None
        return retry_after(self.last.headers.get("Retry-After"), self._now())

    def date(self) -> str | None:
        """What the CA's clock showed with its last answer."""
        return None if self.last is None else self.last.headers.get("Date")

    def refused_what_it_replaces(self, problem: Problem) -> bool:
        """Whether the CA's last answer, this problem, may be about ``replaces`` (RFC 9773 §5), and
        an order without it may fare better."""
        conflict = self.last is not None and self.last.status_code == 409
        return problem.kind == "refused" and (conflict or problem.typ in answers.NOT_REPLACED)

    # What the library calls

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as error:
                if error.typ != messages.ERROR_PREFIX + "badNonce":
                    raise
                log.debug("the CA has refused a nonce; trying again with the one it sent")
                self._take_nonce()
        raise Problem("unavailable", f"the CA has refused {NONCE_TRIES} nonces in a row")

    def _take_nonce(self) -> None:
        """A refusal brings a fresh nonce; without one, the next try asks for it."""
        if self.last is not None and self.REPLAY_NONCE_HEADER in self.last.headers:
            self._add_nonce(self.last)

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.last = None
        kwargs.setdefault("timeout", TIMEOUT)
        self.last = super()._send_request(method, url, *args, **kwargs)
        return self.last

    # Failures

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            cause = _cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _OF_TIME:
                raise Problem("clock", _untimely(cause, self._now())) from None
            raise Problem("unreachable", f"the CA cannot be reached: {_words(cause)}") from None
        except (messages.Error, acme_errors.Error, JoseError) as error:
            raise self._refusal(error) from None
        except (ValueError, KeyError) as error:
            raise Problem("nonsense", f"the CA's answer makes no sense: {error}") from None

    def _refusal(self, error: Exception) -> Problem:
        response = self.last
        if response is None or response.ok:
            return Problem("nonsense", f"the CA's answer makes no sense: {error!r}")
        try:
            problem = answers.document(response.content)
        except Problem:
            problem = {}
        typ = problem.get("type")
        kind = "refused"
        if typ == answers.RATE_LIMITED or response.status_code == 429:
            kind = "rate_limited"
        elif response.status_code >= 500:
            kind = "unavailable"
        said = answers.words(problem) if problem else f"HTTP status {response.status_code}"
        return Problem(
            kind,
            f"the CA says: {said}",
            not_before=self.retry_after() or retry_after_in(said),
            typ=typ if isinstance(typ, str) else None,
            said=answers.said(problem) if problem else None,
        )


def alternates(answer: requests.Response) -> list[str]:
    """Other chains for the certificate in this answer (RFC 8555 §7.4.2, RFC 8288)."""
    links = requests.utils.parse_header_links(answer.headers.get("Link", ""))
    found = [urljoin(answer.url, one["url"]) for one in links if one.get("rel") == "alternate"]
    return found[:ALTERNATES_MOST]


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """With any ``auth`` of its own, requests does not look for ~/.netrc."""
    return request


def _cause(error: Exception) -> BaseException:
    """What lies at the bottom of requests' wrappings."""
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
    return str(cause) or type(cause).__name__

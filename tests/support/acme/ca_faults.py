"""A reverse proxy in front of pebble that behaves as badly as a test wants, and true to the RFCs where
pebble falls short of them.

    with Faults(ca) as front:
        front.window = (start, end)                         # renewalInfo appears in the directory
        front.add("newOrder", Refuse(429, "rateLimited", {"Retry-After": "90"}))
        Authority(front.directory, ca_pem=front.ca_pem)

A fault is for the resources of one kind and is used up after ``times``; what comes later passes.
Host is passed on, so that pebble signs, checks and hands out the proxy's own URLs. Every request is
kept in ``seen``, its signed payload decoded.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import trustme
from cryptography import x509

from support.http.backend_app import Served

from .ca_persist import Persist
from .chains import DAY, certified, joined, split
from .pebble import Pebble

# Where pebble has what, by the names of RFC 8555 §7.1.1 and RFC 9773.
_KINDS = {
    "/dir": "directory",
    "/nonce-plz": "newNonce",
    "/sign-me-up": "newAccount",
    "/order-plz": "newOrder",
    "/my-order/": "order",
    "/finalize-order/": "finalize",
    "/authZ/": "authorization",
    "/chalZ/": "challenge",
    "/certZ/": "certificate",
    "/my-account/": "account",
    "/rollover-account-key": "keyChange",
    "/revoke-cert": "revokeCert",
    "/renewal-info/": "renewalInfo",
}

_VALIDATED_WITHIN = 60.0  # seconds until a test that waits has failed

# Fields about one connection; the proxy makes its own.
_HOP = ("connection", "content-length", "date", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class Seen:
    kind: str
    path: str
    payload: dict[str, Any] | None  # None: nothing signed, or POST-as-GET
    at: float
    agent: str


@dataclass(slots=True)
class Reply:
    """``sent``: as much of the body as gets through before the connection is cut."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: bytes | None = None


class Exchange(Protocol):
    """One request under way: pass it on, or not."""

    kind: str
    command: str  # the method
    path: str
    body: bytes

    def silence(self, document: dict[str, Any]) -> Reply:
        """An answer that the CA behind does not hear of."""
        ...

    def forward(self) -> Reply: ...

    def fresh_nonce(self) -> str: ...

    def log(self) -> str:
        """What the CA behind has said so far."""
        ...

    def requested_key(self) -> Any:
        """The public key of the last request for a certificate."""
        ...


class Fault(Protocol):
    def __call__(self, exchange: Exchange) -> Reply | None:
        """What the client gets; None: the connection is cut."""
        ...


@dataclass(frozen=True, slots=True)
class Refuse:
    """A problem document (RFC 8555 §6.7), with a fresh nonce as a CA's refusals have."""

    status: int
    typ: str = "serverInternal"
    headers: dict[str, str] = field(default_factory=dict)
    detail: str = "refused by the test"

    def __call__(self, exchange: Exchange) -> Reply:
        document = {"type": f"urn:ietf:params:acme:error:{self.typ}", "detail": self.detail}
        headers = {
            "Content-Type": "application/problem+json",
            "Replay-Nonce": exchange.fresh_nonce(),
            **self.headers,
        }
        return Reply(self.status, headers, json.dumps(document).encode())


@dataclass(frozen=True, slots=True)
class Say:
    """Any bytes at all."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> Reply:
        return Reply(
            self.status, {"Replay-Nonce": exchange.fresh_nonce(), **self.headers}, self.body
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """The CA hears it (or does not), and the answer is lost."""

    heard: bool = True

    def __call__(self, exchange: Exchange) -> None:
        if self.heard:
            exchange.forward()


@dataclass(frozen=True, slots=True)
class Slow:
    seconds: float

    def __call__(self, exchange: Exchange) -> Reply:
        time.sleep(self.seconds)
        return exchange.forward()


@dataclass(frozen=True, slots=True)
class Edit:
    """The CA's answer, changed."""

    change: Callable[[bytes], bytes]
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        return Reply(reply.status, {**reply.headers, **self.headers}, self.change(reply.body))


@dataclass(frozen=True, slots=True)
class Json:
    """The CA's JSON with other ``values``, some keys left out, and other header fields (None: left
    out). Only of a document whose ``status`` is this one, if it is given."""

    values: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    status: str | None = None
    headers: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        document = json.loads(reply.body)
        if self.status is not None and document.get("status") != self.status:
            return reply
        changed = {**document, **self.values}
        kept = {name: value for name, value in changed.items() if name not in self.without}
        headers = {**reply.headers, **self.headers}
        there = {name: value for name, value in headers.items() if value is not None}
        return Reply(reply.status, there, json.dumps(kept).encode())


@dataclass(frozen=True, slots=True)
class Relative:
    """Every URL of the answer, in its head and in its body, is a path alone (RFC 3986 §4.2)."""

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        root = re.compile(rb"https://127\.0\.0\.1:[0-9]+(?=/)")
        headers = {
            name: root.sub(b"", value.encode()).decode() for name, value in reply.headers.items()
        }
        return Reply(reply.status, headers, root.sub(b"", reply.body))


@dataclass(frozen=True, slots=True)
class Heard:
    """The CA does what it was asked for, and answers something else."""

    answer: Fault

    def __call__(self, exchange: Exchange) -> Reply | None:
        exchange.forward()
        return self.answer(exchange)


@dataclass(frozen=True, slots=True)
class Validated:
    """The CA has validated what it was told to, and answers something else."""

    answer: Fault

    def __call__(self, exchange: Exchange) -> Reply | None:
        exchange.forward()
        valid = "set VALID by completed challenge " + exchange.path.rpartition("/")[2]
        deadline = time.monotonic() + _VALIDATED_WITHIN
        while valid not in exchange.log():
            assert time.monotonic() < deadline, exchange.log()
            time.sleep(0.01)  # another program's log
        return self.answer(exchange)


@dataclass(frozen=True, slots=True)
class Pass:
    """As the CA answers it: for those before the one that is meant."""

    def __call__(self, exchange: Exchange) -> Reply:
        return exchange.forward()


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Something happens when the CA has heard it, and before its answer is told."""

    happens: Callable[[], object]

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        self.happens()
        return reply


@dataclass(frozen=True, slots=True)
class NoNonce:
    """An answer to a POST without the nonce that RFC 8555 §6.5 has there."""

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if exchange.command != "POST":
            return reply
        headers = {name: value for name, value in reply.headers.items() if name != "Replay-Nonce"}
        return Reply(reply.status, headers, reply.body)


@dataclass(frozen=True, slots=True)
class Torn:
    """The connection is cut in the middle of the answer."""

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        return Reply(reply.status, reply.headers, reply.body, reply.body[: len(reply.body) // 2])


@dataclass(frozen=True, slots=True)
class Misissue:
    """In the certificate's place another one, for the key that was asked for, and else as the test
    wants: ``begins`` and ``ends`` are seconds from now. ``certificates``: how many of the chain."""

    names: tuple[str, ...]
    begins: float = -DAY
    ends: float = 89 * DAY
    certificates: int = 2

    def __call__(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        whole = certified(
            exchange.requested_key(),
            *self.names,
            now=time.time(),
            begins=self.begins,
            ends=self.ends,
        )
        return Reply(reply.status, reply.headers, joined(split(whole)[: self.certificates]))


@dataclass(frozen=True, slots=True)
class BadNonce:
    """So many of a hundred signed requests; only those carry a nonce."""

    percent: int
    rng: random.Random = field(default_factory=lambda: random.Random(3), repr=False)

    def __call__(self, exchange: Exchange) -> Reply:
        if exchange.command == "POST" and self.rng.randrange(100) < self.percent:
            return Refuse(400, "badNonce")(exchange)
        return exchange.forward()


@dataclass(frozen=True, slots=True)
class WithStatus:
    """For `Edit`: an order or authorization that says it is in this state."""

    status: str

    def __call__(self, body: bytes) -> bytes:
        document = {**json.loads(body), "status": self.status}
        document.pop("certificate", None)
        return json.dumps(document).encode()


class Faults(Served):
    """``window``: start and end, Unix seconds; None: no renewalInfo. ``ask_again``: its Retry-After.
    ``explanation``: its explanationURL. ``profiles``: names to descriptions. ``persist``: offers
    dns-persist-01 in the place of dns-01. ``identities``: its caaIdentities. ``begins``, ``ends``:
    of its own TLS certificate. ``address``: where it listens."""

    def __init__(
        self,
        ca: Pebble,
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self._ca = ca
        self._faults: list[tuple[str, Fault, list[int]]] = []
        self._lock = threading.Lock()
        self.seen: list[Seen] = []
        self.window: tuple[float, float] | None = None
        self.ask_again: str | None = "21600"
        self.explanation: str | None = None
        self.profiles: dict[str, str] = {}
        self.persist: Persist | None = None
        self.identities: list[str] = []
        self._upstream = ssl.create_default_context(cadata=ca.ca_pem.decode())
        authority = trustme.CA()
        self.ca_pem: bytes = authority.cert_pem.bytes()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served = authority.issue_cert(address, not_before=begins, not_after=ends)
        served.configure_cert(context)
        super().__init__(_Server((address, 0), self._handler(), context))
        self.directory = f"https://{address}:{self.port}/dir"

    def add(self, kind: str, fault: Fault, times: int = 1) -> None:
        """Requests for resources of this kind, or of any by "*", meet the fault so many times."""
        assert kind == "*" or kind in _KINDS.values()
        with self._lock:
            self._faults.append((kind, fault, [times]))

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def of(self, kind: str) -> list[Seen]:
        return [one for one in self.seen if one.kind == kind]

    def _fault(self, kind: str) -> Fault | None:
        with self._lock:
            for wanted, fault, left in self._faults:
                if wanted in ("*", kind) and left[0] > 0:
                    left[0] -= 1
                    return fault
        return None

    def _own(self, kind: str, reply: Reply) -> Reply:
        """What pebble's directory lacks, and what its version decides."""
        if kind != "directory":
            return reply
        document = json.loads(reply.body)
        document.pop("renewalInfo", None)  # pebble has some from version 2.6 on
        if self.window is not None:
            document["renewalInfo"] = self.directory.removesuffix("/dir") + "/renewal-info"
        if self.profiles:
            document["meta"]["profiles"] = self.profiles
        if self.identities:
            document["meta"]["caaIdentities"] = self.identities
        return Reply(reply.status, reply.headers, json.dumps(document).encode())

    def _renewal_info(self) -> Reply:
        assert self.window is not None
        start, end = (datetime.fromtimestamp(one, UTC).isoformat() for one in self.window)
        document: dict[str, Any] = {"suggestedWindow": {"start": start, "end": end}}
        if self.explanation:
            document["explanationURL"] = self.explanation
        headers = {"Retry-After": self.ask_again} if self.ask_again else {}
        return Reply(200, headers, json.dumps(document).encode())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            kind = ""
            body = b""

            def do_POST(self) -> None:
                self.body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer()

            def do_GET(self) -> None:
                self.body = b""
                self.answer()

            def do_HEAD(self) -> None:
                self.do_GET()

            def answer(self) -> None:
                self.kind = next(
                    (kind for path, kind in _KINDS.items() if self.path.startswith(path)), "other"
                )
                agent = self.headers.get("User-Agent", "")
                front.seen.append(
                    Seen(self.kind, self.path, _payload(self.body), time.time(), agent)
                )
                fault = front._fault(self.kind)
                if fault is None and front.persist is not None:
                    fault = front.persist.answer
                reply = fault(self) if fault else self.forward()
                if reply is None:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body if reply.sent is None else reply.sent)
                self.close_connection |= reply.sent is not None

            def forward(self) -> Reply:
                if self.kind == "renewalInfo":
                    return front._renewal_info()
                return front._own(self.kind, self.upstream(self.command, self.path, self.body))

            def silence(self, document: dict[str, Any]) -> Reply:
                headers = {"Content-Type": "application/json", "Replay-Nonce": self.fresh_nonce()}
                return Reply(200, headers, json.dumps(document).encode())

            def fresh_nonce(self) -> str:
                return self.upstream("HEAD", "/nonce-plz", b"").headers["Replay-Nonce"]

            def log(self) -> str:
                return front._ca.log()

            def requested_key(self) -> Any:
                payload = front.of("finalize")[-1].payload or {}
                csr = payload["csr"]
                der = base64.urlsafe_b64decode(csr + "=" * (-len(csr) % 4))
                return x509.load_der_x509_csr(der).public_key()

            def upstream(self, method: str, path: str, body: bytes) -> Reply:
                connection = http.client.HTTPSConnection(
                    "127.0.0.1", front._ca.port, context=front._upstream
                )
                try:
                    headers = {"Host": self.headers["Host"], "User-Agent": "test"}
                    if body:
                        headers["Content-Type"] = self.headers["Content-Type"]
                    connection.request(method, path, body or None, headers)
                    response = connection.getresponse()
                    kept = {
                        name: value
                        for name, value in response.getheaders()
                        if name.lower() not in _HOP
                    }
                    return Reply(response.status, kept, response.read())
                finally:
                    connection.close()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    """TLS in the connection's own thread, and quiet about clients that leave."""

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        context: ssl.SSLContext,
    ) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            with self._context.wrap_socket(request, server_side=True) as tls:
                super().finish_request(tls, client_address)
        except OSError:
            request.close()

    def shutdown_request(self, request: Any) -> None:
        try:
            super().shutdown_request(request)
        except OSError:
            request.close()


def _payload(body: bytes) -> dict[str, Any] | None:
    try:
        part = json.loads(body)["payload"]
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, KeyError):
        return None
    return value if isinstance(value, dict) else None

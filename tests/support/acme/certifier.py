"""The certifier at work in a thread, and the server that it works for: in memory, but for the
sockets that a CA validates at, which are real.

    with FakeServer() as server, Pebble(server.http_port, server.tls_port) as ca:
        with Certifier(settings(tmp_path, ca, ("a.example",)), server):
            server.until(lambda: "a.example" in server.served)
"""

from __future__ import annotations

import queue
import random
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from acme_client.agent.agent import Agent
from acme_client.link import (
    Authority,
    CertificateSpec,
    Challenge,
    Command,
    LinkBroken,
    Served,
    Settings,
    Taken,
)
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.store import Store

from .pebble import Pebble

_PATH = "/.well-known/acme-challenge/"
_WITHIN = 60.0  # seconds until a test that waits has failed
_NOW_AND_THEN = 0.05  # seconds


_WOKEN = Command("woken")


class FakeServer:
    """`link.Link` for the certifier; answers challenges for exactly their token and host.

    Everything that the certifier says is kept: ``served`` by name, ``reports`` by name, the last
    one each; ``shown`` and ``taken_back``, all challenges in order; ``answers`` by ticket.
    ``accepts``: whether the workers acknowledge; ``refusal``: why they cannot serve what is published. ``mute``: challenges are not answered on the
    network. ``asked`` counts what CAs have asked, by kind.
    """

    def __init__(self, host: str = "127.0.0.1", http_port: int = 0, tls_port: int = 0) -> None:
        self.served: dict[str, Served] = {}
        self.published: list[Served] = []
        self.reports: dict[str, dict[str, Any]] = {}
        self.shown: list[Challenge] = []
        self.taken_back: list[Challenge] = []
        self.answers: dict[int, dict[str, Any]] = {}
        self.asked = {"http-01": 0, "tls-alpn-01": 0}
        self.accepts = True
        self.refusal: str | None = None
        self.mute: set[str] = set()
        self.is_loaded = self.is_idle = False
        self._in_force: dict[tuple[str, str], Challenge] = {}
        self._news = threading.Condition()
        self._mail: queue.Queue[Command | None] = queue.Queue()
        self._tickets = 0
        self.host = host
        self._http = ThreadingHTTPServer((host, http_port), self._handler())
        self._tls = socket.create_server((host, tls_port))
        self.http_port: int = self._http.server_address[1]
        self.tls_port: int = self._tls.getsockname()[1]

    def __enter__(self) -> FakeServer:
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.05,)),
            threading.Thread(target=self._serve_tls),
        ]
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._tls.shutdown(socket.SHUT_RDWR)
        for one in self._threads:
            one.join()
        self._tls.close()

    # For tests

    def forget(self) -> None:
        """The same doors, for the next test."""
        with self._news:
            for kept in (self.served, self.reports, self.answers, self._in_force):
                kept.clear()
            for said in (self.published, self.shown, self.taken_back):
                said.clear()
            self.mute.clear()
            self.asked = {"http-01": 0, "tls-alpn-01": 0}
            self.accepts, self.is_loaded, self.is_idle, self.refusal = True, False, False, None
            self._mail = queue.Queue()

    def until(self, happened: Callable[[], Any], within: float = _WITHIN) -> None:
        """Wait until it has; looked at again whenever the certifier says something, and now and
        then, because not everything that tests wait for is said here."""
        deadline = time.monotonic() + within
        with self._news:
            while not self._news.wait_for(happened, _NOW_AND_THEN):
                if time.monotonic() > deadline:
                    raise AssertionError(f"it did not happen; reports: {self.reports}")

    def state(self, name: str) -> str | None:
        report = self.reports.get(name)
        return None if report is None else report["state"]

    def in_force(self) -> set[tuple[str, str]]:
        """The challenges that are answered: kind and token."""
        return {(one.kind, one.token) for one in self._in_force.values()}

    def tell(self, verb: str, value: Any = None) -> int:
        """Send a command; its ticket."""
        self._tickets += 1
        self._mail.put(Command(verb, value, self._tickets))
        return self._tickets

    def ask(self, verb: str, value: Any = None) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        ticket = self.tell(verb, value)
        self.until(lambda: ticket in self.answers)
        return self.answers[ticket]

    def vanish(self) -> None:
        """As if the supervisor had died."""
        self._mail.put(None)

    # The link

    def publish(self, several: Sequence[Served], *, new: bool) -> Taken:
        with self._news:
            if self.refusal is not None:
                return Taken(True, {one.name: self.refusal for one in several})
            if self.accepts:
                self.served |= {one.name: one for one in several}
            self.published += several
            self._news.notify_all()
            return Taken(self.accepts)

    def present(self, challenge: Challenge) -> bool:
        with self._news:
            self.shown.append(challenge)
            if self.accepts:
                self._in_force[challenge.kind, challenge.host] = challenge
            self._news.notify_all()
            return self.accepts

    def retract(self, challenge: Challenge) -> None:
        with self._news:
            self.taken_back.append(challenge)
            self._in_force.pop((challenge.kind, challenge.host), None)
            self._news.notify_all()

    def report(self, name: str, status: dict[str, Any] | None) -> None:
        with self._news:
            if status is None:
                self.reports.pop(name, None)
            else:
                self.reports[name] = status
            self._news.notify_all()

    def loaded(self) -> None:
        with self._news:
            self.is_loaded = True
            self._news.notify_all()

    def idle(self) -> None:
        with self._news:
            self.is_idle = True
            self._news.notify_all()

    def answer(self, ticket: int, value: dict[str, Any]) -> None:
        with self._news:
            assert ticket not in self.answers, "a command is answered once"
            self.answers[ticket] = value
            self._news.notify_all()

    def receive(self, timeout: float | None) -> list[Command]:
        try:
            command = self._mail.get(timeout=timeout)
        except queue.Empty:
            return []
        if command is None:
            raise LinkBroken
        return [] if command is _WOKEN else [command]

    def wake(self) -> None:
        self._mail.put(_WOKEN)

    # What CAs see

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the base class's name for it
                host = self.headers["Host"].rsplit(":", 1)[0].strip("[]")
                server.asked["http-01"] += 1
                challenge = server._in_force.get(("http-01", host))
                body = b""
                if (
                    challenge is not None
                    and self.path == _PATH + challenge.token
                    and "http-01" not in server.mute
                ):
                    body = challenge.key_authorization.encode()
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _serve_tls(self) -> None:
        """RFC 8737: the challenge's certificate, to whom offers acme-tls/1 for its name."""
        while True:
            try:
                connection, _peer = self._tls.accept()
            except OSError:  # closed
                return
            self.asked["tls-alpn-01"] += 1
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.sni_callback = self._choose
            try:
                with context.wrap_socket(connection, server_side=True):
                    pass
            except OSError:  # refused, by them or by us
                connection.close()

    def _choose(self, tls: ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        challenge = self._in_force.get(("tls-alpn-01", _address(name or "")))
        if challenge is None or "tls-alpn-01" in self.mute:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["acme-tls/1"])
        with tempfile.NamedTemporaryFile() as file:
            file.write(challenge.chain_pem + challenge.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
        tls.context = context
        return None


def _address(name: str) -> str:
    """Addresses are asked for by their name in reverse DNS (RFC 8738 §6)."""
    labels = name.removesuffix(".in-addr.arpa")
    return name if labels == name else ".".join(reversed(labels.split(".")))


class Certifier:
    """The agent in a thread, from start to ``stop``."""

    def __init__(
        self,
        settings: Settings,
        server: FakeServer,
        *,
        now: Callable[[], float] = time.time,
        store: Store | None = None,
    ) -> None:
        self._settings = settings
        self._server = server
        self._now = now
        self._store = store or DirectoryStore(settings.state)
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        """As `agent.run`, with a clock of the test's."""
        try:
            agent = Agent(self._settings, self._server, self._store, self._now, random.Random(1))
            agent.serve()
        except LinkBroken:
            pass
        except BaseException as error:  # for the test's own thread
            self.error = error

    def __enter__(self) -> Certifier:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.tell("stop")
        self._thread.join(60)
        assert not self._thread.is_alive(), "the certifier does not stop"
        if self.error is not None:
            raise self.error


def authority(ca: Pebble, **more: Any) -> Authority:
    return Authority(ca.directory, email="ops@example.org", ca_pem=ca.ca_pem, **more)


def settings(state: Path, ca: Pebble | Authority, *sites: tuple[str, ...], **more: Any) -> Settings:
    """A certificate for each of ``sites``, by HTTP-01 unless ``more`` says otherwise."""
    by = ca if isinstance(ca, Authority) else authority(ca)
    wanted = {"challenges": ("http-01",), **more}
    return Settings(state, tuple(CertificateSpec(names, by, **wanted) for names in sites))

"""Those who get alerts: a webhook and a mail server, as real as a socket, and both may be unwell.

with Webhook() as hook:          hook.url, hook.await_document()
with MailServer() as server:     server.port, server.await_mail()
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.http.backend_app import Served

_WITHIN = 60.0


class Webhook(Served):
    """``refuse``: how many requests to answer 503 first."""

    def __init__(self, *, refuse: int = 0) -> None:
        self.documents: queue.Queue[dict[str, Any]] = queue.Queue()
        self.refused = threading.Semaphore(0)
        self.heads: list[Any] = []
        owner, left = self, [refuse]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the base class's name for it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.heads.append((self.path, self.headers))
                unwell, left[0] = left[0] > 0, left[0] - 1
                self.send_response(503 if unwell else 204)
                self.end_headers()
                if unwell:
                    owner.refused.release()
                else:
                    owner.documents.put(json.loads(body))

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://127.0.0.1:{self.port}/hooks/s3cret?channel=ops"

    def await_document(self, within: float = _WITHIN) -> dict[str, Any]:
        return self.documents.get(timeout=within)

    def await_alert(
        self, kind: str, event: str = "alert", within: float = _WITHIN
    ) -> dict[str, Any]:
        """The first of this kind and event; others are passed over."""
        while True:
            for one in self.await_document(within)["alerts"]:
                if (one["kind"], one["event"]) == (kind, event):
                    return one


class MailServer(Served):
    """``certificate``: a PEM file with chain and key; STARTTLS is offered with it, or with
    ``implicit`` TLS is spoken from the first byte. ``login``: user and password, asked for."""

    def __init__(
        self,
        certificate: Path | None = None,
        *,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.mails: queue.Queue[tuple[str, list[str], str]] = queue.Queue()
        context: ssl.SSLContext | None = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        owner = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    sock = self.request
                    if implicit and context is not None:
                        sock = context.wrap_socket(sock, server_side=True)
                    with sock:
                        owner._converse(sock, context, implicit, login)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        super().__init__(server)

    def await_mail(self, within: float = _WITHIN) -> tuple[str, list[str], str]:
        """Sender, recipients, the message."""
        return self.mails.get(timeout=within)

    def _converse(
        self,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        secure: bool,
        login: tuple[str, str] | None,
    ) -> None:
        """RFC 5321, as much of it as a client that sends one mail asks for."""
        file = sock.makefile("rwb")

        def say(line: str) -> None:
            file.write(line.encode() + b"\r\n")
            file.flush()

        say("220 mail.test")
        sender, to, known = "", list[str](), login is None
        while line := file.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    say("250-mail.test")
                    if context is not None and not secure:
                        say("250-STARTTLS")
                    if login is not None:
                        say("250-AUTH PLAIN")
                    say("250 8BITMIME")
                case "STARTTLS" if context is not None:
                    say("220 go on")
                    file.close()
                    with context.wrap_socket(sock, server_side=True) as secured:
                        self._converse_again(secured, login)
                    return
                case "AUTH":
                    given = base64.b64decode(rest.split()[1]).split(b"\0")[1:]
                    known = (
                        secure and login is not None and given == [one.encode() for one in login]
                    )
                    say("235 welcome" if known else "535 no")
                case "MAIL" if known:
                    sender = rest.partition("<")[2].partition(">")[0]
                    say("250 ok")
                case "RCPT" if known:
                    to.append(rest.partition("<")[2].partition(">")[0])
                    say("250 ok")
                case "DATA":
                    say("354 go on")
                    lines = []
                    while (text := file.readline()) != b".\r\n":
                        lines.append(text)
                    self.mails.put((sender, to, b"".join(lines).decode()))
                    say("250 taken")
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("530 not like this")

    def _converse_again(self, sock: ssl.SSLSocket, login: tuple[str, str] | None) -> None:
        # The greeting is not repeated after STARTTLS (RFC 3207 §4.2), so it is swallowed here.
        class _Quiet:
            def __init__(self, file: Any) -> None:
                self._file, self._first = file, True

            def write(self, data: bytes) -> None:
                if not self._first:
                    self._file.write(data)
                self._first = False

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

        class _Sock:
            def makefile(self, mode: str) -> Any:
                return _Quiet(sock.makefile(mode))

        self._converse(_Sock(), None, True, login)  # type: ignore[arg-type]

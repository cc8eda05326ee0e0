"""An application with what streams: events, downloads, uploads, trailers; and a witness of what it was
asked, so that a test can say that nothing was asked twice.

    witness = Witness()
    with serving(application(witness)) as port:
"""

from __future__ import annotations

import collections
import hashlib
import json
import threading
import urllib.parse
from dataclasses import dataclass, field

from .backend_app import Application

PIECE = bytes(range(256)) * 256
_TOGETHER_WITHIN = 60.0


def content(size: int) -> bytes:
    """What a download of that size has."""
    return (PIECE * (size // len(PIECE) + 1))[:size]


@dataclass
class Witness:
    """``asked``: how often each id came. ``gathering``: event streams that ask to be together begin
    when so many of them are open."""

    asked: collections.Counter[str] = field(default_factory=collections.Counter)
    gathering: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: str) -> None:
        with self.lock:
            self.asked[number] += 1

    def twice(self) -> list[str]:
        return [number for number, count in self.asked.items() if count > 1]


def application(witness: Witness) -> type[Application]:
    class Streaming(Application):
        def do_GET(self) -> None:
            target = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(target.query))
            if "id" in query:
                witness.note(query["id"])
            match target.path.rpartition("/")[2]:
                case "events":
                    self._events(int(query["count"]), float(query.get("pause", "0")), query)
                case "bytes":
                    self.answers(content(int(query["size"])))
                case "trailers":
                    self._with_trailers(b"told")
                case "fields":
                    self.answers(json.dumps(self.headers.items()).encode())
                case _:
                    self.answers(self.path.encode())

        def do_POST(self) -> None:
            if "X-Id" in self.headers:
                witness.note(self.headers["X-Id"])
            if urllib.parse.urlsplit(self.path).path.endswith("/trailers"):
                self._with_trailers(self.body())
                return
            body = self.body()
            self.answers(hashlib.sha256(body).hexdigest().encode(), X_Size=str(len(body)))

        do_PUT = do_POST

        def _events(self, count: int, pause: float, query: dict[str, str]) -> None:
            """``together``: not before as many streams are open as the witness waits for."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if "together" in query:
                witness.gathering.wait(_TOGETHER_WITHIN)
            for number in range(count):
                if pause:
                    threading.Event().wait(pause)  # the pace of news, not a wait for anything
                self._chunk(b"id: %d\ndata: %d\n\n" % (number, number))
            self._chunk(b"")

        def _with_trailers(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "x-digest")
            self.end_headers()
            self._chunk(body)
            digest = hashlib.sha256(body).hexdigest().encode()
            self.wfile.write(b"0\r\nX-Digest: " + digest + b"\r\n\r\n")

        def _chunk(self, piece: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    return Streaming

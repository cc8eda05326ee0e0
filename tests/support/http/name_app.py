"""The app that is asked whether a name is wanted (`on_demand.ask`)."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .backend_app import Served


class NameApp(Served):
    """Says which names are wanted: those in ``allowed``; ``asked`` has every question."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.asked: list[str] = []
        self.status = 200
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (name,) = parse_qs(urlsplit(self.path).query)["domain"]
                app.asked.append(name)
                self.send_response(app.status if name in app.allowed else 403)
                self.send_header("Location", "/allowed?domain=" + name)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://127.0.0.1:{self.port}/allowed"

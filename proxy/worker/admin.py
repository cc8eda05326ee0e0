"""The admin listener: /metrics, /status, and a page that shows the latter. Off unless configured.

It is for trusted eyes on a private address: there is no password. Whoever asks must do so by
address or as localhost, because a page on the web could otherwise have its visitor's browser ask
under a name that it makes resolve here (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable

from ..errors import Fault
from ..ipc.documents import Overview
from ..protocol.exchange import Exchange
from ..protocol.message import Request, Response
from .context import WorkerContext
from .services import BaseService

_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>treehouse-proxy</title>
<style>:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{margin:2rem}
table{border-collapse:collapse;margin:0 0 2rem}th,td{padding:.2rem .8rem;text-align:left;
border-bottom:1px solid #8884}h2{font-size:1rem}</style><h1>treehouse-proxy</h1><p id="head"></p>
<div id="tables"></div><script>
const parts = {
  workers: ["pid", "generation", "state", "connections", "streams", "requests"],
  certificates: ["names", "source", "state", "not_after", "renew_at", "served", "attempts",
    "last_error", "next_attempt"],
  upstreams: ["url", "healthy", "in_flight", "failures", "last_error"],
  listeners: ["address", "kind"] };
const text = (value) => Array.isArray(value) ? value.join(", ") : value ?? "";
const show = (rows, names) => { const table = document.createElement("table");
  const line = (cells, kind) => { const row = table.insertRow(); for (const cell of cells) {
    const box = document.createElement(kind); box.textContent = text(cell); row.append(box); } };
  line(names, "th"); for (const row of rows) line(names.map((name) => row[name]), "td");
  return table; };
const refresh = async () => { const status = await (await fetch("status")).json();
  document.getElementById("head").textContent =
    `${status.version}, pid ${status.pid}, uid ${status.uid}, generation ${status.generation}`;
  const tables = document.getElementById("tables"); tables.replaceChildren();
  for (const [part, names] of Object.entries(parts)) {
    const title = document.createElement("h2"); title.textContent = part;
    tables.append(title, show(status[part], names)); } };
refresh(); setInterval(refresh, 2000);</script></html>
"""


class AdminService(BaseService):
    """``ask`` gets the supervisor's overview."""

    logs_all = False

    def __init__(self, context: WorkerContext, ask: Callable[[], Awaitable[Overview]]) -> None:
        super().__init__(context)
        self._overview = ask

    def logs(self, exchange: Exchange) -> bool:
        """Whether something went wrong: a monitor that looks every few seconds is no visitor, and
        would fill the access log."""
        response = exchange.response
        return response is None or response.status >= 400

    async def _handle(self, exchange: Exchange, request: Request) -> Response:
        if not _is_address(request.host.decode("ascii")):
            raise Fault("misdirected", "the admin listener is asked by address")
        if request.method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=[(b"allow", b"GET, HEAD")])
        match request.path:
            case b"/":
                return _content(b"text/html; charset=utf-8", _PAGE)
            case b"/status":
                document = (await self._overview())["status"]
                return _content(b"application/json", json.dumps(document, indent=1).encode())
            case b"/metrics":
                from ..metrics import exposition  # 3 MiB that nobody needs who does not ask

                return _content(exposition.CONTENT_TYPE, exposition.render(await self._overview()))
        raise Fault("not_found")


def _content(kind: bytes, body: bytes) -> Response:
    fields = [(b"content-type", kind), (b"cache-control", b"no-store")]
    return Response(200, fields, body, handler="admin")


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

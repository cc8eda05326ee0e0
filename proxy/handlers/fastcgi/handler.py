"""Requests for a document root with scripts: scripts are run by a FastCGI server, files sent.

Where a path leads says `scripts`. A script's request goes the way of all requests to backends
(`upstream.handler`): choosing among several servers, trying again, waiting for one that restarts,
health, counters. What differs is what is sent: parameters and a body in records, instead of a head.

A body without a length (chunks) has no counterpart in CGI: a script learns the length first (RFC
3875 §4.1.2). Such a body is collected, up to a bound; a longer one is refused with 411. A short
body is collected as well, so that a slow client keeps no process of PHP-FPM waiting for a form; a
long one streams.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial

from ...config import model
from ...config.model import FastCgiAction
from ...errors import Fault
from ...protocol.collected import Collector
from ...protocol.fastcgi import records
from ...protocol.fastcgi.client import FastCgiConnection
from ...protocol.fastcgi.parameters import Script, parameters
from ...protocol.h1.response_parser import FastResponseParser
from ...protocol.message import Body, Request, Response
from ..files.document_root import DocumentRoot, Unreadable
from ..files.handler import FileHandler, below_root, with_slash
from ..upstream.backend import Backend
from ..upstream.context import UpstreamContext
from ..upstream.handler import Upstream
from ..upstream.pool import Connection, Pool
from ..upstream.request_body import Payload, is_idempotent
from .pool import FastCgiPool
from .scripts import AddSlash, Nothing, Run, Scripts, SendFile

log = logging.getLogger("treehouse.upstream")

# Of a body without a length, in bytes; browsers always say one.
_MOST_COLLECTED = 1024 * 1024
_SHORT = 64 * 1024  # bytes of a body that is collected although its length is known
# Of all bodies that are being collected, for each route and worker.
_MOST_COLLECTED_AT_ONCE = 64 * 1024 * 1024
_LONGEST_LINE = 1000  # of what a script writes for the log


class ScriptPayload(Payload):
    """What a request sends to ``script``. ``collected`` is a body that came without a length."""

    def __init__(self, request: Request, script: Script, collected: bytes | None) -> None:
        self.script = script
        self.length = 0 if request.field(b"content-length") is not None else None
        if collected is None:
            self.length = self.length if request.body is None else request.body.length
            super().__init__(request)
            return
        self.whole = collected
        self.length = len(collected)
        self.repeatable = is_idempotent(request)


class ScriptServers(Upstream):
    """The FastCGI servers of a route."""

    action: FastCgiAction

    def __init__(
        self, action: FastCgiAction, context: UpstreamContext, told: frozenset[bytes]
    ) -> None:
        super().__init__(action, context, told)
        self._collector = Collector(_MOST_COLLECTED_AT_ONCE)

    def run(self, request: Request, script: Script) -> Awaitable[Response]:
        """Return the script's response. Raises `Fault`."""
        body = request.body
        if body is not None and (body.length is None or body.length <= _SHORT):
            return self._run_collected(request, body, script)
        return self.send(request, ScriptPayload(request, script, None))

    async def _run_collected(self, request: Request, body: Body, script: Script) -> Response:
        too_large = Fault("length_required", f"more than {_MOST_COLLECTED} bytes in chunks")
        whole = await self._collector.whole(body, _MOST_COLLECTED, too_large)
        return await self.send(request, ScriptPayload(request, script, whole))

    def pool(
        self, config: model.Backend, tls: ssl.SSLContext | None, parser: FastResponseParser | None
    ) -> Pool:
        keep = self.action.fastcgi.keep
        return FastCgiPool(keep, config, self.action, tls, self.context, parser)

    def message(
        self, request: Request, backend: Backend, connection: Connection, payload: Payload
    ) -> bytes:
        assert isinstance(payload, ScriptPayload)  # noqa: S101 - made by `run`
        assert isinstance(connection, FastCgiConnection)  # noqa: S101 - made by `pool`
        connection.complain = partial(self._log_complaint, request, backend)
        head = self.forwarder.head(request, backend.host, b"")
        given = {name.encode(): value.encode() for name, value in self.action.fastcgi.params}
        told = parameters(request, head, payload.script, payload.length, given)
        data = records.begin(told, connection.keep)
        if payload.follows is None:
            data += records.stream(records.STDIN, payload.whole) + records.record(records.STDIN)
        return data

    @staticmethod
    def _log_complaint(request: Request, backend: Backend, text: bytes) -> None:
        site = request.host.decode("latin-1")
        extra = {"site": site, "backend": backend.config.url, "peer": request.client}
        for line in text.decode("utf-8", "replace").splitlines():
            if line.strip():
                log.warning("%s: a script says: %s", site, line[:_LONGEST_LINE], extra=extra)


def scripts_of(action: FastCgiAction) -> Scripts:
    """What finds the scripts of a route."""
    rules = action.fastcgi
    return Scripts(
        DocumentRoot(action.root),
        rules.endings,
        rules.index,
        action.files.index,
        front_controller=rules.front_controller,
        listing=action.files.listing.format != "off",
    )


class FastCgiHandler:
    """Answers from one document root with scripts."""

    def __init__(
        self,
        action: FastCgiAction,
        context: UpstreamContext,
        told: frozenset[bytes] = frozenset(),
    ) -> None:
        rules = action.fastcgi
        self.servers = ScriptServers(action, context, told)
        self._scripts = scripts_of(action)
        files = replace(action.files, index=self._scripts.pages, fallback=None, extensions=())
        self._files = FileHandler(
            action.root, context.clock, files, self._scripts.answers, self._scripts.is_source
        )
        self._clock = context.clock
        self._root = rules.script_root.encode() if rules.script_root else self._scripts.root.path

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """The response, or an awaitable of it. Raises `Fault`."""
        path = below_root(request)
        try:
            found = self._scripts.find(path, self._clock.now)
        except OSError as error:
            detail = f"a file could not be looked for: {error.strerror}"
            raise Fault("no_capacity", detail) from None
        match found:
            case Run(name, path_info):
                return self.servers.run(request, self.script(request, name, path_info))
            case SendFile():
                return self._files.handle(request)
            case AddSlash():
                return with_slash(request)
            case Unreadable(why):
                raise self._files.fault(request, "unreadable", why)
            case Nothing():
                raise self._files.fault(request, "not_found")

    def script(self, request: Request, name: bytes, path_info: bytes) -> Script:
        """What a script is told of itself. ``name`` is relative to the document root."""
        root = self._root.rstrip(b"/")
        return Script(request.matched + name, path_info, root + b"/" + name, root or b"/")

    def close(self) -> None:
        self._files.close()
        self.servers.close()

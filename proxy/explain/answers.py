"""What the action of a route makes of a request: files, a script, a redirect, a backend's head.

The handlers of a worker are asked where they answer from the disk or by themselves; of a backend
there is only the head that would be sent to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..config.checks.reader import Reader, reach
from ..config.model import (
    Config,
    FastCgiAction,
    FilesAction,
    ProxyAction,
    RedirectAction,
    RefuseAction,
    RespondAction,
    Route,
)
from ..errors import Fault
from ..handlers.fastcgi.handler import scripts_of
from ..handlers.fastcgi.scripts import AddSlash, Nothing, Run, SendFile
from ..handlers.files.document_root import Unreadable
from ..handlers.files.handler import FileHandler, below_root
from ..handlers.redirect import Redirect
from ..handlers.upstream.request_head import Forwarder, host_for
from ..protocol.message import Request, Response
from ..protocol.trace_context import parent_of
from ..sites.handlers import told_of_users
from ..transport.clock import Clock
from .rows import Row, Steps, refused


def of(config: Config, route: Route, request: Request) -> Steps:
    """Yield what the action of a route makes of a request: its handler, and the answer."""
    match route.action:
        case FastCgiAction() as action:
            yield from _scripts(config, route, action, request)
        case FilesAction() as action:
            yield from _files(config, route, action, request)
        case RespondAction(answer):
            after = f", Retry-After: {answer.retry_after:.0f}" if answer.retry_after else ""
            place = route.origins.get("respond", "")
            yield Row("answer", f"{answer.status}{after}: {answer.body[:60]!r}", place)
        case RedirectAction() as action:
            try:
                response = Redirect(action).handle(request)
            except Fault as fault:
                yield refused(fault)
                return
            location = dict(response.fields)[b"location"].decode("latin-1")
            place = route.origins.get("redirect", "")
            yield Row("answer", f"{response.status}, Location: {location}", place)
        case ProxyAction() as action:
            yield from _backend(config, route, action, request)
        case RefuseAction(status):
            yield Row("answer", f"{status}: the site serves nothing", place_of(route))


def place_of(route: Route) -> str:
    """Return where the configuration gives the action of a route; "" where nothing does."""
    return next((route.origins[key] for key in ("respond", "root", "backend", "redirect")
                 if key in route.origins), "")  # fmt: skip


def _scripts(config: Config, route: Route, action: FastCgiAction, request: Request) -> Steps:
    scripts = scripts_of(action)
    try:
        path = below_root(request)
    except Fault as fault:
        yield refused(fault)
        return
    match scripts.find(path, 0.0):
        case Run(script, path_info):
            place = route.origins.get("fastcgi", "")
            yield Row("script", scripts.root.name(script), place)
            yield Row("path info", os.fsdecode(path_info) or "none")
            yield from _backend(config, route, action, request)
        case SendFile():
            yield from _files(config, route, FilesAction(action.root, action.files), request)
        case AddSlash():
            yield Row("answer", f"308, Location: {request.path.decode('latin-1')}/")
        case Unreadable(why):
            yield refused(Fault("unreadable", why))
        case Nothing():
            yield refused(Fault("not_found"))


def _files(config: Config, route: Route, action: FilesAction, request: Request) -> Steps:
    root, place = action.root, route.origins.get("root", "")
    yield Row("handler", f"files below {root}", place)
    handler = FileHandler(root, Clock(), action.rules)
    try:
        response: Response | Fault = yield _awaited(handler, request)
        if isinstance(response, Fault):
            yield refused(response)
            return
        path = root / os.fsdecode(below_root(request))
        if request.path.endswith(b"/") and action.rules.index:
            names = [path / name for name in action.rules.index]
            found = [name for name in names if name.exists()]
            if found or action.rules.listing.format == "off":
                path = (found or names)[0]
        endings = (path.with_name(path.name + ending) for ending in action.rules.extensions)
        if not path.exists() and path.name:
            path = next((one for one in endings if one.exists()), path)
        if not path.exists() and response.status == 200 and action.rules.fallback is not None:
            path = root / action.rules.fallback.lstrip("/")
        yield Row("file", str(path))
        reader = Reader(config.uid, config.gid, here=os.geteuid() == config.uid)
        trouble = reach(path, os.R_OK, reader) if path.exists() else None
        if trouble is not None:
            yield Row("answer", f"404: {trouble[0]} ({trouble[1]})")
            return
        yield Row("answer", _answer(response))
        response.discard()
    except Fault as fault:
        yield refused(fault)
    finally:
        handler.close()


async def _awaited(handler: FileHandler, request: Request) -> Response | Fault:
    try:
        answer = handler.handle(request)
        return answer if isinstance(answer, Response) else await answer
    except Fault as fault:
        return fault


def _answer(response: Response) -> str:
    wanted = (b"content-type", b"content-length", b"content-encoding", b"location")
    said = [f"{name.decode()}: {value.decode('latin-1')}" for name, value in response.fields
            if name in wanted]  # fmt: skip
    return ", ".join([str(response.status), *said])


def _backend(config: Config, route: Route, action: ProxyAction, request: Request) -> Iterator[Row]:
    place = route.origins.get("backend", "") or route.origins.get("fastcgi", "")
    urls = [one.url + (" (draining)" if one.drain else "") for one in action.backends]
    if len(urls) == 1:
        yield Row("backend", urls[0], place)
    else:
        yield Row("backend", f"one of {', '.join(urls)} by {action.balance}", place)
    backend = action.backends[0]
    given = host_for(action, backend)
    host = None if given is None else given.encode("ascii")
    forwarder = Forwarder(
        config.trusted_proxies,
        action.via,
        action.request_headers,
        told_of_users(config.sites).get(action, frozenset()),
        traces=config.tracing is not None,
    )
    try:
        head = forwarder.head(request, host, b"", backend.prefix.encode())
    except Fault as fault:
        yield refused(fault)
        return
    for line in head.decode("latin-1").split("\r\n"):
        if line:
            yield Row("sent on", line)
    if forwarder.traces and config.tracing is not None:
        number = parent_of(request.fields)
        said = (
            f"of trace {number.trace_id}, which the request names" if number else "of a new trace"
        )
        share = f"{config.tracing.sample:.2%}".replace(".00%", "%")
        text = f"traceparent: {said}; recorded for {share} of the requests"
        yield Row("sent on", text, config.origins.get("tracing", ""))
    yield Row("answer", "the backend's; X-Request-Id as sent on tells it in both logs")

"""Static files: GET and HEAD of what lies in a document root.

A request's path is read as the router reads it and looked for below the root (`document_root`).
The file is taken in the encoding that the client accepts (`file_cache`), then come the client's
conditions (`conditional`) and ranges (`ranges`, `partial`). A file that was sent a moment ago is in
the cache: then a request costs two look-ups and no system call.

The response is returned at once, and a large body is read while it is sent. Only what takes longer
than the event loop may wait is done in a thread: listing a folder, and hashing a large file that is
said to be immutable.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial as bound
from pathlib import Path

from ...bounded_cache import LONGEST_KEY, remember
from ...config.schema.files import FileRules
from ...errors import Fault
from ...protocol.message import Fields, FileBody, Request, Response
from ...protocol.paths import one_slash, sendable, understood
from ...transport.clock import Clock
from . import ranges
from .accept import HTML, XHTML, accept_of
from .cache_control import CacheControl
from .conditional import FIELDS as CONDITIONS
from .conditional import evaluate, range_applies
from .document_root import Directory, DocumentRoot, Elsewhere, Unreadable
from .file_cache import FileCache, Outcome, Representation, Unhashed, content_hash
from .folder_pages import FolderPages
from .partial import partial
from .threads import in_thread

_ALLOW = [(b"allow", b"GET, HEAD")]
# The fields that make a difference to which bytes are sent.
_MATTER = CONDITIONS | {b"range"}
_MOST_PATHS = 8192
_NOT_FOUND = b"404.html"
_VARY = (b"vary", b"accept")
# How long the absence of that page is believed, in seconds.
_TRUSTED = 1.0
_USUAL = FileRules()

Asked = dict[bytes, bytes] | None
Answer = Response | Awaitable[Response]


class FileHandler:
    """Answers from one document root, by ``rules``."""

    def __init__(
        self,
        root: Path,
        clock: Clock,
        rules: FileRules = _USUAL,
        answers: Callable[[bytes], bool] | None = None,
        keeps: Callable[[bytes], bool] | None = None,
    ) -> None:
        """``answers``: whether the file at a path below the root answers a request for it, where
        sending files is not all that the route does; ``keeps``: whether the file of this name is
        not sent, under whatever name."""
        self._root = DocumentRoot(root)
        sent = self._root if keeps is None else DocumentRoot(root, keeps)
        self._files = FileCache(sent, CacheControl(rules.cache_control))
        self._folders = FolderPages(self._root, rules.listing, answers)
        self._clock = clock
        self._rules = rules
        self._index = [name.encode() for name in rules.index]
        self._extensions = [one.encode() for one in rules.extensions]
        self._fallback = None if rules.fallback is None else understood(rules.fallback.encode())[1:]
        # By path as it was sent and prefix of the route: the name of the file below the root.
        self._paths: dict[tuple[bytes, bytes], bytes] = {}
        self._no_page_until = 0.0

    def handle(self, request: Request) -> Answer:
        """The response. Raises `Fault`: not_found, unreadable, no_index, method_not_allowed,
        bad_path, or no_capacity where a file cannot be opened for want of descriptors."""
        method = request.method
        if method not in (b"GET", b"HEAD"):
            raise Fault("method_not_allowed", fields=_ALLOW)
        cached = request.cached_fields
        accept_encoding = cached.accept_encoding if cached is not None else None
        asked: Asked = None
        for name, value in request.uncached_fields:  # none that matters is cached
            if name == b"accept-encoding":
                accept_encoding = value
            elif name in _MATTER:
                if asked is None:
                    asked = {}
                # Lists may come in several lines (RFC 9110 §5.3).
                asked[name] = asked[name] + b", " + value if name in asked else value
        named = self._paths.get((request.path, request.matched))
        if named is None:
            named = self._name(request)
        try:
            found = self._files.get(named, accept_encoding, self._clock.now)
            if not isinstance(found, Representation):
                look = bound(self._look, accept_encoding)
                return self._not_cached(request, found, named, asked, look)
        except OSError as error:
            detail = f"a file could not be opened: {error.strerror}"
            raise Fault("no_capacity", detail) from None
        found.used = True
        if asked is not None:
            return self._conditional(request, found, asked)
        return found.response or _whole(found)

    def fault(self, request: Request, kind: str, detail: str = "") -> Fault:
        """A fault of this kind, with the page that the root has for what is not there."""
        return self._fault(kind, detail, bound(self._look, request.field(b"accept-encoding")))

    def close(self) -> None:
        self._files.close()

    def _name(self, request: Request) -> bytes:
        """The path of the file below the root; for a directory, that of its index."""
        key = (request.path, request.matched)
        path = below_root(request)
        if _is_folder(path) and self._index:
            path += self._index[0]
        if len(request.path) <= LONGEST_KEY:
            remember(self._paths, key, path, _MOST_PATHS)
        return path

    def _look(self, accept_encoding: bytes | None, path: bytes) -> Outcome:
        return self._files.get(path, accept_encoding, self._clock.now)

    # Where the path is not that of a file

    def _not_cached(
        self,
        request: Request,
        found: Outcome,
        named: bytes,
        asked: Asked,
        look: Callable[[bytes], Outcome],
    ) -> Answer:
        """The answer where ``found``, at ``named``, is no file whose bytes are here. Raises `Fault`
        and OSError."""
        path = below_root(request)
        folder = _is_folder(path)
        if not folder and isinstance(found, Directory):
            # A path that was rewritten may lack a slash that the client's has.
            folder = request.original.path.endswith(b"/")
            path += b"/" if folder else b""
            found = look(path + self._index[0]) if folder and self._index else found
        if found is None or isinstance(found, Directory):
            found = self._guess(request, path, folder, found, look)
        if isinstance(found, Representation | Unhashed):
            return self._send(request, found, asked, look)
        if folder and found is None:
            # No index; and what would be its directory may be a link to the web.
            there = look(path)
            if isinstance(there, Directory):
                if self._rules.listing.format != "off":
                    return self._folders.answer(request, path, asked or {}, self._clock.now)
                found = there
            elif not isinstance(there, Representation | Unhashed):
                found = there
        if isinstance(found, Unreadable):
            raise self._fault("unreadable", found.why, look)
        if isinstance(found, Elsewhere):
            # 302: the link may lead elsewhere tomorrow, and nobody should remember this one.
            return _redirect(302, found.target)
        if isinstance(found, Directory) and not folder:
            return with_slash(request)
        if self._fallback is not None and _wants_page(request):
            instead = look(self._fallback)
            if isinstance(instead, Representation | Unhashed):
                return _by_accept(self._send(request, instead, asked, look))
            raise self._fault("unreadable", self._missing(instead), look)
        if isinstance(found, Directory):
            names = " or ".join(self._rules.index) or "index"
            raise self._fault("no_index", f"{self._root.name(path)} has no {names}", look)
        raise self._fault("not_found", "", look)

    def _guess(
        self,
        request: Request,
        path: bytes,
        folder: bool,
        found: Outcome,
        look: Callable[[bytes], Outcome],
    ) -> Outcome:
        """The file that is meant: the first index of a folder that is there (but for the first
        name), or the file whose ending was left out. Else None for a folder, or ``found``."""
        for more in self._index[1:] if folder else self._extensions:
            there = look(path + more)
            if isinstance(there, Representation) and len(request.path) <= LONGEST_KEY:
                self._note_guess((request.path, request.matched), path + more)
            if isinstance(there, Representation | Unhashed | Unreadable | Elsewhere):
                return there
        return None if folder else found

    def _note_guess(self, key: tuple[bytes, bytes], name: bytes) -> None:
        """Nothing to note: only `GuessingFileHandler` keeps guesses."""

    def _missing(self, instead: Outcome) -> str:
        if isinstance(instead, Unreadable):
            return instead.why
        return f"the fallback {self._root.name(self._fallback or b'')} does not exist"

    def _fault(self, kind: str, detail: str, look: Callable[[bytes], Outcome]) -> Fault:
        """The fault, with the page that the root has for it."""
        fault = Fault(kind, detail)
        varies = [] if self._fallback is None else [_VARY]
        found = None
        if self._clock.now >= self._no_page_until:
            found = look(_NOT_FOUND)
            if not isinstance(found, Representation):
                _end(found)
                self._no_page_until = self._clock.now + _TRUSTED
        if isinstance(found, Representation):
            fault.page = _page(found, kind, varies)
        else:
            fault.fields = varies
        return fault

    def _send(
        self,
        request: Request,
        found: Representation | Unhashed,
        asked: Asked,
        look: Callable[[bytes], Outcome],
    ) -> Answer:
        if isinstance(found, Unhashed):
            return self._after_hashing(request, found)
        found.used = True
        if asked is not None:
            return self._conditional(request, found, asked)
        return found.response or _whole(found)

    async def _after_hashing(self, request: Request, found: Unhashed) -> Response:
        """The response with a large file, when its content has been hashed."""
        fd = found.fd

        def work() -> bytes:
            try:
                return content_hash(fd)
            finally:
                os.close(fd)

        hashing = in_thread(("hash", found.identity), work, unused=bound(os.close, fd))
        self._files.learn(found, await hashing)
        answer = self.handle(request)
        return answer if isinstance(answer, Response) else await answer

    # Conditions

    def _conditional(
        self, request: Request, found: Representation, asked: dict[bytes, bytes]
    ) -> Response:
        outcome = evaluate(asked, found.etag, found.modified)
        if outcome == 304:
            return Response(304, _only(found.fields, _OF_304), handler="static")
        if outcome == 412:
            return Response(412, [], handler="static")
        if (
            b"range" in asked
            and request.method == b"GET"  # §14.2: defined for nothing else
            and range_applies(asked, found.etag, found.modified, self._clock.unix)
        ):
            try:
                wanted = ranges.parse(asked[b"range"], found.size)
            except ranges.Unsatisfiable:
                fields = [(b"content-range", b"bytes */%d" % found.size)]
                return Response(416, fields, handler="static")
            if wanted is not None:
                return partial(found, wanted)
        return found.response or _whole(found)


class GuessingFileHandler(FileHandler):
    """The same where a path may stand for another name: what was guessed is good for a second."""

    def __init__(self, root: Path, clock: Clock, rules: FileRules = _USUAL) -> None:
        super().__init__(root, clock, rules)
        self._guesses: set[tuple[bytes, bytes]] = set()
        self._guessed_until = 0.0

    def handle(self, request: Request) -> Answer:
        if self._guesses and self._clock.now >= self._guessed_until:
            for key in self._guesses:
                self._paths.pop(key, None)
            self._guesses.clear()
        return super().handle(request)

    def _note_guess(self, key: tuple[bytes, bytes], name: bytes) -> None:
        if not self._guesses:
            self._guessed_until = self._clock.now + _TRUSTED
        self._guesses.add(key)
        remember(self._paths, key, name, _MOST_PATHS)
        if len(self._guesses) > _MOST_PATHS:
            self._guessed_until = 0.0


def file_handler(root: Path, clock: Clock, rules: FileRules) -> FileHandler:
    """The handler of a document root."""
    guesses = rules.extensions or len(rules.index) > 1
    return (GuessingFileHandler if guesses else FileHandler)(root, clock, rules)


def below_root(request: Request) -> bytes:
    """The path that is asked for, relative to the document root. Raises `Fault` ("bad_path")."""
    return understood(request.path).removeprefix(request.matched).removeprefix(b"/")


def with_slash(request: Request) -> Response:
    """The redirect to the folder that a client has asked for without the slash at its end."""
    asked = request.original
    query = b"?" + asked.query if b"?" in asked.target else b""
    return _redirect(308, one_slash(sendable(asked.path) + b"/" + query))


def _page(found: Representation, kind: str, varies: Fields) -> Response:
    """The response with a page in place of a fault's words; the same each time, so that filters
    may keep what they make of it."""
    plain = found.response
    if plain is None:
        return _as_error(_whole(found), kind, varies)
    return plain.changed_once((_page, kind), lambda page: _as_error(page, kind, varies))


def _as_error(page: Response, kind: str, varies: Fields) -> Response:
    page.status, page.handler, page.error = 404, "error", kind
    page.fields = [*_only(page.fields, _OF_PAGES), *varies]
    page.cached = None
    return page


def _by_accept(answer: Answer) -> Answer:
    """The answer with the word that others may get another (RFC 9110 §12.5.5)."""
    if not isinstance(answer, Response):
        return _later_by_accept(answer)
    if _VARY in answer.fields:
        return answer
    return answer.changed_once(_by_accept, _varying) if answer.shared else _varying(answer)


def _varying(answer: Response) -> Response:
    answer.add_field(*_VARY)
    return answer


async def _later_by_accept(waiting: Awaitable[Response]) -> Response:
    answer = _by_accept(await waiting)
    assert isinstance(answer, Response)  # noqa: S101 - nothing is left to be awaited
    return answer


def _is_folder(path: bytes) -> bool:
    return not path or path.endswith(b"/")


def _end(found: Outcome) -> None:
    if isinstance(found, Unhashed):
        os.close(found.fd)


def _wants_page(request: Request) -> bool:
    """Whether a request asks for HTML: it says so, or takes anything and asks for no name with an
    ending, as assets have. Browsers ask for scripts and pictures with ``*/*`` and without html."""
    accept = accept_of(request)
    if max(accept.named(HTML), accept.named(XHTML)) > 0:
        return True
    name = request.original.path.rpartition(b"/")[2]
    return accept.quality(HTML) > 0 and b"." not in name


# RFC 9110 §15.4.5: what a 304 must repeat of the 200.
_OF_304 = frozenset({b"cache-control", b"etag", b"vary", b"last-modified"})
# What a page for errors keeps of its file: nothing by which the error could be kept or compared.
_OF_PAGES = frozenset({b"content-type", b"content-encoding", b"content-length", b"vary"})


def _only(fields: Fields, names: Iterable[bytes]) -> Fields:
    return [(name, value) for name, value in fields if name in names]


def _redirect(status: int, location: bytes) -> Response:
    return Response(status, [(b"location", location)], handler="static")


def _whole(found: Representation) -> Response:
    """The response that sends all of a large file."""
    found.users += 1
    body = FileBody(found.fd, 0, found.size, found.release)
    return Response(200, found.fields, body, handler="static", cached=found.head)

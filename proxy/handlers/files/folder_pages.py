"""The response that says what a folder holds: as a page, or as JSON for clients that prefer it.

The folder is looked at and the page made in a thread (`threads`); clients that ask for the same
meanwhile wait for the same page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

from acme_client.late_dataclass import dataclass

from ...bounded_cache import remember
from ...config.schema.files import Listing
from ...protocol.message import Request, Response
from ...protocol.paths import understood
from .accept import HTML, JSON, accept_of
from .conditional import evaluate
from .document_root import DocumentRoot
from .listing import TRUSTED, Listings, Order, Sort, in_order, wanted
from .listing_page import POLICY, document, page
from .pieces import PIECE, Pieces
from .threads import in_thread

# Pages that are kept while what they show is believed; and the largest of them, in bytes.
_MOST_KEPT = 64
_LARGEST_KEPT = 256 * 1024
_Key = tuple[bytes, str, str, Sort, Order]
_OF_TAGS = frozenset({b"if-match", b"if-none-match"})


@dataclass(frozen=True, slots=True)
class _Page:
    """``looked_at``: when what it shows was found, in monotonic seconds."""

    body: bytes
    etag: bytes
    looked_at: float


class FolderPages:
    """Lists the folders of a document root by ``rules``."""

    def __init__(
        self, root: DocumentRoot, rules: Listing, answers: Callable[[bytes], bool] | None = None
    ) -> None:
        self._listings = Listings(root, answers)
        self._rules = rules
        self._pages: dict[_Key, _Page] = {}

    def answer(
        self, request: Request, path: bytes, asked: Mapping[bytes, bytes], now: float
    ) -> Response | Awaitable[Response]:
        """The response for the folder at ``path``, below the root and with a slash at its end.
        ``asked`` are the conditions of the request, ``now`` is monotonic. Awaiting it raises
        `Fault` ("unreadable", "no_capacity")."""
        form = self._rules.format
        if form == "auto":
            accept = accept_of(request)
            form = "json" if accept.quality(JSON) > accept.quality(HTML) else "html"
        sort, order = wanted(request.query, self._rules.sort)
        shown = understood(request.original.path).decode("utf-8", "replace")
        key = path, shown, form, sort, order
        known = self._pages.get(key)
        if known is not None and now - known.looked_at < TRUSTED:
            return self._response(known, form, asked)
        made = in_thread((self, *key), lambda: self._make(key, now))
        return self._later(made, key, form, asked)

    def _make(self, key: _Key, now: float) -> _Page:
        """In a thread."""
        path, shown, form, sort, order = key
        folder = self._listings.of(path, now)
        entries = in_order(folder, sort, order)
        if form == "json":
            body = document(entries)
        else:
            # Nobody is led above the folder that a route is for.
            body = page(shown, entries, sort, order, above=bool(path), cut=folder.cut)
        etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()
        return _Page(body, etag, folder.looked_at)

    async def _later(
        self, making: Awaitable[_Page], key: _Key, form: str, asked: Mapping[bytes, bytes]
    ) -> Response:
        made = await making
        if len(made.body) <= _LARGEST_KEPT:
            remember(self._pages, key, made, _MOST_KEPT)
        return self._response(made, form, asked)

    def _response(self, made: _Page, form: str, asked: Mapping[bytes, bytes]) -> Response:
        kind = b"application/json" if form == "json" else b"text/html; charset=utf-8"
        fields = [
            (b"etag", made.etag),
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if self._rules.format == "auto":
            fields.append((b"vary", b"accept"))
        tags = {name: value for name, value in asked.items() if name in _OF_TAGS}
        outcome = evaluate(tags, made.etag, 0)
        if outcome != 200:
            # A browser that has the page takes the fields of a 304 for it, and the policy is one.
            return Response(outcome, fields if outcome == 304 else [], handler="static")
        fields += [(b"content-type", kind), (b"content-length", b"%d" % len(made.body))]
        # In pieces, because what compresses it lets others have their turn between pieces.
        body = made.body if len(made.body) <= PIECE else Pieces(made.body)
        return Response(200, fields, body, handler="static")

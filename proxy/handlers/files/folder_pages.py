"""The response that says what a folder holds: as a page, or as JSON for clients that prefer it.

The folder is looked at and the page made in a thread (`threads`); clients that ask for the same
meanwhile wait for the same page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Mapping

from ...config.schema.files import Listing
from ...protocol.message import Request, Response
from ...protocol.paths import understood
from .accept import HTML, JSON, accept_of
from .conditional import evaluate
from .document_root import DocumentRoot
from .listing import Listings, in_order, wanted
from .listing_page import POLICY, document, page
from .threads import in_thread

_OF_TAGS = frozenset({b"if-match", b"if-none-match"})


class FolderPages:
    """Lists the folders of a document root by ``rules``."""

    def __init__(self, root: DocumentRoot, rules: Listing) -> None:
        self._listings = Listings(root)
        self._rules = rules

    def answer(
        self, request: Request, path: bytes, asked: Mapping[bytes, bytes], now: float
    ) -> Awaitable[Response]:
        """The response for the folder at ``path``, below the root and with a slash at its end.
        ``asked`` are the conditions of the request, ``now`` is monotonic. Awaiting it raises
        `Fault` ("unreadable", "no_capacity")."""
        form = self._rules.format
        if form == "auto":
            accept = accept_of(request)
            form = "json" if accept.quality(JSON) > accept.quality(HTML) else "html"
        sort, order = wanted(request.query, self._rules.sort)
        shown = understood(request.original.path).decode("utf-8", "replace")

        def work() -> bytes:
            folder = self._listings.of(path, now)
            entries = in_order(folder, sort, order)
            if form == "json":
                return document(entries)
            # Nobody is led above the folder that a route is for.
            return page(shown, entries, sort, order, above=bool(path), cut=folder.cut)

        key = (id(self), path, shown, form, sort, order)
        return self._response(in_thread(key, work), form, asked)

    async def _response(
        self, made: Awaitable[bytes], form: str, asked: Mapping[bytes, bytes]
    ) -> Response:
        body = await made
        kind = b"application/json" if form == "json" else b"text/html; charset=utf-8"
        etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()
        fields = [
            (b"etag", etag),
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        if self._rules.format == "auto":
            fields.append((b"vary", b"accept"))
        tags = {name: value for name, value in asked.items() if name in _OF_TAGS}
        outcome = evaluate(tags, etag, 0)
        if outcome != 200:
            # A browser that has the page takes the fields of a 304 for it, and the policy is one.
            return Response(outcome, fields if outcome == 304 else [], handler="static")
        return Response(200, [(b"content-type", kind), *fields], body, handler="static")

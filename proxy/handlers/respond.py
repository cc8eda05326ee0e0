"""A fixed answer to every request: `respond`. With 503 and Retry-After it is maintenance."""

from __future__ import annotations

from ..config.schema.answers import Respond
from ..protocol.h1.serializer import SerialisedHead, serialise
from ..protocol.message import Fields, Request, Response

# RFC 9110 §15.3.5, §15.3.6
_WITHOUT_CONTENT = frozenset({204, 205})


class FixedAnswer:
    """Answers what ``answer`` says."""

    def __init__(self, answer: Respond) -> None:
        fields: Fields = []
        body = answer.body.encode("utf-8", "replace")
        if answer.status in _WITHOUT_CONTENT:
            body = b""
        if body:
            fields.append((b"content-type", answer.content_type.encode("ascii")))
        if answer.status != 204:  # RFC 9110 §8.6
            fields.append((b"content-length", b"%d" % len(body)))
        if answer.retry_after is not None:
            fields.append((b"retry-after", b"%d" % max(1, round(answer.retry_after))))
        head = SerialisedHead(serialise(answer.status, fields))
        self._response = Response(
            answer.status, fields, body, handler="respond", cached=head, shared=True
        )

    def handle(self, _request: Request) -> Response:
        """The response, the same for all requests."""
        return self._response

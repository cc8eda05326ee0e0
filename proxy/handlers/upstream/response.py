"""What a client gets of a backend's response head: its fields, and its bytes where they are ready.

Framing is left to the protocol towards the client; Content-Length goes along where a body of that
length follows, or where the response to a HEAD says what a GET would have. Heads that a backend
repeats are worked out once (`ResponseHead.passed_on`).
"""

from __future__ import annotations

from ...protocol.h1.response_parser import ResponseHead, has_no_body
from ...protocol.h1.serializer import STATUS_LINES, SerialisedHead
from ...protocol.message import Fields
from .request_head import PSEUDONYM, VIA_LINE, end_to_end

_VIA = (b"via", b"1.1 " + PSEUDONYM)


def passed_on(head: ResponseHead, method: bytes) -> tuple[Fields, SerialisedHead | None]:
    """The fields for the client, and the head in bytes; None where the protocol has to make them.
    Nobody may change either."""
    bodiless = has_no_body(head.status, method)
    fields = end_to_end(head.fields) if head.onward is None else [*head.onward]
    fields.append(_VIA)
    if not bodiless:
        length = b"" if head.length < 0 else b"%d" % head.length
    else:
        length = announced_length(head)
    if length:
        fields.append((b"content-length", length))
    if head.onward is None:
        return fields, None
    line = b"content-length: %b\r\n" % length if length else b""
    wire = b"%b%b%b%b" % (STATUS_LINES[head.status], head.lines, VIA_LINE, line)
    serialised = SerialisedHead(wire, head.dated)
    if not bodiless:
        head.passed_on = fields, serialised
    return fields, serialised


def announced_length(head: ResponseHead) -> bytes:
    """The Content-Length of a response without a body: what a GET would have had; b"" without."""
    return next((value for name, value in head.fields if name == b"content-length"), b"")

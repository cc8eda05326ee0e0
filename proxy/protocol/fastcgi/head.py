"""The head of a script's answer (RFC 3875 §6), as the head of an HTTP response. Pure.

A script says its status in a field, or none; a Location without a status is a redirect. A Location
that is a path alone would be a *local redirect* (§6.2.2), which the RFC has the server follow by
itself. The client is sent there instead, as by nginx: asking anew, it meets the filters of the
route that it is sent to (a password, an address rule), which a redirect inside the server would
walk around.

A script is believed less than a backend that speaks HTTP: what it says passes the strict parser of
responses, so that no CR, LF or NUL of its input makes two responses of one.
"""

from __future__ import annotations

import re

from ...errors import Fault
from ..h1 import response_parser
from ..h1.grammar import HOP_BY_HOP, OWS
from ..h1.response_parser import LARGEST_HEAD, FastResponseParser, ResponseHead, has_no_body
from ..h1.serializer import STATUS_LINES

# §6.2 has NL as LF or CR LF. The first of them that follows another ends the head.
END = re.compile(rb"\r?\n\r?\n")
_NEWLINE = re.compile(rb"\r?\n")
_STATUS = re.compile(rb"([2-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")


def parse(head: bytes, method: bytes, parser: FastResponseParser | None = None) -> ResponseHead:
    """The head, without its empty line; ``parser`` goes first where there is one. ``length`` of
    what is returned is negative where only the end of the request will tell. Raises `Fault`
    ("backend_protocol")."""
    status = b""
    lines = []
    located = measured = False
    for line in _NEWLINE.split(head):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon:
            raise Fault("backend_protocol", f"a line without a colon: {line[:64]!r} (RFC 3875 §6)")
        if name == b"status":
            if status:
                raise Fault("backend_protocol", "two fields Status (RFC 3875 §6.3.3)")
            found = _STATUS.fullmatch(value.strip(OWS))
            if found is None:
                raise Fault("backend_protocol", f"a status that is none: {value[:32]!r}")
            status = found[1]
            continue
        located = located or name == b"location"
        measured = measured or name == b"content-length"
        if name not in HOP_BY_HOP:  # the framing is not a script's to write
            lines.append(line + b"\r\n")
    code = int(status) if status else 302 if located else 200
    if not measured and not has_no_body(code, method):
        lines.append(b"transfer-encoding: chunked\r\n")  # as good as any word for "unknown"
    text = b"%b%b\r\n" % (STATUS_LINES[code], b"".join(lines))
    parsed = parser.parse(text, method) if parser is not None else None
    if parsed is None:
        strict = response_parser.parse(text, method)
        parsed = ResponseHead(strict.status, strict.fields, strict.length, close=False)
    return parsed


def too_long(data: bytes) -> bool:
    """Whether this cannot be the beginning of a head any more."""
    return len(data) > LARGEST_HEAD

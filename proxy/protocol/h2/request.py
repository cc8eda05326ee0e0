"""From decoded fields to a request: the strict layer of HTTP/2, as `strict_parser` is HTTP/1.1's.

A proxy turns HTTP/2 into HTTP/1.1, where a name, a value or a path that is more than it seems
becomes a request of its own behind the one that was checked. So whatever the grammar of HTTP/1.1
would not have let in (`grammar`) does not come in here either, and what HTTP/2 says twice
(`:authority` and Host, Content-Length and the frames' lengths) has to agree. Everything refused
here is malformed in the sense of RFC 9113 §8.1.1: the stream is reset, the connection and its other
streams live on.

Pure.
"""

from __future__ import annotations

import re

from acme_client.late_dataclass import dataclass

from ..exchange import LOGGED, PartialHead
from ..h1.chunked import is_forbidden_trailer
from ..h1.grammar import (
    BAD,
    CONTENT_LENGTH,
    TARGET_MARKS,
    VALUE_MARKS,
    split_authority,
)
from . import priority
from .events import Answer, Head
from .hpack import STATIC, Block, Field

# RFC 9113 §8.2.1 and RFC 9110 §5.6.2: a token without upper case.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_KNOWN_NAMES = frozenset(name for name, _ in STATIC if not name.startswith(b":"))
# RFC 9113 §8.2.2; HTTP2-Settings is of the upgrade that RFC 9113 dropped.
_OF_A_CONNECTION = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)
# A token without lower case: methods are case-sensitive (RFC 9110 §9.1), and those who write "get"
# are out to find a reader who takes it for GET.
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]{1,32}")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_LOOKED_AT = frozenset({b"host", b"content-length", b"cookie", b"expect", b"priority"})
_WHITE = b" \t"
_COLON = ord(":")


class Malformed(Exception):
    """RFC 9113 §8.1.1; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What requests have to obey. ``scheme`` is the connection's; ``extended_connect``: whether
    extended CONNECT was offered (RFC 8441)."""

    scheme: bytes = b"https"
    target_size: int = 8 * 1024
    extended_connect: bool = False


def judge(name: bytes, value: bytes) -> str | None:
    """What is wrong with a field of any message. Which pseudo-fields there may be, and where, is
    not judged here."""
    if name not in _KNOWN_NAMES and not name.startswith(b":"):
        if _NAME.fullmatch(name) is None:
            return f"a field is named {name[:32]!r}"
        if name in _OF_A_CONNECTION:
            return f"the field {name.decode()} belongs to HTTP/1.1"
        if name == b"te" and value.lower() != b"trailers":
            return "TE is not trailers"
    elif name == b"transfer-encoding":  # stands in the static table all the same
        return "the field transfer-encoding belongs to HTTP/1.1"
    if value:
        if BAD in value.translate(VALUE_MARKS):
            return f"the value of {name[:32]!r} holds a control character"
        if value[0] in _WHITE or value[-1] in _WHITE:
            return f"white space around the value of {name[:32]!r}"
    return None


def read(stream: int, block: Block, end: bool, rules: Rules) -> Head:
    """The request that a block says. Raises `Malformed`."""
    if block.too_large:
        return Head(stream, end, fault="head_too_large", partial=what_could_be_read(block))
    if block.fault is not None:
        raise Malformed(block.fault)
    pseudo, fields = _split(block.fields)
    head = Head(stream, end)
    _regular(head, fields)
    method = pseudo.get(b":method", b"")
    if _METHOD.fullmatch(method) is None:
        raise Malformed(f"the method {method[:32]!r}")
    head.method = method
    head.protocol = pseudo.get(b":protocol")
    if method == b"CONNECT" and head.protocol is None:
        return _plain_connect(head, pseudo)
    if head.protocol is not None and not (rules.extended_connect and method == b"CONNECT"):
        raise Malformed(":protocol was not offered")
    head.scheme = pseudo.get(b":scheme", b"")
    if head.scheme != rules.scheme:
        raise Malformed(f"the scheme {head.scheme[:32]!r}")
    check_target(pseudo.get(b":path", b""), method)
    head.target = pseudo[b":path"]
    _authority(head, pseudo.get(b":authority"))
    if len(head.target) > rules.target_size:
        head.fault = "target_too_long"
    elif method == b"TRACE":  # RFC 9110 §9.3.8: an echo of credentials
        head.fault = "method_not_allowed"
    if block.never_indexed:
        head.never_indexed = tuple(set(block.never_indexed))
    return head


def what_could_be_read(block: Block) -> PartialHead:
    """Method, target and host of a block that is no request: whatever stands first in their places,
    cut to a length for the log."""
    said: dict[bytes, bytes] = {}
    for name, value in block.fields:
        said.setdefault(name, value[:LOGGED])
    host = said.get(b":authority") or said.get(b"host")
    return PartialHead(said.get(b":method"), said.get(b":path"), host)


def check_target(target: bytes, method: bytes) -> None:
    """RFC 9113 §8.3.1, and the bytes that HTTP/1.1 would let in. Raises `Malformed`."""
    if BAD in target.translate(TARGET_MARKS) or not (
        target.startswith(b"/") or (target == b"*" and method == b"OPTIONS")
    ):
        raise Malformed(f"the path {target[:64]!r}")


def trailers(block: Block) -> list[Field]:
    """The fields behind a body. Raises `Malformed`."""
    if block.too_large:
        raise Malformed("trailers that are too large")
    if block.fault is not None:
        raise Malformed(block.fault)
    for name, _ in block.fields:
        if name[0] == _COLON or is_forbidden_trailer(name):
            raise Malformed(f"the trailer {name[:32]!r} is not allowed")
    return block.fields


def read_answer(stream: int, block: Block, end: bool) -> Answer:
    """The response that a block says. Raises `Malformed`."""
    if block.too_large:
        raise Malformed("the head is too large")
    if block.fault is not None:
        raise Malformed(block.fault)
    fields = block.fields
    if not fields or fields[0][0] != b":status":
        raise Malformed("no :status")
    status = fields[0][1]
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) <= 599:
        raise Malformed(f":status {status[:32]!r}")
    if status == b"101":
        raise Malformed("101, which HTTP/2 does not have")
    length = None
    for name, value in fields[1:]:
        if name[0] == _COLON:
            raise Malformed(f"the field {name[:32]!r} in an answer")
        if name == b"content-length":
            if length is not None or CONTENT_LENGTH.fullmatch(value) is None:
                raise Malformed(f"Content-Length {value[:32]!r}")
            length = int(value)
    if status[0] == ord("1") and end:
        raise Malformed("an interim answer that ends the stream")
    return Answer(stream, end, int(status), fields[1:], length)


def _split(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    """The pseudo-fields, which stand first, each once (RFC 9113 §8.3), and the others."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[0] != _COLON:
            break
        if name not in _PSEUDO or name in pseudo:
            raise Malformed(f"the pseudo-field {name[:32]!r}")
        pseudo[name] = value
    return pseudo, fields[len(pseudo) :]


def _regular(head: Head, fields: list[Field]) -> None:
    """Take what concerns us from the regular fields; join the cookies (RFC 9113 §8.2.3)."""
    crumbs = 0
    for name, value in fields:
        if name in _LOOKED_AT:
            if name == b"cookie":
                crumbs += 1
            elif name == b"content-length":
                if head.length is not None or CONTENT_LENGTH.fullmatch(value) is None:
                    raise Malformed(f"Content-Length {value[:32]!r}")
                head.length = int(value)
                if head.end and head.length:
                    raise Malformed(f"Content-Length {head.length} without a body")
            elif name == b"host":
                if head.authority:
                    raise Malformed("two Host fields")
                head.authority = value
                if not value:
                    raise Malformed("an empty Host")
            elif name == b"expect":
                if head.expects_continue or value.lower() != b"100-continue":
                    head.fault = "expectation_failed"
                head.expects_continue = True
            else:
                head.priority = priority.parse(value)
        elif name[0] == _COLON:
            raise Malformed(f"the pseudo-field {name[:32]!r} behind a regular field")
    head.fields = _with_one_cookie(fields) if crumbs > 1 else fields


def _with_one_cookie(fields: list[Field]) -> list[Field]:
    joined = b"; ".join([value for name, value in fields if name == b"cookie"])
    kept: list[Field] = []
    for field in fields:
        if field[0] != b"cookie":
            kept.append(field)
        elif joined is not None:
            kept.append((b"cookie", joined))
            joined = None  # type: ignore[assignment] # it stands where the first one stood
    return kept


def _authority(head: Head, authority: bytes | None) -> None:
    """Whose request it is: `:authority`, or Host, and where there are both, the same in both
    (RFC 9113 §8.3.1). ``head.authority`` is Host so far."""
    host = head.authority
    parts = split_authority(host if authority is None else authority)
    if parts is None:
        raise Malformed(f"the authority {(host if authority is None else authority)[:64]!r}")
    if authority is not None:
        if host:
            if split_authority(host) != parts:
                raise Malformed(":authority and Host are not the same")
            head.fields = [field for field in head.fields if field[0] != b"host"]
        head.authority = authority
        head.fields = [(b"host", authority), *head.fields]
    head.host = parts[0]


def _plain_connect(head: Head, pseudo: dict[bytes, bytes]) -> Head:
    """CONNECT would make us an open proxy (RFC 9110 §9.3.6): refused, once it is well-formed
    (RFC 9113 §8.5)."""
    if pseudo.keys() != {b":method", b":authority"}:
        raise Malformed("CONNECT with :scheme or :path, or without :authority")
    _authority(head, pseudo[b":authority"])
    head.fault = "method_not_allowed"
    return head

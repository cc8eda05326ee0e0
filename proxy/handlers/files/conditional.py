"""Conditional requests: what RFC 9110 §13 makes of a representation's validators. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

# RFC 9110 §8.8.3: entity-tag = [ weak ] opaque-tag; etagc has no DQUOTE.
_ENTITY_TAG = re.compile(rb'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')

# The fields that make a request conditional.
FIELDS = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)


def evaluate(asked: Mapping[bytes, bytes], etag: bytes, modified: int) -> int:
    """200, 304 or 412, in the order of precedence of §13.2.2. ``modified`` is in Unix seconds."""
    if b"if-match" in asked:
        if not _matches(asked[b"if-match"], etag, weak=False):
            return 412
    elif b"if-unmodified-since" in asked:
        since = http_date(asked[b"if-unmodified-since"])
        if since is not None and modified > since:
            return 412
    if b"if-none-match" in asked:
        if _matches(asked[b"if-none-match"], etag, weak=True):
            return 304
    elif b"if-modified-since" in asked:
        since = http_date(asked[b"if-modified-since"])
        if since is not None and modified <= since:
            return 304
    return 200


def range_applies(asked: Mapping[bytes, bytes], etag: bytes, modified: int, now: float) -> bool:
    """If-Range (§13.1.5): a validator that is strong and the same, else the range is forgotten."""
    value = asked.get(b"if-range")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == etag
    # A date is a strong validator only if nothing can have changed since within its second.
    return http_date(value) == modified and now - modified > 1


def _matches(field: bytes, etag: bytes, *, weak: bool) -> bool:
    if field == b"*":
        return True
    at = 0
    while match := _ENTITY_TAG.match(field, at):
        if match[2] == etag and (weak or not match[1]):
            return True
        if match.end() == at:
            break
        at = match.end()
    return False


@lru_cache(maxsize=512)
def http_date(value: bytes) -> int | None:
    """Unix seconds of an HTTP-date (§5.6.7), None for what is none."""
    try:
        moment = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)  # asctime-date has no zone and means GMT
    try:
        return int(moment.timestamp())
    except (ValueError, OverflowError):
        return None

"""Which prepared encoding of a file a client takes (RFC 9110 §12.5.3). Pure."""

from __future__ import annotations

from functools import lru_cache

from .quality import quality_of

# In the order we prefer: what a browser that takes all of them loads fastest.
NEIGHBOURS: tuple[tuple[bytes, bytes], ...] = (
    (b"br", b".br"),
    (b"zstd", b".zst"),
    (b"gzip", b".gz"),
)


@lru_cache(maxsize=512)
def acceptable(field: bytes | None) -> tuple[bytes, ...]:
    """The codings of `NEIGHBOURS` that the client takes, the best first; ties by our order.

    Without the field, or where identity is preferred, none: a plain answer is always understood.
    """
    if field is None:
        return ()
    qualities: dict[bytes, float] = {}
    for element in field.lower().split(b","):
        coding, *parameters = (part.strip() for part in element.split(b";"))
        if coding:
            qualities[coding] = quality_of(parameters)
    identity = qualities.get(b"identity", 0.0)
    rest = qualities.get(b"*", 0.0)
    found = [
        (qualities.get(coding, qualities.get(b"x-" + coding, rest)), -place, coding)
        for place, (coding, _suffix) in enumerate(NEIGHBOURS)
    ]
    return tuple(
        coding
        for quality, _, coding in sorted(found, reverse=True)
        if quality > 0 and quality >= identity
    )

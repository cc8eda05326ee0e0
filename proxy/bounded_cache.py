"""A bounded cache for pure look-ups on the path of requests.

The cache is a plain dict, which is asked with its own ``get``; only a look-up that found nothing
comes here. A full cache is emptied. Whatever is of use comes back with the next requests, and a
client that fills the cache on purpose costs others one look-up each; an order of use, as
functools.lru_cache keeps it, would cost something at every look-up.
"""

from __future__ import annotations

from typing import Final, TypeVar

# Bytes of a path, or a query, that is kept as a key. A client may send thousands of longer ones,
# which would take a hundred MiB; whoever looks them up does so each time.
LONGEST_KEY: Final = 1024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def remember(cache: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Keep ``value`` in a cache of at most ``most`` entries."""
    if len(cache) >= most:
        cache.clear()
    cache[key] = value

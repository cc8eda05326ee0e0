"""What has been worked out once, kept by what it was worked out from, within a bound.

For dicts on the path of requests, which are asked with their own ``get``: only who has found
nothing comes here. A full one is emptied. Whatever is of use comes back with the next requests,
and a stranger who fills it costs others one look each; an order of use would cost every look.
"""

from __future__ import annotations

from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def remember(memo: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """``most``: how many there may be."""
    if len(memo) >= most:
        memo.clear()
    memo[key] = value

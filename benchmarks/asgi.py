"""The application that uvicorn, hypercorn and granian serve: the same files, from memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

_BODIES = {"/100.txt": b"x" * 100, "/10k.txt": b"x" * 10_240}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    body = _BODIES.get(scope["path"], b"")
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

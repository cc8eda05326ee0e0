"""Backends as the key ``backend`` has them: a URL, or a mapping of a URL and its weight. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Backend = str | dict[str, str]


def url_of(backend: Backend) -> str:
    return backend if isinstance(backend, str) else backend["url"]


def weighted(url: str, weight: str) -> Backend:
    """Return a backend of a weight, which is said where it is not the usual one."""
    return url if weight == "1" else {"url": url, "weight": weight}


def with_path(backends: Sequence[Backend], path: str) -> list[Backend]:
    """Put a path behind each backend, which goes before the request's."""
    path = path.rstrip("/")
    return [
        {**one, "url": one["url"] + path} if isinstance(one, dict) else one + path
        for one in backends
    ]


def shown(backends: Sequence[Backend]) -> Backend | list[Backend]:
    """Return what stands behind the key: one backend needs no list."""
    return backends[0] if len(backends) == 1 else list(backends)

"""Whether this process may have as many descriptors as the configuration's limits come to.

A worker needs two for each connection (the client's, and a backend's or a file's). Where the
machine allows fewer, connections are turned away long before ``limits.connections`` is reached, and
nothing of the configuration says why.
"""

from __future__ import annotations

import resource

from ..config.model import Config
from .policy import policies

_BESIDE_CONNECTIONS = 256  # files that a worker has open where hardly anything happens


def shortage(config: Config, hard: int | None = None) -> str | None:
    """What to say where a worker may have fewer descriptors than it may come to need; ``hard`` is
    the limit, by default that of this process."""
    if hard is None:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = policies(config)["worker"].descriptors
    needed = 2 * config.limits.connections + _BESIDE_CONNECTIONS
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return None
    enough_for = max(0, hard - _BESIDE_CONNECTIONS) // 2
    return (
        f"limits.connections is {config.limits.connections}, and a process may have {hard} "
        f"descriptors here, which is enough for some {enough_for} connections of a worker (in a "
        f"unit: LimitNOFILE={wanted}; in a shell: ulimit -Hn {wanted}; or lower limits.connections)"
    )

"""Whether the connections that are allowed can be had with the descriptors that are. Pure.

Each connection of a client is a descriptor of its worker, and each request to a backend another; in
the worst case one worker has all of them. The kernel's bound (RLIMIT_NOFILE) is raised as far as it
may be, so what counts is the hard limit.
"""

from __future__ import annotations

# What a worker has open beside connections: its listeners, its end of the channel, a reserve, logs,
# shared memory, and a few files that are being served.
_BESIDE = 128


def shortfall(connections: int, most: int | None) -> tuple[str, str] | None:
    """What is wrong and what to do, where so many ``connections`` do not even fit into ``most``
    descriptors while none of them asks a backend; ``most`` None is unlimited."""
    if most is None or connections + _BESIDE <= most:
        return None
    room = max(0, most - _BESIDE)
    needed = 2 * connections + _BESIDE
    return (
        (
            f"a worker may have {most} open files, which is enough for {room} connections, or for "
            f"{room // 2} while each asks a backend, and not for {connections}; others are refused"
        ),
        (
            f"raise the limit before the start: ulimit -n {needed}, or LimitNOFILE={needed} in the "
            f"unit; or write connections: {max(room // 2, 1)}"
        ),
    )

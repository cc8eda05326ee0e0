"""Whether connections and certificates can be had with the descriptors that are allowed. Pure.

Each connection of a client is a descriptor of its worker, and each request to a backend another; in
the worst case one worker has all of them. The kernel's bound (RLIMIT_NOFILE) is raised as far as it
may be, so what counts is the hard limit. Certificates lie in shared memory, hundreds of them in a
descriptor (`ipc.packs`).
"""

from __future__ import annotations

# What a worker has open beside connections: its listeners, its end of the channel, a reserve, logs,
# shared memory, and a few files that are being served.
_BESIDE = 128


# Certificates in one descriptor, at least: packs are put together when they are scattered.
_CERTIFICATES_EACH = 64
_SCATTERED = 40


def beside(sites: int) -> int:
    """Descriptors of a process that has the certificates of so many sites, beside connections."""
    return _BESIDE + min(sites - 1, _SCATTERED) + sites // _CERTIFICATES_EACH


def shortfall(connections: int, most: int | None, sites: int = 1) -> tuple[str, str] | None:
    """What is wrong and what to do, where so many ``connections`` do not even fit into ``most``
    descriptors while none of them asks a backend; ``most`` None is unlimited."""
    taken = beside(sites)
    if most is None or connections + taken <= most:
        return None
    room = max(0, most - taken)
    needed = 2 * connections + taken
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

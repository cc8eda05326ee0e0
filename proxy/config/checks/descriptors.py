"""Whether a worker gets by with the descriptors that are allowed. Pure.

Each connection of a client is a descriptor of its worker, and each request to a backend another; in
the worst case one worker has all of them. Each document root is held open for good: a folder
that takes its name later is another one (`handlers.files.document_root`). Certificates lie in
shared memory, hundreds of them in a descriptor (`ipc.packs`).

The kernel's bound (RLIMIT_NOFILE) is raised as far as it may be (`proxy.open_files`), so what
counts is the hard limit.
"""

from __future__ import annotations

from ..model import Config, FastCgiAction, FilesAction

# What a worker has open beside connections: its listeners, its end of the channel, a reserve, logs,
# shared memory, and a few files that are being served.
_BESIDE = 128
# The same of a worker that has just started and has no connection yet.
_AT_START = 64
# Files that are kept open because they were asked for lately, and some room.
_FILES = 2048
# Certificates in one descriptor, at least: packs are put together when they are scattered.
_CERTIFICATES_EACH = 64
_SCATTERED = 40


def certificates(config: Config) -> int:
    """Certificates that the sites may have, those on demand among them."""
    return sum(
        len(site.certificates or site.key_types)
        + (site.on_demand.max_names if site.on_demand else 0)
        for site in config.sites
    )


def roots(config: Config) -> int:
    """Descriptors of document roots in each worker: of each root and the rules for it, one; of one
    with scripts, one each for scripts, for files, and for files that are no scripts."""
    actions = {route.action for site in config.sites for route in site.routes}
    return sum(
        1 if isinstance(one, FilesAction) else 3 if isinstance(one, FastCgiAction) else 0
        for one in actions
    )


def for_certificates(count: int) -> int:
    """Descriptors of so many certificates, in each process that has them."""
    return min(max(count - 1, 0), _SCATTERED) + count // _CERTIFICATES_EACH


def beside(config: Config) -> int:
    """Descriptors of a worker with this configuration, beside those of connections."""
    return _BESIDE + for_certificates(certificates(config)) + roots(config)


def wanted(config: Config) -> int:
    """Descriptors with which a worker lacks none: for each connection of a client one to a backend
    or an open file, and files that are kept open."""
    return 2 * config.limits.connections + _FILES + beside(config)


def unstartable(config: Config, most: int | None) -> tuple[str, str] | None:
    """What is wrong and what to do, where ``most`` descriptors are too few for a worker to start;
    None is unlimited."""
    rooted = roots(config)
    taken = beside(config) - _BESIDE + _AT_START
    if most is None or taken <= most:
        return None
    return (
        (
            f"a worker holds {rooted} document roots open and needs {taken} open files before the "
            f"first connection; the hard limit (RLIMIT_NOFILE) is {most}"
        ),
        f"{_raise(wanted(config))}; that leaves room for limits.connections",
    )


def shortfall(config: Config, most: int | None) -> tuple[str, str] | None:
    """What is wrong and what to do, where ``limits.connections`` do not even fit into ``most``
    descriptors while none of them asks a backend; None is unlimited."""
    connections, taken = config.limits.connections, beside(config)
    if most is None or connections + taken <= most:
        return None
    room = max(0, most - taken)
    return (
        (
            f"a worker may have {most} open files, which is enough for {room} connections, or for "
            f"{room // 2} while each asks a backend, and not for {connections}; others are refused"
        ),
        f"{_raise(2 * connections + taken)}; or write connections: {max(room // 2, 1)}",
    )


def _raise(needed: int) -> str:
    return (
        f"raise the limit before the start: ulimit -n {needed}, or LimitNOFILE={needed} in the "
        f"unit, or --ulimit nofile={needed} of a container"
    )

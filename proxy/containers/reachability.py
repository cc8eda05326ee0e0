"""Whether this machine is in the network of a container, so that its address there can be used.

On the machine that runs Docker it is, by the bridge; in a container that shares a network with the
other it is; with rootless engines it is not, and the published port is the way. The kernel knows:
the address that it would speak from lies in the same network, or does not. Nothing is sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

_ANY_PORT = 9


def near(address: str, prefix: int) -> bool:
    """Whether this machine has an address in the network with that prefix (its length in bits)."""
    if not prefix:
        return False
    try:
        network = ipaddress.ip_network((address, prefix), strict=False)
    except ValueError:
        return False
    family = socket.AF_INET6 if network.version == 6 else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, _ANY_PORT))
        return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) in network
    return False

"""Whether the server in this container serves: the image's HEALTHCHECK.

    /usr/lib/treehouse-proxy/bin/python -P /usr/lib/treehouse-proxy/healthcheck.py

The supervisor says that a worker serves, and a worker answers a request on the first address where
HTTP is spoken, whatever the answer is. Exit status 0 or 1 (2 is reserved by Docker), one line
either way. It imports next to nothing, because it runs every half minute.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from proxy.ipc import control_client

STATE = Path("/var/lib/treehouse-proxy")
_WITHIN = 8.0  # seconds for the supervisor to answer, and as many for the worker


def main() -> int:
    state = Path(os.environ.get("TREEHOUSE_STATE", STATE))
    try:
        status = control_client.status(state, _WITHIN)
    except control_client.NotRunning as why:
        print(why)
        return 1
    if not any(one["state"] == "serving" for one in status["workers"]):
        print("no worker serves")
        return 1
    ways = [one["address"] for one in status["listeners"] if one["kind"] == "http"]
    if ways:
        try:
            answer = _asked(ways[0])
        except OSError as why:
            print(f"{ways[0]}: {why.strerror or why}")
            return 1
        if not answer.startswith(b"HTTP/1.1 "):
            print(f"{ways[0]}: no answer")
            return 1
    print(f"serves, generation {status['generation']}")
    return 0


def _asked(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - none is bound
    with socket.create_connection((host, int(port)), timeout=_WITHIN) as sock:
        sock.sendall(b"HEAD /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return sock.recv(1024)


if __name__ == "__main__":
    sys.exit(main())

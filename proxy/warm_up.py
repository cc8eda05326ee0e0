"""Import and touch now whatever is needed later.

Once the process is nobody, an interpreter under somebody's 0700 home cannot be read any more, and
once it is confined even less: each late import in an error path would turn a small fault into a
crash. So everything that CPython loads lazily is loaded here, on purpose, while it can be.
"""

from __future__ import annotations

import encodings.ascii
import encodings.idna
import encodings.latin_1
import encodings.punycode
import encodings.utf_8
import linecache
import socket
import ssl
import traceback

LOADED = (encodings.ascii, encodings.latin_1, encodings.utf_8, encodings.punycode, linecache)


def everything() -> None:
    "xn--bcher-kva.example".encode("idna")
    encodings.idna.ToASCII("bücher")
    _format_a_traceback()
    _resolve()
    ssl.create_default_context()


def _format_a_traceback() -> None:
    try:
        raise ValueError
    except ValueError:
        traceback.format_exc()


def _resolve() -> None:
    # glibc loads its name service modules at the first look-up (nsswitch.conf); a name that
    # /etc/hosts answers is enough to have them in memory, and asks nobody on the network.
    try:
        socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    except OSError:
        return

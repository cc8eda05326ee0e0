"""The exit statuses of every command; `docs` and scripts rely on them."""

from __future__ import annotations

OK = 0  # done, also after SIGTERM
FAILED = 1  # failed while running
USAGE = 2  # usage or configuration
CANNOT_BIND = 3  # could not bind, drop privileges or confine itself

"""A token on port 80 for ``doctor``, which finds out with it whether a name leads here.

For two minutes every worker answers a token under the path of HTTP-01 challenges, for the names
that were asked about, with a text that no other server can know. It is an ordinary challenge,
except that no CA has asked for it.
"""

from __future__ import annotations

import secrets
import time

from acme_client.names import hostname, wildcard_of

from ...config.model import Config
from ...ipc.messages import ChallengeFacts
from ..answers import Answer, Reply
from ..registry import Registry
from ..timers import Timers

# Visits have bounds of their own, well below this.
_FOR = 120.0
# Somebody looks now and then, from a terminal.
_MOST = 16
_HOSTS = 200


class ProbeTokens:
    def __init__(self, registry: Registry, timers: Timers) -> None:
        self._registry = registry
        self._timers = timers
        self._under_way = 0

    def begin(self, request: Answer, config: Config, reply: Reply) -> None:
        """Reply with token and text once every worker answers them."""
        hosts = request.get("hosts")
        known = {name for site in config.sites for name in site.names}
        known |= {name for one in self._registry.statuses() for name in one["names"]}
        if (
            not isinstance(hosts, list)
            or not 0 < len(hosts) <= _HOSTS
            or not all(isinstance(one, str) for one in hosts)
        ):
            reply({"ok": False, "error": "hosts is no list of names"})
            return
        if unknown := [one for one in hosts if one not in known and not _covered(one, known)]:
            reply({"ok": False, "error": f"{unknown[0]} is no name of this server"})
            return
        if self._under_way >= _MOST:
            reply({"ok": False, "error": "too many looks at once; ask again in two minutes"})
            return
        self._under_way += 1
        token, text = f"doctor-{secrets.token_urlsafe(16)}", secrets.token_urlsafe(32)
        waiting = set(hosts)

        def answered(host: str) -> None:
            waiting.discard(host)
            if not waiting:
                reply({"ok": True, "token": token, "text": text})

        for host in list(waiting):
            about = ChallengeFacts("http-01", host, token, text)
            # mypy infers no type of a lambda with a default.
            self._registry.challenge(about, None, lambda _refusals, host=host: answered(host))  # type: ignore[misc]
        self._timers.at(time.monotonic() + _FOR, lambda: self._end(hosts, token))

    def _end(self, hosts: list[str], token: str) -> None:
        self._under_way -= 1
        for host in hosts:
            self._registry.answer_no_more(host, token)


def _covered(host: str, known: set[str]) -> bool:
    """Whether a wildcard covers the host; then its form has not been checked yet."""
    return hostname(host) == host and wildcard_of(host) in known

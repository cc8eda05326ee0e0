"""The server that runs, if one does: its status, a nonce that it answers on our behalf, and how it
looks when it may not be asked."""

from __future__ import annotations

from collections.abc import Sequence

from acme_client.late_dataclass import dataclass

from ...config.model import Config
from ...ipc import control_client
from ...ipc.control_client import DoesNotAnswer, NotRunning, ask
from ...ipc.documents import Status
from ..findings import Finding

_ASKED_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """The running one. ``status`` None: there is none, or it may not be asked; ``why``."""

    status: Status | None
    nonce: tuple[str, str] | None
    why: str | None = None
    hangs: bool = False

    @property
    def hidden(self) -> bool:
        """There is one, perhaps, and this user may not ask it."""
        return self.status is None and "permission" in (self.why or "")


def find(config: Config, hosts: Sequence[str]) -> Server:
    """``hosts``: those that a nonce is to be answered on."""
    try:
        status = control_client.status(config.state, _ASKED_WITHIN)
    except NotRunning as reason:
        return Server(None, None, str(reason), isinstance(reason, DoesNotAnswer))
    asked = [host for host in hosts if not host.startswith("*.")]
    nonce = None
    if asked:
        try:
            answer = ask(config.state, {"command": "knock", "hosts": asked}, _ASKED_WITHIN)
            nonce = (answer["token"], answer["text"]) if answer.get("ok") else None
        except NotRunning:
            nonce = None
    return Server(status, nonce)


def speaks(server: Server) -> Finding:
    about = "server"
    if server.status is not None:
        return Finding(
            "ok", about, f"runs: pid {server.status['pid']} as uid {server.status['uid']}"
        )
    if server.hangs:
        return Finding("wrong", about, server.why or "", "systemctl restart treehouse-proxy")
    if server.hidden:
        return Finding("unknown", about, server.why or "", "ask as root")
    return Finding("ok", about, "does not run; this is what can be seen before its start")

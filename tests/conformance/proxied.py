"""The real program in front of a `StrictBackend`, for all cases of a mode."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.http.client import Talk, context, https
from support.http.strict_backend import Script, StrictBackend, Witness
from support.http.strict_h2_backend import StrictH2Backend, lengthless
from support.program.ports import free_ports
from support.program.server import Server

MODES = {"lane": [], "h11 alone": ["--no-fast-lane"]}
# And with backends that are spoken to in HTTP/2.
TOWARDS_H2 = "h2c backend"


class Proxied:
    def __init__(self, server: Server, port: int, ca: Path, backend: Witness) -> None:
        self.server = server
        self.backend = backend
        self.expected: dict[int, tuple[list[bytes], bytes]] = {}
        self.port = port
        self.ca = ca
        self.own_engine = "--no-fast-lane" not in server.command
        self._using = context(ca)
        self._tags = itertools.count(1)

    def tag(self) -> int:
        return next(self._tags)

    def secure(self) -> Talk:
        return https(self.port, "a.test", None, using=self._using)

    def canary(self, talk: Talk) -> None:
        """A request of our own, which must be answered with its own body, when the backend has said
        all that it had to say."""
        self.backend.await_said()
        tag = self.tag()
        answer = talk.asks(f"/@{tag}@canary", "a.test", "POST", body=b"sings %d" % tag)
        assert answer.status == 200
        assert answer.body == b"POST /@%d@canary [sings %d]\n" % (tag, tag)

    def spelt(self, message: bytes) -> bytes:
        """As the backend hears it."""
        return lengthless(message) if isinstance(self.backend, StrictH2Backend) else message

    def heard(self, tag: int) -> list[bytes]:
        """The whole messages of a case."""
        return [self.spelt(message) for message in self.backend.whole[tag]]

    def expect(self, tag: int, reaches: list[bytes], begins: bytes) -> None:
        """To be looked at once more when all is over."""
        self.expected[tag] = reaches, begins

    def assert_sound(self) -> None:
        """No traceback, no fault of our own."""
        assert "Traceback" not in self.server.text()
        assert not [one for one in self.server.log if one.get("level") == "error"]
        assert not [one for one in self.server.access if one.get("status") == 500]


@contextlib.contextmanager
def proxied_by(
    options: list[str], script: Script | None = None, *, over_http2: bool = False
) -> Iterator[Proxied]:
    """``over_http2``: backends are spoken to in it."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    one, other = free_ports(2)
    config = folder / "config.yaml"
    try:
        with StrictH2Backend() if over_http2 else StrictBackend(script) as backend:
            url = f"{'h2c' if over_http2 else 'http'}://127.0.0.1:{backend.port}"
            config.write_text(
                f"""
listen: {{http: ["127.0.0.1:{one}"], https: ["127.0.0.1:{other}"]}}
workers: 1
state: {folder / "state"}
sites:
  - {{names: [a.test, www.a.test], backend: "{url}"}}
  - {{names: [b.test], backend: "{url}"}}
"""
            )
            with Server(["--config", str(config), *options], folder) as server:
                for name in ("a.test", "b.test"):
                    server.await_log(f"{name}: certificate obtained")
                yield Proxied(server, other, folder / "state/internal-ca/root.pem", backend)
    finally:
        shutil.rmtree(folder)

"""The server looks at itself: a worker that shows another certificate than it should is mended.

Nothing outside can make a worker ignore news, so the worker of a copy of the program is changed to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.http.client import context, https
from support.program.server import Server, treehouse


@pytest.fixture
def start(
    folder: Path, root: Path, ports: tuple[int, int], program: Path
) -> Callable[[str], Server]:
    """``ignores``: the condition, in the worker's words, on which a new certificate is ignored.
    ``pair``: with a second certificate, for clients that know RSA alone."""

    def start(ignores: str, *, pair: bool = False) -> Server:
        worker = program / "proxy/worker/worker.py"
        text = worker.read_text()
        present = "            case PutCertificates():\n"
        assert present in text
        worker.write_text(
            text.replace(
                present,
                f"            case PutCertificates() if {ignores}:\n"
                "                self._ignored = getattr(self, '_ignored', 0) + 1\n" + present,
            )
        )
        config = folder / "config.yaml"
        config.write_text("acme: {key_type: [ecdsa-p256, rsa-2048]}\n" if pair else "{}")
        options = ["--domain", "a.test", "--root", str(root), "--state", str(folder / "state")]
        options += ["--config", str(config)]
        options += ["--bind", "127.0.0.1", "--workers", "2"]
        options += ["--http-port", str(ports[0]), "--https-port", str(ports[1])]
        return Server(options, folder, cwd=program)

    return start


def shown(folder: Path, ports: tuple[int, int]) -> set[str]:
    """The serials that twenty visitors see."""
    using = context(folder / "state/internal-ca/root.pem")
    serials = set()
    for _ in range(20):
        with https(ports[1], "a.test", None, using=using) as talk:
            serials.add(talk.sock.getpeercert()["serialNumber"])  # type: ignore[attr-defined]
    return serials


def renew(server: Server, folder: Path) -> str:
    """The new certificate's serial."""
    assert treehouse("certs", "renew", "a.test", "--state", str(folder / "state")).returncode == 0
    serial: str = server.status(folder / "state")["certificates"][0]["serial"]
    return serial.upper()


def test_nothing_is_said_while_all_is_well(start: Callable[[str], Server], folder: Path) -> None:
    with start("False") as server:
        server.await_log("a.test: certificate obtained")
        renew(server, folder)
        assert server.stop() == 0
        assert not [one for one in server.log if one["level"] == "error"]


def test_one_that_missed_the_news_is_told_again(
    start: Callable[[str], Server], folder: Path, ports: tuple[int, int]
) -> None:
    missed = "self._credentials.certificates.find('a.test') and not getattr(self, '_ignored', 0)"
    with start(missed) as server:
        server.await_log("a.test: certificate obtained")
        serial = renew(server, folder)
        server.await_log("worker . shows .* for a.test instead of .*; it is told again")
        workers = server.children()
        server.status(folder / "state")  # answered by workers that have read what they were told
        while shown(folder, ports) != {serial.zfill(len(serial) + len(serial) % 2)}:
            pass
        assert server.children() == workers


def test_one_that_will_not_hear_is_replaced(
    start: Callable[[str], Server], folder: Path, ports: tuple[int, int]
) -> None:
    with start("self._credentials.certificates.find('a.test')") as server:
        server.await_log("a.test: certificate obtained")
        serial = renew(server, folder)
        server.await_log("worker . still shows .* for a.test; it is replaced")
        server.await_log("another starts in")
        while shown(folder, ports) != {serial.zfill(len(serial) + len(serial) % 2)}:
            pass


def test_it_looks_as_those_do_who_know_rsa_alone(
    start: Callable[..., Server], folder: Path
) -> None:
    """The second of a site's certificates is the one that no usual visitor sees."""
    missed = (
        "message.certificates[0].facts.family == 'rsa' and 'a.test/rsa' in self._credentials.certificates._held['a.test']"
        " and not getattr(self, '_ignored', 0)"
    )
    with start(missed, pair=True) as server:
        server.await_log("a.test/rsa: certificate obtained")
        before = {one["name"]: one["serial"] for one in certificates(server, folder)}
        state = str(folder / "state")
        assert treehouse("certs", "renew", "a.test/rsa", "--state", state).returncode == 0
        after = {one["name"]: one["serial"] for one in certificates(server, folder)}
        said = (
            rf"shows {before['a.test/rsa']} for a.test instead of {after['a.test/rsa']}; it is told"
        )
        server.await_log(said)
        assert treehouse("certs", "renew", "a.test", "--state", state).returncode == 0
        assert server.stop() == 0
        assert not [one for one in server.log if "still shows" in one["message"]]


def certificates(server: Server, folder: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = server.status(folder / "state")["certificates"]
    return found

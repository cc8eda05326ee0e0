"""A certifier for which there is nothing to do says so, and answers all the same."""

from __future__ import annotations

from pathlib import Path

from acme_client.link import INTERNAL, Authority, CertificateSpec, Settings
from support.acme.certifier import Certifier, FakeServer


def test_where_no_certificate_is_wanted_it_is_idle_after_what_it_has_been_asked(
    tmp_path: Path,
) -> None:
    with FakeServer() as server, Certifier(Settings(tmp_path, ()), server):
        server.until(lambda: server.is_idle)
        server.is_idle = False
        assert not server.ask("renew", "a.test")["ok"]
        server.until(lambda: server.is_idle)


def test_where_a_certificate_is_wanted_it_is_never_idle(tmp_path: Path) -> None:
    wanted = CertificateSpec(("a.test",), Authority(INTERNAL))
    with FakeServer() as server, Certifier(Settings(tmp_path, (wanted,)), server):
        server.until(lambda: server.state("a.test") == "fresh")
        server.ask("look")
        assert not server.is_idle

"""What sites say of their own access lines, at the real program."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.http.client import context, http, https
from support.program.server import Server


@pytest.mark.parametrize("form", ["json", "combined"])
def test_sites_choose_their_lines(
    folder: Path, ports: tuple[int, int], root: Path, form: str
) -> None:
    config, state, log = folder / "config.yaml", folder / "state", folder / "logs/access.log"
    log.parent.mkdir()
    log.parent.chmod(0o777)
    config.write_text(
        f"""
listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}
state: {state}
log: {{format: {form}, access: {log}}}
sites:
  - {{names: [silent.test], root: {root}, log: off}}
  - {{names: [some.test], root: {root}, log: {{fields: [status, path, host, "request:X-Tenant"]}}}}
  - {{names: [all.test], root: {root}}}
"""
    )
    with Server(["--config", str(config)], folder) as server:
        for name in ("silent", "some", "all"):
            server.await_log(f"{name}.test: certificate obtained")
        using = context(state / "internal-ca/root.pem")
        for name in ("silent", "some", "all"):
            with httpx.Client(verify=using, timeout=60) as client:
                for path, status in (("/?secret=1", 200), ("/nothing?secret=1", 404)):
                    response = client.get(
                        f"https://127.0.0.1:{ports[1]}{path}",
                        extensions={"sni_hostname": f"{name}.test"},
                        headers={"Host": f"{name}.test", "X-Tenant": "blue"},
                    )
                    assert response.status_code == status
                plain = f"http://127.0.0.1:{ports[0]}/x?secret=1"
                client.get(plain, headers={"Host": f"{name}.test"})
            # What is refused before it is understood is the site's as well: by its Host, or by SNI.
            with http(ports[0]) as talk:
                talk.says(f"GET /x?secret=1 HTTP/1.1\r\nHost : {name}.test\r\n\r\n".encode())
                assert talk.hears().status == 400
            for host in (f"{name}.test\r\nno field", "a b"):
                with https(ports[1], f"{name}.test", None, using=using) as talk:
                    talk.says(f"GET /x?secret=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert talk.hears().status == 400
    lines = log.read_text().splitlines()
    assert len(lines) == 12
    mine = [line for line in lines if "secret" not in line]
    assert len(mine) == 6
    assert not [line for line in mine if "127.0.0.1" in line or "httpx" in line]
    if form == "json":
        assert sum('"request:x-tenant":"blue' in line for line in mine) == 2
    else:
        assert mine[0].startswith("- - - [")
        assert ' "- / -" 200 - "-" "-"' in mine[0]

"""The doctor at a real server with a real CA, a real DNS, and neighbours that are not ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.acme.ca_faults import Faults
from support.acme.pebble import Pebble
from support.program.ports import free_address
from support.program.server import Server, packages, shorten, treehouse

Find = Callable[..., dict[str, Any]]


@contextmanager
def neighbour(
    address: str, status: int, server: str, location: str | None = None
) -> Iterator[list[int]]:
    """Somebody else's web server on port 80; gives the uids of doctors that have visited it."""
    visitors: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        server_version = server
        sys_version = ""

        def do_GET(self) -> None:  # the base class's name for it
            if "doctor" in (self.headers["User-Agent"] or ""):
                visitors.append(_owner(*self.client_address))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    web = ThreadingHTTPServer((address, 80), Handler)
    web.daemon_threads = True
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield visitors
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


def _owner(address: str, port: int) -> int:
    """Whose socket it is, as the kernel tells."""
    hexadecimal = socket.inet_aton(address)[::-1].hex().upper()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == f"{hexadecimal}:{port:04X}":
            return int(fields[7])
    return -1


def doctor(*arguments: str, **options: Any) -> Find:
    """Its findings; the function picks one by its sign, what it is about, and a part of its text."""
    done = treehouse("doctor", "--json", *arguments, **options)
    document = json.loads(done.stdout)
    assert document["version"] == 1
    wrong = any(one["sign"] == "wrong" for one in document["findings"])
    assert done.returncode == (1 if wrong else 0), done.stderr

    def find(sign: str, about: str, text: str) -> dict[str, Any]:
        for one in document["findings"]:
            if one["sign"] == sign and one["about"].startswith(about) and text in one["text"]:
                found: dict[str, Any] = one
                return found
        raise AssertionError(f"no {sign} about {about}: {text} in {done.stdout}")

    return find


def write(folder: Path, root: Path, address: str, front: Faults, names: list[str]) -> Path:
    (folder / "front.pem").write_bytes(front.ca_pem)
    os.chmod(folder / "front.pem", 0o644)
    sites = "\n".join(f"  - {{names: [{name}], root: {root}}}" for name in names)
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["{address}:80"], https: ["{address}:443"]}}
workers: 1
state: {folder / "state"}
acme: {{directory: "{front.directory}", ca_file: front.pem, challenges: [http-01]}}
sites:
{sites}
"""
    )
    return path


def test_a_running_server_and_what_is_wrong_with_its_names(folder: Path, root: Path) -> None:
    here, elsewhere, moved, nobody = (free_address(80, 443) for _ in range(4))
    where = {"good.example": here, "other.example": elsewhere, "moved.example": moved, "nobody.example": nobody, "six.example": here}  # fmt: skip
    with (
        Pebble(80, 443, dns=where) as ca,
        Faults(ca) as front,
        neighbour(elsewhere, 404, "cloudflare") as visitors,
        neighbour(moved, 301, "nginx/1.22", "http://moved.example/elsewhere"),
    ):
        front.identities = ["ca.test"]
        front.profiles = {"classic": "as ever"}
        ca.resolve_aaaa("six.example", "::1")
        ca.allow("six.example", "other-ca.test")
        path = write(folder, root, here, front, list(where))
        with Server(["--config", str(path)], folder) as server:
            server.await_log("good.example: certificate obtained", within=60)
            for name in ("other.example", "nobody.example"):
                server.await_log(f"{name}: attempt 1 failed", within=60)
            find = doctor("--config", str(path), "--resolver", f"127.0.0.1:{ca.dns_port}")
            find("ok", "configuration", "valid: 5 sites")
            find("ok", "server", f"runs: pid {server.pid}")
            find("ok", "state directory", "its owner, mode and room are right")
            find("ok", "ports", f"{here}:80: this server listens")
            find("ok", "ports", f"{here}:443: this server listens")
            find("ok", "CA 127.0.0.1", "its directory is reached")
            find("ok", "CA 127.0.0.1", "it has the profiles classic")
            find("ok", "clock", "within 5 s")
            find("ok", "good.example", f"DNS: A {here} is this machine's")
            find("ok", "good.example", "CAA: no record")
            find("ok", "good.example", f"port 80 at {here}: this server answers")
            find("ok", "good.example", f"port 443 at {here}: this server's certificate is shown")
            find("ok", "good.example", "the certificate is valid for another")
            cdn = find(
                "wrong",
                "other.example",
                f"port 80 at {elsewhere}: Cloudflare answers, with status 404",
            )
            assert "acme-challenge" in cdn["step"]
            find("wrong", "other.example", "attempt")
            find("wrong", "other.example", "that means: other.example: somebody answered the CA")
            assert visitors == [65534], "asked by root, and nobody by the time strangers are met"
            find("wrong", "moved.example", "somebody else answers (nginx/1.22")
            refused = find("wrong", "nobody.example", f"port 80 at {nobody}: nobody listens there")
            assert "port 80" in refused["step"]
            find("wrong", "nobody.example", "that means: ")
            find("ok", "six.example", f"port 80 at {here}: this server answers")
            find("wrong", "six.example", "port 80 at ::1: nobody listens")
            find("attention", "six.example", "IPv4 leads here and IPv6 does not")
            caa = find("wrong", "six.example", "CAA allows other-ca.test, and not")
            assert caa["step"] == 'add the record: 0 issue "ca.test"'
            # For people, about one name, with a line for each.
            done = treehouse(
                "doctor", "good.example", "--config", str(path),
                "--resolver", f"127.0.0.1:{ca.dns_port}",
            )  # fmt: skip
            assert done.returncode == 0
            assert "other.example" not in done.stdout
            assert f"port 80 at {here}: this server answers" in done.stdout
            unknown = treehouse("doctor", "stranger.example", "--config", str(path))
            assert unknown.returncode == 2
            assert "no configured name" in unknown.stderr
            # A file with a fault, beside a server that goes on with an earlier one.
            path.write_text(path.read_text() + "nonsense: 1\n")
            find = doctor("--config", str(path))
            find("wrong", "configuration", "nonsense: this key is not known")
            find("attention", "server", "with an earlier configuration")
            find("ok", "good.example", "the certificate is valid")


def test_before_the_first_start(folder: Path, root: Path, program: Path) -> None:
    # How long a name server that does not answer is asked again.
    shorten(program / "proxy/doctor/probes/dns.py", _RESOLVED_WITHIN=1.0)
    here = free_address(80, 443)
    with Pebble(80, 443, dns={"new.example": here}) as ca:
        common = ["--domain", "new.example", "--root", str(root), "--state", str(folder / "state"),
                  "--bind", here, "--acme-directory", ca.directory, "--acme-ca", str(ca.ca_file),
                  "--resolver", f"127.0.0.1:{ca.dns_port}"]  # fmt: skip
        find = doctor(*common)
        find("ok", "server", "does not run")
        find("ok", "state directory", "will be made at the first start")
        find("ok", "ports", f"{here}:80 is free")
        find("ok", "new.example", f"port 80 at {here}: reached, and nobody listens there yet")
        find("ok", "new.example", f"port 443 at {here}: reached")
        assert not (folder / "state").exists()
        with socket.create_server((here, 80)):
            find = doctor(*common)
            find("wrong", "ports", f"{here}:80 is held by")
            find("ok", "ports", f"{here}:443 is free")
        ca.stop()
        find = doctor(*common, cwd=program)
        find("wrong", "CA 127.0.0.1", "the CA cannot be reached")
        find("unknown", "new.example", "DNS: ")


def test_asked_by_somebody_who_may_see_little(
    folder: Path, root: Path, shared_python: str, program: Path
) -> None:
    here = free_address(80, 443)
    options = ["--domain", "localhost", "--root", str(root), "--state", str(folder / "state")]
    options += ["--bind", here, "--workers", "1"]
    with Server(options, folder):
        done = subprocess.run(
            [shared_python, "-m", "proxy", "doctor", "--json", *options],
            cwd=program, capture_output=True, text=True, timeout=60,
            env=packages(program) if shared_python != sys.executable else {"PYTHONPATH": str(program)},
            user=12345, group=12345, extra_groups=[],
        )  # fmt: skip
    findings = json.loads(done.stdout)["findings"]
    wrong = any(one["sign"] == "wrong" for one in findings)
    assert done.returncode == (1 if wrong else 0), done.stderr
    seen = {(one["about"], one["sign"]) for one in findings}
    assert ("server", "unknown") in seen
    assert ("configuration", "ok") in seen
    assert ("state directory", "unknown") in seen
    assert [one["sign"] for one in findings if one["about"] == "ports"] == ["unknown", "unknown"]

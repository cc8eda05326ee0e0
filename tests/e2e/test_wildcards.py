"""Wildcards end to end: a record at a real name server (Knot), looked up by a real CA (pebble), and the
certificate served to every name that it covers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from support.acme.ca_faults import Faults
from support.acme.ca_persist import Persist
from support.acme.knot import Knot
from support.acme.pebble import Pebble
from support.http.client import https
from support.program.server import REPOSITORY, Server, await_gone, treehouse


@pytest.fixture
def knot() -> Iterator[Knot]:
    with Knot({"example.test": ""}) as name_server:
        yield name_server


@pytest.fixture
def ca(ports: tuple[int, int], knot: Knot) -> Iterator[Pebble]:
    with Pebble(ports[0], ports[1], dns_server=f"{knot.address}:53") as pebble:
        yield pebble


def config(folder: Path, ports: tuple[int, int], ca: Pebble, dns: str, sites: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 2
state: {folder / "state"}
sandbox: require
acme:
  directory: "{ca.directory}"
  ca_file: {ca.ca_file}
{dns}
sites:
{sites}
"""
    )
    return path


def test_a_wildcard_over_dns_updates(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """With the wildcard beside the bare name, and a site of its own for one name below it."""
    dns = (
        f"  resolvers: {knot.address}\n  dns: {{server: {knot.address}, "
        f"tsig: {{name: acme, secret_file: {knot.key_file(folder)}}}, propagation: 20s}}\n"
    )
    special = folder / "special"
    special.mkdir()
    (special / "index.html").write_text("<p>special\n")
    sites = (
        f'  - {{names: ["*.example.test", example.test], root: {root}}}\n'
        f"  - {{names: [one.example.test], root: {special}}}\n"
    )
    path = config(folder, ports, ca, dns + "  challenges: dns-01\n", sites)
    with Server(["--config", str(path)], folder) as server:
        for name in (r"\*\.example\.test", "one.example.test"):
            server.await_log(f"{name}: certificate obtained", within=60)
        trusted = ca.root()
        pages = {
            "a.example.test": b"<p>hello\n",
            "b.example.test": b"<p>hello\n",
            "example.test": b"<p>hello\n",
            "one.example.test": b"<p>special\n",
        }
        for name, page in pages.items():
            with https(ports[1], name, trusted) as talk:
                assert talk.asks("/", name).body == page
        for name in ("a.b.example.test", "other.test"):  # an asterisk is one label
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
                https(ports[1], name, None)
        with https(ports[1], "a.example.test", trusted) as talk:
            assert talk.asks("/", "one.example.test").body == b"<p>special\n"
        kept = folder / "state/certificates/_wildcard.example.test"
        assert (kept / "fullchain.pem").exists()
        assert list((folder / "state/dns-records").glob("[!.]*")) == []
        assert knot.texts("_acme-challenge.example.test") == []
        assert knot.key not in server.text()
        for name in ("*.example.test", "example.test"):
            shown = subprocess.run(
                [sys.executable, "-m", "proxy", "why", name, "--state", str(folder / "state")],
                cwd=REPOSITORY, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert "dns-01" in shown.stdout
        assert server.stop() == 0


HOOK = """#!/bin/sh
set -eu
echo "$1 for $2 \x1b[31m"
here=$(dirname "$0")
curl -sS --fail --cacert "$here/ca.pem" --data "$3 $4" "https://{address}/$1"
test "$1 $2 $3 $4" = \
    "$TREEHOUSE_ACTION $TREEHOUSE_DOMAIN $TREEHOUSE_RECORD $TREEHOUSE_VALUE"
# What it may not do, and what it may.
ls {state}/accounts && echo "could find the account's key"
ls {state}/certificates && echo "could list the state directory"
cat {folder}/config.yaml && echo "could read the configuration"
(: > /var/tmp/treehouse-test) && echo "could write elsewhere"
(exec {folder}/stray) && echo "could execute elsewhere"
curl -sS http://127.0.0.1:{port}/ > /dev/null && echo "could connect elsewhere"
kill -0 $PPID && echo "could signal"
test -z "${{NOTIFY_SOCKET-}}${{PYTHONPATH-}}" || echo "could see our environment"
mktemp > /dev/null && echo "has a place of its own"
exit 0
"""


class Api(ThreadingHTTPServer):
    """A DNS provider's interface, which has its own ways to Knot; on port 443, as theirs are."""

    def __init__(self, knot: Knot) -> None:
        self.knot = knot
        self.asked: list[tuple[str, str]] = []
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        super().__init__((knot.address, 443), _ApiHandler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(knot.address).configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)


class _ApiHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Api)
        record, value = self.rfile.read(int(self.headers["Content-Length"])).decode().split()
        self.server.asked.append((self.path[1:], record))
        if self.path == "/present":
            self.server.knot.set_text(record, value)
        else:
            self.server.knot.remove_text(record, value)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_wildcard_over_a_hook(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """A shell script with curl, at a provider's interface; and what else it might try."""
    hooks = folder / "hooks"
    hooks.mkdir()
    hook = hooks / "dns-hook"
    hook.write_text(
        HOOK.format(address=knot.address, state=folder / "state", folder=folder, port=ports[0])
    )
    hook.chmod(0o755)
    shutil.copy("/bin/true", folder / "stray")
    dns = f"  resolvers: {knot.address}\n  dns: {{hook: {hook}, propagation: 20s}}\n"
    path = config(
        folder, ports, ca, dns, f'  - {{names: ["*.example.test", example.test], root: {root}}}\n'
    )
    with Api(knot) as api:
        (hooks / "ca.pem").write_bytes(api.ca_pem)
        threading.Thread(target=api.serve_forever, args=(0.05,), daemon=True).start()
        with Server(["--config", str(path)], folder) as server:
            server.await_log(r"\*\.example\.test: certificate obtained", within=60)
            with https(ports[1], "a.example.test", ca.root()) as talk:
                assert talk.asks("/", "a.example.test").status == 200
            assert server.stop() == 0
        api.shutdown()
    said = server.text()
    record = "_acme-challenge.example.test"
    assert sorted(api.asked) == [("cleanup", record)] * 2 + [("present", record)] * 2
    assert knot.texts(record) == []
    assert said.count("has a place of its own") == 4
    assert "could " not in said
    assert "\x1b" not in said
    shown = treehouse("sandbox", "--config", str(path)).stdout
    assert f"{hooks}" in shown.partition("\nhook\n")[2]


HANGING = """#!/bin/sh
if [ "$1" = present ]; then
    echo $$ > "$TMPDIR/pid.new"; mv "$TMPDIR/pid.new" "$TMPDIR/pid"
    exec sleep 1000
fi
echo "$4" >> "$TMPDIR/cleaned"
"""


def test_a_certifier_that_is_killed_leaves_neither_a_hook_nor_a_record(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """Killed while the hook is at work: the next one cleans up after it."""
    (folder / "hooks").mkdir()
    hook = folder / "hooks/dns-hook"
    hook.write_text(HANGING)
    hook.chmod(0o755)
    dns = f"  resolvers: {knot.address}\n  dns: {{hook: {hook}}}\n"
    path = config(folder, ports, ca, dns, f'  - {{names: ["*.example.test"], root: {root}}}\n')
    scratch, notes = folder / "state/dns-hook", folder / "state/dns-records"
    with Server(["--config", str(path)], folder) as server:
        pid = int(_await_file(scratch / "pid", server).read_text())
        (note,) = notes.glob("[!.]*")
        value = json.loads(note.read_bytes())["value"]
        certifier = next(one["pid"] for one in server.log if one["process"] == "certifier")
        os.kill(certifier, signal.SIGKILL)
        await_gone([pid])
        server.await_log("record _acme-challenge.example.test of an earlier validation removed")
        assert (scratch / "cleaned").read_text().split() == [value]
        # It goes on with the same order, whose value is the same, and is at work with the hook now.
        _await_other(scratch / "pid", str(pid), server)
        assert json.loads(note.read_bytes())["value"] == value
        assert server.stop() == 0
    assert (scratch / "cleaned").read_text().split() == [value] * 2
    assert not note.exists()


def _await_other(path: Path, before: str, server: Server) -> None:
    deadline = time.monotonic() + 60
    while path.read_text().strip() == before:
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.02)  # a file of another process has no event that a test could await here


def _await_file(path: Path, server: Server) -> Path:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.02)  # a file of another process has no event that a test could await here
    return path


def test_a_wildcard_by_a_record_that_stays(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot
) -> None:
    """Printed by the command, set by hand, and the certificate is served."""
    with Pebble(always_valid=True) as ca, Faults(ca) as front:
        front.persist = Persist(knot.address)
        trust = folder / "front.pem"
        trust.write_bytes(front.ca_pem)
        dns = f"  resolvers: {knot.address}\n  challenges: dns-persist-01\n"
        path = config(folder, ports, ca, dns, f'  - {{names: ["*.example.test"], root: {root}}}\n')
        text = path.read_text().replace(ca.directory, front.directory)
        path.write_text(text.replace(str(ca.ca_file), str(trust)))
        with Server(["--config", str(path)], folder) as server:
            server.await_log("attempt 1 failed .*dns-persist-01, set in the DNS: ", within=60)
            printed = treehouse("certs", "dns-persist", "*.example.test", "--config", str(path))
            assert printed.returncode == 0, printed.stderr
            (line,) = [one for one in printed.stdout.splitlines() if " IN TXT " in one]
            record, _, value = line.removesuffix(" ; to be set").partition(". IN TXT ")
            knot.set_text(record, value.strip('"'))
            renewed = treehouse("certs", "renew", "*.example.test", "--config", str(path))
            assert renewed.returncode == 0, renewed.stderr
            with https(ports[1], "a.example.test", ca.root()) as talk:
                assert talk.asks("/", "a.example.test").status == 200


def test_doctor_knows_by_which_way_a_wildcard_is_proven(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """A CAA record (RFC 8657) that allows nothing but dns-01 is in order then."""
    zone = '@ CAA 0 issue "ca.test; validationmethods=dns-01"'
    with Knot({"example.test": zone}) as knot, Pebble() as ca, Faults(ca) as front:
        front.identities = ["ca.test"]
        trust = folder / "front.pem"
        trust.write_bytes(front.ca_pem)
        key = knot.key_file(folder)
        dns = (
            f"  resolvers: {knot.address}\n"
            f"  dns: {{server: {knot.address}, tsig: {{name: acme, secret_file: {key}}}}}\n"
        )
        path = config(folder, ports, ca, dns, f'  - {{names: ["*.example.test"], root: {root}}}\n')
        text = path.read_text().replace(ca.directory, front.directory)
        path.write_text(text.replace(str(ca.ca_file), str(trust)))
        found = treehouse("doctor", "*.example.test", "--config", str(path))
        assert re.search(r"ok +CAA allows ca\.test$", found.stdout, re.MULTILINE), found


def test_without_anybody_to_set_records_it_is_said_before_any_order(
    folder: Path, root: Path, ports: tuple[int, int], ca: Pebble
) -> None:
    path = config(folder, ports, ca, "", f'  - {{names: ["*.example.test"], root: {root}}}\n')
    done = treehouse("check", "--config", str(path))
    assert done.returncode == 2
    assert "over the DNS only (add acme.dns" in done.stderr

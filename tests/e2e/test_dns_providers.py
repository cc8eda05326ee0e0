"""Providers by name and hooks of other ACME clients, end to end: a real name server (Knot), a real CA
(pebble), and one certificate for a wildcard and the name below it, whose two values stand at one name
at once."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.acme.knot import ALGORITHM, Knot
from support.acme.pebble import Pebble
from support.http.client import https
from support.program.server import Server, await_gone, treehouse

RECORD = "_acme-challenge.example.test"


@pytest.fixture
def knot() -> Iterator[Knot]:
    with Knot({"example.test": ""}) as name_server:
        yield name_server


@pytest.fixture
def ca(ports: tuple[int, int], knot: Knot) -> Iterator[Pebble]:
    with Pebble(ports[0], ports[1], dns_server=f"{knot.address}:53") as pebble:
        yield pebble


def config(
    folder: Path, root: Path, ports: tuple[int, int], ca: Pebble, knot: Knot, dns: str
) -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sandbox: require
acme:
  directory: "{ca.directory}"
  ca_file: {ca.ca_file}
  resolvers: {knot.address}
  dns: {dns}
sites:
  - {{names: ["*.example.test", example.test], root: {root}}}
"""
    )
    return path


def served(server: Server, ports: tuple[int, int], ca: Pebble, knot: Knot, folder: Path) -> None:
    """The certificate is obtained, serves, and its records are gone."""
    server.await_log(r"\*\.example\.test: certificate obtained", within=90)
    for name in ("a.example.test", "example.test"):
        with https(ports[1], name, ca.root()) as talk:
            assert talk.asks("/", name).status == 200
    assert knot.texts(RECORD) == []
    assert list((folder / "state/dns-records").glob("[!.]*")) == []


def token_file(folder: Path, knot: Knot) -> Path:
    """What lexicon's ``ddns`` is let in by."""
    path = folder / "token"
    path.write_text(f"{ALGORITHM}:acme:{knot.key}\n")
    path.chmod(0o644)
    return path


def lexicon(folder: Path, knot: Knot) -> str:
    token = token_file(folder, knot)
    return (
        "{zone: example.test, provider: ddns, propagation: 20s, "
        f"credentials: {{auth_token_file: {token}, ddns_server: {knot.address}}}}}"
    )


def test_a_provider_of_lexicon(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    path = config(folder, root, ports, ca, knot, lexicon(folder, knot))
    shown = treehouse("sandbox", "--config", str(path)).stdout
    policy = shown.partition("\ndns-provider\n")[2]
    assert re.search(r"execute +nothing", policy)
    assert re.search(r"connect \(TCP\) +53", policy)
    with Server(["--config", str(path)], folder) as server:
        served(server, ports, ca, knot, folder)
        titles = {one["title"]: one for one in processes(server.pid)}
        assert "treehouse-proxy: dns-provider" in titles
        for one in titles.values():
            assert knot.key not in one["title"] + one["environment"]
        assert server.stop() == 0
        await_gone([int(one["pid"]) for one in titles.values()])
    assert knot.key not in server.text()


def processes(supervisor: int) -> list[dict[str, str]]:
    """The server's processes below the supervisor, by what /proc says of each."""
    found = []
    wanted = {str(supervisor)}
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            environment = (folder / "environ").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if parent in wanted:
            wanted.add(folder.name)
            found.append({"pid": folder.name, "title": title, "environment": environment})
    return found


def test_a_wrong_key_is_told_and_its_secret_is_not(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """lexicon's ``ddns`` does not look at the answer: that no server shows the record tells it."""
    dns = lexicon(folder, knot).replace("propagation: 20s", "propagation: 2s")
    secret = "bm90LXRoZS1yaWdodC1vbmUtYXQtYWxsLW5vdC1hdC1hbGw="
    (folder / "token").write_text(f"{ALGORITHM}:acme:{secret}")
    path = config(folder, root, ports, ca, knot, dns)
    with Server(["--config", str(path)], folder) as server:
        failed = server.await_log("attempt 1 failed", within=60)
        assert "dns-01" in failed["message"]
    assert secret not in server.text()


def test_a_certifier_that_is_killed_leaves_no_record_of_a_provider(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble
) -> None:
    """Killed while it waits for a secondary that never follows; the next one removes the record."""
    dns = lexicon(folder, knot).replace("propagation: 20s", "propagation: 5m")
    with Knot({"example.test": ""}, primary=None) as stranger:
        # The zone names a server that does not have the record, and never will.
        knot.set_text("probe.example.test", "there")
        path = config(folder, root, ports, ca, knot, dns)
        text = path.read_text().replace(
            f"resolvers: {knot.address}", f"resolvers: {stranger.address}"
        )
        path.write_text(text)
        with Server(["--config", str(path)], folder) as server:
            await_texts(knot, 2)
            certifier = next(one["pid"] for one in server.log if one["process"] == "certifier")
            os.kill(certifier, signal.SIGKILL)
            server.await_log(f"record {RECORD} of an earlier validation removed", within=60)
            await_texts(knot, 2)  # of the next attempt
            assert server.stop() == 0
        assert knot.texts(RECORD) == []


def await_texts(knot: Knot, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(knot.texts(RECORD)) != number:
        assert time.monotonic() < deadline, knot.texts(RECORD)
        time.sleep(0.05)  # a name server has no event that a test could await here


# Hooks of other clients. Each sets its record with nsupdate, as such scripts do.

NSUPDATE = """\
change() {
  printf 'server %s\\nzone example.test.\\nupdate %s\\nsend\\n' "$SERVER" "$1" \\
    | nsupdate -y "$TSIG_KEY" || exit 1
}
"""
CERTBOT_AUTH = (
    "#!/bin/sh\n"
    + NSUPDATE
    + """
test $# = 0 || exit 9
test "$CERTBOT_ALL_DOMAINS" = "example.test,example.test" || exit 8
echo "remaining $CERTBOT_REMAINING_CHALLENGES" >&2
change "add _acme-challenge.$CERTBOT_DOMAIN. 1 TXT \\"$CERTBOT_VALIDATION\\""
echo "number-$CERTBOT_VALIDATION"
"""
)
CERTBOT_CLEANUP = (
    "#!/bin/sh\n"
    + NSUPDATE
    + """
test "$CERTBOT_AUTH_OUTPUT" = "number-$CERTBOT_VALIDATION" || exit 7
change "delete _acme-challenge.$CERTBOT_DOMAIN. TXT \\"$CERTBOT_VALIDATION\\""
"""
)
LEGO = (
    "#!/bin/sh\n"
    + NSUPDATE
    + """
case "$1" in
  present) change "add $2 1 TXT \\"$3\\"" ;;
  cleanup) change "delete $2 TXT \\"$3\\"" ;;
esac
"""
)
LEGO_RAW = (
    "#!/bin/sh\n"
    + NSUPDATE
    + """
test "$EXEC_MODE" = RAW || exit 9
test "$2" = -- || exit 8
value=$(printf %s "$5" | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d =)
case "$1" in
  present) change "add _acme-challenge.$3. 1 TXT \\"$value\\"" ;;
  cleanup) change "delete _acme-challenge.$3. TXT \\"$value\\"" ;;
esac
"""
)
# What a plug-in finds in acme.sh: its functions, and a last line that runs what its arguments say.
ACME_SH = """#!/usr/bin/env sh
_err() { echo "$@" >&2; }
_info() { echo "$@"; }
_debug() { :; }
_initpath() {
  if [ -f "$ACCOUNT_CONF_PATH" ]; then . "$ACCOUNT_CONF_PATH"; fi
}
_readaccountconf_mutable() { sed -n "s/^SAVED_$1='\\(.*\\)'$/\\1/p" "$ACCOUNT_CONF_PATH"; }
_saveaccountconf_mutable() { echo "SAVED_$1='$2'" >> "$ACCOUNT_CONF_PATH"; }
main() {
  [ -z "$1" ] && echo "Usage: acme.sh <command> ..." && return
  "$@"
}
main "$@"
"""
DNS_KNOT = (
    "#!/usr/bin/env sh\n"
    + NSUPDATE
    + """
dns_knot_add() {
  fulldomain=$1
  txtvalue=$2
  SERVER="${SERVER:-$(_readaccountconf_mutable SERVER)}"
  if [ -z "$SERVER" ]; then _err "no SERVER"; return 1; fi
  _saveaccountconf_mutable SERVER "$SERVER"
  _info "adding $fulldomain"
  change "add $fulldomain. 1 TXT \\"$txtvalue\\""
}
dns_knot_rm() {
  SERVER="${SERVER:-$(_readaccountconf_mutable SERVER)}"
  change "delete $1. TXT \\"$2\\""
}
"""
)


def written(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def key_variable(folder: Path, knot: Knot) -> str:
    key = written(folder / "tsig", f"{ALGORITHM}:acme:{knot.key}", 0o644)
    return f"TSIG_KEY_file: {key}"


STYLES = ("certbot", "lego", "lego-raw", "acme.sh")


@pytest.mark.parametrize("style", STYLES)
def test_a_hook_of_another_client(
    folder: Path, root: Path, ports: tuple[int, int], knot: Knot, ca: Pebble, style: str
) -> None:
    hooks = folder / "hooks"
    more, server_variable = "", f", SERVER: {knot.address}"
    match style:
        case "certbot":
            hook = written(hooks / "auth.sh", CERTBOT_AUTH)
            more = f", hook_cleanup: {written(hooks / 'cleanup.sh', CERTBOT_CLEANUP)}"
        case "lego":
            hook = written(hooks / "lego.sh", LEGO)
        case "lego-raw":
            hook = written(hooks / "raw.sh", LEGO_RAW)
        case _:
            written(hooks / "acme.sh", ACME_SH, 0o644)
            # Saved by acme.sh at an earlier time, with places that are not ours.
            saved = f"SAVED_SERVER='{knot.address}'\nACCOUNT_KEY_PATH='/nowhere'\n"
            written(hooks / "account.conf", saved, 0o644)
            hook = written(hooks / "dnsapi/dns_knot.sh", DNS_KNOT, 0o644)
            server_variable = ""
    dns = (
        f"{{hook: {hook}, hook_style: {style}{more}, propagation: 20s, "
        f"credentials: {{{key_variable(folder, knot)}{server_variable}}}}}"
    )
    path = config(folder, root, ports, ca, knot, dns)
    with Server(["--config", str(path)], folder) as server:
        served(server, ports, ca, knot, folder)
        assert server.stop() == 0
    said = server.text()
    assert knot.key not in said
    if style == "certbot":
        assert "remaining 1" in said
        assert "remaining 0" in said
        assert list((folder / "state/dns-hook").glob("said.*")) == []

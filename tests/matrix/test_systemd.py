"""The units under a real systemd 257 as process 1: what it makes of each thing that we tell it.

Debian 12's systemd has no `Type=notify-reload`, and a test that speaks sd_notify itself proves only
that we say what we think that we should say.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from support.program.booted import Booted
from support.program.chroot import Chroot
from support.program.server import REPOSITORY

UNIT = "treehouse-proxy.service"
UNPRIVILEGED = "treehouse-proxy-unprivileged.service"
CONFIG = "/etc/treehouse-proxy/config.yaml"


def configuration(page: str) -> str:
    return f"""sites:
  - names: [localhost]
    respond: {{status: 200, body: "{page}"}}
"""


@pytest.fixture(scope="module")
def machine(trixie: Chroot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with Booted(trixie.root, tmp_path_factory.mktemp("machine")) as booted:
        # The suite may have left some in the folder below, which an overlay cannot rename.
        booted.run("rm", "-rf", "/var/lib/treehouse-proxy", "/var/lib/private/treehouse-proxy")
        booted.write(CONFIG, configuration("first"))
        for unit in (REPOSITORY / "config/systemd").iterdir():
            booted.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
        yield booted


def page(machine: Booted) -> str:
    return machine.run("curl", "-sk", "https://localhost/", timeout=20)


def shown(machine: Booted, unit: str, name: str) -> str:
    return machine.run("systemctl", "show", "--value", "-p", name, unit).strip()


def journal(machine: Booted, unit: str) -> str:
    return machine.run("journalctl", "--no-pager", "-u", unit)


def drop_in(machine: Booted, unit: str, *lines: str) -> None:
    machine.write(f"/etc/systemd/system/{unit}.d/test.conf", "\n".join(["[Service]", *lines, ""]))
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def started(machine: Booted, request: pytest.FixtureRequest) -> Iterator[Booted]:
    """The unit that starts as root, with the lines of a drop-in."""
    machine.write(CONFIG, configuration("first"))
    drop_in(machine, UNIT, *request.param)
    subprocess.run(machine.command("systemctl", "start", UNIT), check=False, timeout=60)
    assert shown(machine, UNIT, "ActiveState") == "active", journal(machine, UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT, check=False)
    machine.run("systemctl", "reset-failed", UNIT, check=False)


NOTIFY_RELOAD = ("Type=notify-reload", "ExecReload=")
AS_SHIPPED: tuple[str, ...] = ()


@pytest.mark.parametrize("started", [AS_SHIPPED, NOTIFY_RELOAD], indirect=True)
def test_a_start_is_over_when_it_serves(started: Booted) -> None:
    assert shown(started, UNIT, "ActiveState") == "active"
    assert page(started) == "first"
    assert shown(started, UNIT, "StatusText")


@pytest.mark.parametrize("started", [AS_SHIPPED, NOTIFY_RELOAD], indirect=True)
def test_a_reload_is_over_when_the_new_configuration_serves(started: Booted) -> None:
    main = shown(started, UNIT, "MainPID")
    for number in range(5):
        started.write(CONFIG, configuration(f"page {number}"))
        started.run("systemctl", "reload", UNIT)
        assert page(started) == f"page {number}"
    # systemd, which runs ExecReload as root, leaves the state to the user that the server became.
    owners = started.run("find", "/var/lib/treehouse-proxy", "-printf", "%U:%G\n").split()
    assert set(owners) == {"65534:65534"}
    assert shown(started, UNIT, "ActiveState") == "active"
    assert shown(started, UNIT, "MainPID") == main


@pytest.mark.parametrize("started", [AS_SHIPPED], indirect=True)
def test_a_reload_that_is_refused_fails_with_the_fault(started: Booted) -> None:
    started.write(CONFIG, "sites: [{names: [localhost], roott: /}]\n")
    failed = subprocess.run(
        started.command("systemctl", "reload", UNIT), capture_output=True, timeout=60, check=False
    )
    assert failed.returncode != 0
    assert "roott" in journal(started, UNIT)
    assert shown(started, UNIT, "ActiveState") == "active"
    assert page(started) == "first"


@pytest.mark.parametrize("started", [NOTIFY_RELOAD], indirect=True)
def test_a_refused_reload_ends_for_systemd_too(started: Booted) -> None:
    """Else the unit would be "reloading" until systemd's patience is over, and then be killed."""
    started.write(CONFIG, "sites: [{names: [localhost], roott: /}]\n")
    started.run("systemctl", "reload", UNIT, timeout=30)
    assert shown(started, UNIT, "ActiveState") == "active"
    assert "roott" in journal(started, UNIT)
    assert page(started) == "first"
    started.write(CONFIG, configuration("mended"))
    started.run("systemctl", "reload", UNIT)
    assert page(started) == "mended"


@pytest.mark.parametrize("started", [AS_SHIPPED, NOTIFY_RELOAD], indirect=True)
def test_systemd_follows_an_upgrade(started: Booted) -> None:
    main = shown(started, UNIT, "MainPID")
    started.run("/opt/treehouse-proxy/bin/treehouse-proxy", "upgrade", "--config", CONFIG)
    now = shown(started, UNIT, "MainPID")
    assert now != main
    assert "treehouse-proxy" in started.run("cat", f"/proc/{now}/cmdline")
    assert page(started) == "first"
    started.write(CONFIG, configuration("behind the upgrade"))
    started.run("systemctl", "reload", UNIT)
    assert page(started) == "behind the upgrade"
    assert shown(started, UNIT, "NRestarts") == "0"


@pytest.mark.parametrize("started", [("WatchdogSec=2s",)], indirect=True)
def test_systemd_kills_what_hangs_and_starts_it_again(started: Booted) -> None:
    main = shown(started, UNIT, "MainPID")
    started.run("kill", "-STOP", main)
    started.run(
        "timeout", "40", "sh", "-c",
        f'until [ "$(systemctl show --value -p NRestarts {UNIT})" = 1 ]'
        f' && [ "$(systemctl is-active {UNIT})" = active ]; do sleep 0.1; done',
    )  # fmt: skip
    assert "watchdog" in journal(started, UNIT).lower()
    assert page(started) == "first"


@pytest.mark.parametrize("started", [AS_SHIPPED], indirect=True)
def test_files_are_served_within_what_the_unit_allows(started: Booted) -> None:
    """RestrictSUIDSGID= would take openat2(2) away."""
    started.write("/srv/www/index.html", "a file")
    started.write(CONFIG, "sites: [{names: [localhost], root: /srv/www}]\n")
    started.run("systemctl", "reload", UNIT)
    assert page(started) == "a file"


@pytest.mark.parametrize("started", [AS_SHIPPED], indirect=True)
def test_a_stop_is_clean(started: Booted) -> None:
    run = shown(started, UNIT, "InvocationID")
    started.run("systemctl", "stop", UNIT)
    assert shown(started, UNIT, "Result") == "success"
    assert shown(started, UNIT, "ExecMainStatus") == "0"
    log = started.run("journalctl", f"_SYSTEMD_INVOCATION_ID={run}", "+", f"INVOCATION_ID={run}")
    assert "Stopped" in log
    assert not re.search(r"Failed|SIGKILL|Traceback|left-over", log)


@pytest.mark.parametrize("kind", [AS_SHIPPED, NOTIFY_RELOAD], ids=str)
def test_without_root_by_socket_activation(machine: Booted, kind: tuple[str, ...]) -> None:
    machine.write(CONFIG, configuration("first"))
    drop_in(machine, UNPRIVILEGED, *kind)
    sockets = ("treehouse-proxy-http.socket", "treehouse-proxy-https.socket")
    machine.run("systemctl", "start", *sockets)
    try:
        assert page(machine) == "first"  # this very connection has started it
        main = shown(machine, UNPRIVILEGED, "MainPID")
        status = machine.run("cat", f"/proc/{main}/status")
        (uids,) = re.findall(r"(?m)^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", status)
        assert len(set(uids)) == 1
        assert int(uids[0]) > 60_000  # DynamicUser=
        machine.write(CONFIG, configuration("second"))
        machine.run("systemctl", "reload", UNPRIVILEGED)
        assert page(machine) == "second"
    finally:
        machine.run("systemctl", "stop", *sockets, UNPRIVILEGED)
    assert shown(machine, UNPRIVILEGED, "Result") == "success"


def test_what_systemd_says_of_the_units(machine: Booted) -> None:
    """This version verifies them without a word, and finds as little exposed as the older one."""
    for unit, most in ((UNIT, 30), (UNPRIVILEGED, 15)):
        path = f"/etc/systemd/system/{unit}"
        assert machine.run("systemd-analyze", "verify", "--man=no", path) == ""
        machine.run("systemd-analyze", "security", "--offline=true", f"--threshold={most}", path)

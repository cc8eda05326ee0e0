"""Certificates that no site wants any more; and what the commands say when no server runs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from support.program.ports import free_ports
from support.program.server import Server, ask, treehouse

pytestmark = pytest.mark.program


def config(folder: Path, root: Path, *names: str, name: str = "config.yaml") -> Path:
    plain, secure = free_ports(2)
    path = folder / name
    sites = "".join(f"\n  - {{names: [{one}, www.{one}], root: {root}}}" for one in names)
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
state: {folder / "state"}
workers: 1
sites:{sites}
"""
    )
    return path


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that there is to see of a folder's content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = b""
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).digest()
        found[str(path)] = (info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


def test_what_no_site_wants_is_listed_and_can_be_removed(folder: Path, root: Path) -> None:
    state = folder / "state"
    kept = state / "certificates" / "b.test"
    path = config(folder, root, "a.test", "b.test")
    with Server(["--config", str(path)], folder) as server:
        server.await_log("a.test: certificate obtained")
        server.await_log("b.test: certificate obtained")
        assert ask(state, "status")["unwanted"] == []
        path.write_text(path.read_text().replace("names: [b.test, www.b.test]", "names: [c.test]"))
        assert treehouse("reload", "--config", str(path)).returncode == 0
        server.await_log("c.test: certificate obtained")
        document = server.await_status(state, lambda one: one["unwanted"] == ["b.test"])
        assert [one["name"] for one in document["certificates"]] == ["a.test", "c.test"]
        assert "any more: b.test\n" in treehouse("certs", "list", "--config", str(path)).stdout
        for name, said in (
            ("a.test", "a site wants this certificate"),
            ("d.test", "nothing is kept for d.test"),
        ):
            refused = treehouse("certs", "forget", name, "--config", str(path))
            assert refused.returncode == 1
            assert said in refused.stderr
        assert kept.is_dir()
        done = treehouse("certs", "forget", "www.b.test", "--config", str(path))
        assert (done.returncode, done.stdout) == (0, "removed, with its key: b.test\n")
        assert not kept.exists()
        assert ask(state, "status")["unwanted"] == []
        assert (state / "certificates" / "a.test").is_dir()


def test_without_a_server_the_state_directory_is_read_and_not_touched(
    folder: Path, root: Path
) -> None:
    state = folder / "state"
    path = config(folder, root, "a.test", "b.test")
    with Server(["--config", str(path)], folder) as server:
        server.await_log("a.test: certificate obtained")
        server.await_log("b.test: certificate obtained")
        served = {one["name"]: one for one in ask(state, "status")["certificates"]}
        assert server.stop() == 0
    before = tree(state)
    less = config(folder, root, "a.test", name="less.yaml")
    by_config, by_state = ("--config", str(less)), ("--state", str(state))

    for where, unwanted in ((by_config, ["b.test"]), (by_state, [])):
        status = treehouse("status", "--json", *where)
        assert status.returncode == 0, status.stderr
        assert "no server answers" in status.stderr
        assert "this is what the state directory says" in status.stderr
        document = json.loads(status.stdout)
        assert (document["pid"], document["workers"], document["unwanted"]) == (None, [], unwanted)
        names = ["a.test"] if unwanted else ["a.test", "b.test"]
        assert [one["name"] for one in document["certificates"]] == names
        for one in document["certificates"]:
            assert one["served"] is False
            same = ("names", "source", "key_type", "serial", "not_after", "renew_at", "history")
            assert {key: one[key] for key in same} == {
                key: served[one["name"]][key] for key in same
            }

        listed = treehouse("certs", "list", *where)
        assert listed.returncode == 0
        assert "www.a.test" in listed.stdout
        page = treehouse("why", "www.a.test", *where)
        assert page.returncode == 0
        assert "served  no: no server runs" in page.stdout
        assert served["a.test"]["serial"] in page.stdout
    gone = treehouse("why", "b.test", *by_config)
    assert gone.returncode == 1
    assert "no certificate for b.test is wanted here; there are: a.test" in gone.stderr
    assert "certs forget b.test" in gone.stderr
    unknown = treehouse("certs", "forget", "b.test", *by_state)
    assert unknown.returncode == 1
    assert "--config FILE" in unknown.stderr
    wanted = treehouse("certs", "forget", "a.test", *by_config)
    assert (wanted.returncode, "a site wants" in wanted.stderr) == (1, True)
    assert tree(state) == before

    done = treehouse("certs", "forget", "b.test", *by_config)
    assert (done.returncode, done.stdout) == (0, "removed, with its key: b.test\n")
    assert not (state / "certificates" / "b.test").exists()
    with Server(["--config", str(less)], folder) as server:
        server.await_log("certificate at hand")


def test_who_may_not_read_it_is_told_so(folder: Path) -> None:
    missing = treehouse("status", "--state", str(folder / "nowhere"))
    assert missing.returncode == 1
    assert "is not there; name the state directory with --state" in missing.stderr
    (folder / "closed").mkdir(0o700)
    os.chown(folder / "closed", 65534, 65534)
    closed = treehouse(
        "certs", "list", "--state", str(folder / "closed"),
        prefix=("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"),
    )  # fmt: skip
    assert closed.returncode == 1
    assert "ask as root or as the server's user" in closed.stderr


def test_the_doctor_takes_a_server_that_was_started_by_flags_for_what_it_is(
    folder: Path, root: Path
) -> None:
    state = folder / "state"
    plain, secure = free_ports(2)
    flags = ["--domain", "localhost", "--root", str(root), "--bind", "127.0.0.1", "--state", str(state),
             "--http-port", str(plain), "--https-port", str(secure)]  # fmt: skip
    with Server(flags, folder) as server:
        server.await_log("localhost: certificate obtained")
        assert ask(state, "status")["config"] is None
        done = treehouse("doctor", "--state", str(state))
        assert done.returncode == 0, done.stdout
        assert "started by flags, without a file" in done.stdout
        assert "the certificate is valid for another" in done.stdout
        assert "WRONG" not in done.stdout
        assert "earlier configuration" not in done.stdout
        named = treehouse("doctor", "stranger.example", "--state", str(state))
        assert named.returncode == 2
        assert "there are: localhost" in named.stderr
    path = config(folder, root, "a.test")
    with Server(["--config", str(path)], folder):
        assert ask(state, "status")["config"] == str(path)

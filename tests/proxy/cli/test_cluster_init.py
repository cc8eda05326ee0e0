"""The cluster's secret is made once, for the group that the server has, and for nobody else."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from acme_client.storage.etcd.sealing import read_secrets
from proxy.cli.main import program
from proxy.exit_status import FAILED, OK, USAGE

NOGROUP = 65534
DAEMON = pwd.getpwnam("daemon").pw_gid


def init(folder: Path, text: str, *words: str) -> tuple[int, str]:
    (folder / "c.yaml").write_text(text)
    done = CliRunner().invoke(
        program, ["cluster", "init", *words, "--config", str(folder / "c.yaml")]
    )
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("text", "words", "gid"),
    [
        ("", (), NOGROUP),
        ("user: daemon\n", (), DAEMON),
        ("group: daemon\n", (), DAEMON),
        ("user: daemon\ngroup: nogroup\n", (), NOGROUP),
        ("user: daemon\n", ("--group", "nogroup"), NOGROUP),
        ("user: no-such-user\n", (), NOGROUP),
    ],
)
def test_the_servers_group_may_read_it(
    tmp_path: Path, text: str, words: tuple[str, ...], gid: int
) -> None:
    status, said = init(tmp_path, f"{text}cluster: {{secret_file: secret.key}}\n", *words)
    assert status == OK, said
    made = (tmp_path / "secret.key").stat()
    assert made.st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        assert (made.st_uid, made.st_gid) == (0, gid)
    assert len(read_secrets((tmp_path / "secret.key").read_text())) == 1


def test_a_second_one_is_not_made(tmp_path: Path) -> None:
    text = "cluster: {secret_file: secret.key}\n"
    assert init(tmp_path, text)[0] == OK
    before = (tmp_path / "secret.key").read_text()
    status, said = init(tmp_path, text)
    assert (status, "is there already" in said) == (FAILED, True)
    assert (tmp_path / "secret.key").read_text() == before


def test_a_group_that_is_none(tmp_path: Path) -> None:
    status, said = init(tmp_path, "{}\n", str(tmp_path / "k"), "--group", "no-such-group")
    assert status == USAGE
    assert "no-such-group" in said

"""Programs that people use, behind `basic_auth`: curl, wget and git."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.sites.passwords import hashed
from support.program.ports import free_ports
from support.program.server import Server

TEXT = "the same line again and again\n" * 300


@dataclass
class Place:
    url: str
    ca: Path
    folder: Path


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    root, work = folder / "www", folder / "work"
    root.mkdir()
    (root / "long.txt").write_text(TEXT)
    for words in (
        ["init", "-q", str(work)],
        ["-C", str(work), "-c", "user.name=a", "-c", "user.email=a@a.test", "commit", "-q",
         "--allow-empty", "-m", "first"],
        ["clone", "-q", "--bare", str(work), str(root / "repo.git")],
        ["-C", str(root / "repo.git"), "update-server-info"],
    ):  # fmt: skip
        subprocess.run(["git", *words], check=True, timeout=60)
    subprocess.run(["chmod", "-R", "a+rX", str(root)], check=True, timeout=60)
    one, two = free_ports(2)
    config = folder / "config.yaml"
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}\n"
        f"state: {folder / 'state'}\n"
        f"sites: [{{names: [localhost], root: {root},\n"
        f"  basic_auth: {{users: {{alice: '{hashed('geheim')}'}}}}}}]\n"
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_log("localhost: certificate obtained")
            yield Place(f"localhost:{two}", folder / "state/internal-ca/root.pem", folder)
    finally:
        shutil.rmtree(folder)


def ran(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, cwd=folder, env=environment, check=False
    )


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(place: Place, version: str) -> None:
    words = [
        "curl",
        "-sS",
        version,
        "--compressed",
        "--cacert",
        str(place.ca),
        "-w",
        "%{http_code}",
    ]
    url = f"https://{place.url}/long.txt"
    assert ran([*words, "-u", "alice:geheim", url], place.folder).stdout == TEXT + "200"
    assert ran([*words, "--anyauth", "-u", "alice:geheim", url], place.folder).stdout.endswith(
        "200"
    )
    assert ran([*words, "-u", "alice:wrong", url], place.folder).stdout.endswith("401")
    assert ran([*words, url], place.folder).stdout.endswith("401")
    resumed = ran([*words, "-u", "alice:geheim", "-r", "4-7", url], place.folder)
    assert resumed.stdout == "same206"


def test_wget_which_sends_a_password_only_when_it_is_asked_for_one(place: Place) -> None:
    url = f"https://{place.url}/long.txt"
    words = ["wget", "-q", "-O", "-", f"--ca-certificate={place.ca}"]
    told = ran([*words, "--user=alice", "--password=geheim", url], place.folder)
    assert told.stdout == TEXT
    assert ran([*words, url], place.folder).returncode == 6  # "Authentication failed"


def test_git(place: Place) -> None:
    words = ["git", "-c", f"http.sslCAInfo={place.ca}", "clone", "-q"]
    refused = ran([*words, f"https://{place.url}/repo.git", "refused"], place.folder)
    assert refused.returncode != 0
    login = base64.b64encode(b"alice:geheim").decode()
    for number, words_and_url in enumerate((
        [*words, f"https://alice:geheim@{place.url}/repo.git"],
        [words[0], "-c", f"http.extraHeader=Authorization: Basic {login}", *words[1:],
         f"https://{place.url}/repo.git"],
    )):  # fmt: skip
        done = ran([*words_and_url, f"copy{number}"], place.folder)
        assert done.returncode == 0, done.stderr
        log = ran(["git", "-C", f"copy{number}", "log", "--format=%s"], place.folder)
        assert log.stdout == "first\n"

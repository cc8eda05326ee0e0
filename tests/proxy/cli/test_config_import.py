"""``config import``: what it prints, where, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import program

GOOD = "server {{ listen 443 ssl; server_name a.test; root {}; }}"


def run(*words: str) -> Result:
    return CliRunner().invoke(program, ["config", "import", *words])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "nginx.conf"
    path.write_text(GOOD.format(tmp_path))
    return path


def test_the_file_goes_to_standard_output_and_nothing_is_left(good: Path) -> None:
    done = run("nginx", str(good))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# From nginx: ")
    assert "names: [a.test]" in done.stdout


def test_what_was_left_is_told_and_is_the_exit_status(good: Path) -> None:
    good.write_text(good.read_text().replace("root", "proxy_cache x;\nroot"))
    done = run("nginx", str(good))
    assert done.exit_code == 1
    line = f"left out: {good}:1: proxy_cache x: answers of backends are not kept here"
    assert line in done.stderr
    assert "# left out: nginx.conf:1: proxy_cache x" in done.stdout


def test_a_new_file_is_written_and_none_is_replaced(good: Path, tmp_path: Path) -> None:
    made = tmp_path / "config.yaml"
    assert run("nginx", str(good), "--output", str(made)).exit_code == 0
    assert "names: [a.test]" in made.read_text()
    made.write_text("mine")
    again = run("nginx", str(good), "-o", str(made))
    assert (again.exit_code, made.read_text()) == (2, "mine")
    assert "exists" in again.stderr


def test_what_check_finds_on_this_machine_is_a_warning(good: Path, tmp_path: Path) -> None:
    good.write_text(GOOD.format("/nowhere"))
    made = tmp_path / "config.yaml"
    done = run("nginx", str(good), "-o", str(made))
    assert done.exit_code == 0
    assert f"warning: {made}:" in done.stderr
    assert "/nowhere does not exist" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("nginx", None, "there is no such file"),
        ("caddy", None, "there is no such file"),
        ("traefik", None, "there is no such file"),
        ("apache", None, "there is no such file"),
        ("nginx", "events {}", "no server block"),
        ("apache", "Listen 80", "no VirtualHost"),
        ("traefik", "a: [", "a"),
        ("traefik", "a: b", "neither http"),
        ("nginx", "server {", "a"),
    ],
)
def test_what_cannot_be_read_is_a_fault_of_the_caller(
    name: str, text: str | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.conf"
    if text is not None:
        path.write_text(text)
    done = run(name, str(path))
    assert done.exit_code == 2, done.output
    assert str(path) in done.stderr
    assert why in done.stderr
    assert not done.stdout


def test_a_binary_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(bytes(range(256)) * 64)
    for name in ("nginx", "caddy", "traefik", "apache"):
        done = run(name, str(path))
        assert done.exit_code in (1, 2), (name, done.output, done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit)


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("program", "name", "text"),
    [
        ("nginx", "nginx.conf", "http { server { listen 443 ssl; server_name a.test; root R; } }"),
        ("nginx", "nginx.conf", "server { listen 443 ssl; server_name a.test; root R; }"),
        ("caddy", "Caddyfile", "a.test {\n root * R\n file_server\n}\n"),
        ("caddy", "Caddyfile", "a.test\nroot * R\nfile_server\n"),
        (
            "apache",
            "a.conf",
            "<VirtualHost *:443>\nServerName a.test\nDocumentRoot R\n</VirtualHost>\n",
        ),
    ],
)
def test_an_editors_byte_order_mark_changes_nothing(
    tmp_path: Path, program: str, name: str, text: str
) -> None:
    path = tmp_path / name
    text = text.replace("R", str(tmp_path))
    path.write_text(text)
    without = run(program, str(path))
    assert "names: [a.test]" in without.stdout
    path.write_bytes(BOM + text.encode())
    assert run(program, str(path)).stdout == without.stdout


@pytest.mark.parametrize(
    ("program", "name", "text"),
    [
        ("nginx", "nginx.conf", "http {\n" * 5000),
        ("nginx", "nginx.conf", "http {" + "location / {\n" * 5000 + "}" * 5001),
        ("caddy", "Caddyfile", "a {\n" * 3000 + "}\n" * 3000),
        ("apache", "a.conf", "<IfModule x>\n" * 3000 + "</IfModule>\n" * 3000),
        ("traefik", "a.toml", "a = " + "[" * 3000 + "]" * 3000),
    ],
    ids=["nginx", "locations", "caddy", "apache", "toml"],
)
def test_what_is_nested_without_end_is_told(
    tmp_path: Path, program: str, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    done = run(program, str(path))
    assert done.exit_code == 2, done.output
    assert done.stderr == f"{path}: its blocks are nested too deep\n"


@pytest.mark.parametrize(("deep", "status"), [(20, 1), (150, 2)])
def test_files_that_lie_in_each_other_are_blocks_too(
    tmp_path: Path, deep: int, status: int
) -> None:
    """Each begins anew for crossplane, which reads them one by one."""
    for number in range(deep):
        inner = f"include {tmp_path}/{number + 1}.conf;"
        (tmp_path / f"{number}.conf").write_text(f"location / {{ {inner} }}")
    (tmp_path / f"{deep}.conf").write_text("return 200;")
    path = tmp_path / "nginx.conf"
    path.write_text(f"server {{ listen 443; server_name a.test; include {tmp_path}/0.conf; }}")
    done = run("nginx", str(path))
    assert done.exit_code == status, done.output
    assert (done.stderr == f"{path}: its blocks are nested too deep\n") == (status == 2)

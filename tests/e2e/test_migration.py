"""Configurations of other programs, served by the program that they were written for and by us,
answer the same. Where they do not, the case says so, and docs/moving.md says why.

One server of each kind serves all its cases at once, each under a name of its own.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.program.migration import (
    DIFFERENCES,
    Answer,
    Ask,
    Case,
    World,
    ask,
    ask_until,
    cases,
    differences,
    is_as_expected,
    world,
)
from support.program.netns import Netns
from support.program.peers import Peer
from support.program.server import REPOSITORY, Server, treehouse

CASES = Path(__file__).parents[1] / "proxy/config_import"


@pytest.fixture
def made(folder: Path, netns: Netns) -> Iterator[World]:
    with world(folder, netns) as here:
        yield here


def nginx(here: World, all_cases: list[Case]) -> tuple[Path, list[str], tuple[int, ...]]:
    etc = here.folder / "etc/nginx"
    (etc / "sites").mkdir(parents=True)
    (etc / "snippets").mkdir()
    live = here.folder / "etc/letsencrypt/live/any.test"
    (etc / "snippets/tls.conf").write_text(
        f"ssl_certificate {live}/fullchain.pem;\nssl_certificate_key {live}/privkey.pem;\n"
    )
    for case in all_cases:
        here.write(case, etc / "sites")
    # Of mkpasswd; the password is "secret".
    (etc / "htpasswd").write_text(f"alice:{HASH}\n")
    main = etc / "nginx.conf"
    main.write_text(
        f"user www-data;\npid {here.folder}/nginx.pid;\nerror_log {here.folder}/error.log;\n"
        "worker_processes 1;\nevents { worker_connections 200; }\n"
        "http {\n  include /etc/nginx/mime.types;\n  access_log off;\n"
        f"  include {etc}/sites/*.conf;\n}}\n"
    )
    return main, ["nginx", "-c", str(main), "-g", "daemon off;"], (80, 443, 8443)


def caddy(here: World, all_cases: list[Case]) -> tuple[Path, list[str], tuple[int, ...]]:
    etc = here.folder / "etc/caddy"
    etc.mkdir(parents=True)
    for case in all_cases:
        here.write(case, etc)
    main = etc / "Caddyfile"
    main.write_text(
        f"{{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n"
        f"\tstorage file_system {here.folder}/caddy\n}}\nimport {etc}/*.caddy\n"
    )
    program = Path(sys.executable).with_name("caddy")
    return main, [str(program), "run", "--config", str(main), "--adapter", "caddyfile"], (443, 8443)


def apache(here: World, all_cases: list[Case]) -> tuple[Path, list[str], tuple[int, ...]]:
    etc = here.folder / "etc/apache2"
    (etc / "sites").mkdir(parents=True)
    (etc / "snippets").mkdir()
    live = here.folder / "etc/letsencrypt/live/any.test"
    (etc / "snippets/tls.conf").write_text(
        "SSLEngine on\n"
        f"SSLCertificateFile {live}/fullchain.pem\nSSLCertificateKeyFile {live}/privkey.pem\n"
    )
    (etc / "htpasswd").write_text(f"alice:{HASH}\n")
    for case in all_cases:
        here.write(case, etc / "sites")
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in (
            "mpm_event", "authz_core", "authz_host", "authz_user", "authn_core", "authn_file",
            "auth_basic", "alias", "dir", "autoindex", "mime", "rewrite", "headers", "expires",
            "deflate", "filter", "proxy", "proxy_fcgi", "proxy_http", "proxy_wstunnel", "proxy_balancer",
            "lbmethod_bybusyness", "lbmethod_byrequests", "slotmem_shm", "ssl", "socache_shmcb", "env",
        )
    )  # fmt: skip
    main = etc / "apache2.conf"
    main.write_text(
        f"ServerRoot {etc}\n{modules}PidFile {here.folder}/apache.pid\n"
        f"DefaultRuntimeDir {here.folder}\nErrorLog {here.folder}/error.log\n"
        "User www-data\nGroup www-data\nListen 80\nListen 443\nServerName localhost\n"
        f"Define APACHE_LOG_DIR {here.folder}\nTypesConfig /etc/mime.types\n"
        f"<Directory />\n  Require all denied\n</Directory>\n"
        f"IncludeOptional {etc}/sites/*.conf\n"
    )
    return main, ["/usr/sbin/apache2", "-f", str(main), "-DFOREGROUND"], (80, 443)


HASH = "$2b$04$bbX6aAP1tVrVgE5xyFWjo.eJXIZwT340fBRAe7u76lSfGcZvTlPdC"
PROGRAMS: dict[str, Callable[[World, list[Case]], tuple[Path, list[str], tuple[int, ...]]]] = {
    "nginx": nginx,
    "caddy": caddy,
    "apache": apache,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_answer_the_same(program: str, made: World) -> None:
    all_cases = cases(CASES / program)
    assert len(all_cases) >= 20
    main, command, ports = PROGRAMS[program](made, all_cases)
    peer = Peer(
        [*made.netns.prefix, *command],
        made.folder / f"{program}.log",
        lambda running: running.listens(*ports),
    )
    asked = [(case, one) for case in all_cases for one in case.asks]
    theirs = {number: ask_until(made.netns, one) for number, (_case, one) in enumerate(asked)}
    peer.stop()
    config = made.folder / "config.yaml"
    done = _import(program, main, config)
    problems = _left(done.stderr, all_cases, made)
    with _ours(made, config):
        for number, (case, one) in enumerate(asked):
            ours = ask(made.netns, one)
            problems += _problems(case, one, theirs[number], ours)
    assert not problems, "\n".join(problems) + f"\n{config.read_text()}"


def test_what_traefik_routes_is_answered_as_its_pages_say(made: World) -> None:
    """Traefik cannot be had here: each case says what it would answer."""
    all_cases = cases(CASES / "traefik")
    assert len(all_cases) >= 20
    main = made.folder / "etc/traefik"
    main.mkdir(parents=True)
    passwords = made.folder / "etc/apache2/htpasswd"
    passwords.parent.mkdir()
    passwords.write_text(f"alice:{HASH}\n")
    for case in all_cases:
        made.write(case, main)
    config = made.folder / "config.yaml"
    problems = _left(_import("traefik", main, config).stderr, all_cases, made)
    with _ours(made, config):
        for case in all_cases:
            for one in case.asks:
                answer = ask(made.netns, one)
                if not is_as_expected(one, answer):
                    problems.append(f"{case.name}: {one} => {one.expected}: {answer.shown()}")
    assert not problems, "\n".join(problems) + f"\n{config.read_text()}"


@contextlib.contextmanager
def _ours(made: World, config: Path) -> Iterator[None]:
    """We serve the configuration, with certificates of the built-in CA."""
    state = made.folder / "state"
    options = ["--config", str(config), "--state", str(state), "--acme-directory", "internal"]
    with Server(options, made.folder, prefix=made.netns.prefix) as server:
        server.await_status(
            state,
            lambda document: (
                document["certificates"]
                and all(one["not_after"] for one in document["certificates"])
            ),
        )
        yield


def _import(program: str, main: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return treehouse("config", "import", program, str(main), "--output", str(config))


def _left(told: str, all_cases: list[Case], made: World) -> list[str]:
    """Lines about what was left out that no case says."""
    found: list[str] = []
    expected = [one for case in all_cases for one in case.left]
    lines = [line for line in told.splitlines() if line.startswith("left out: ")]
    found += [line for line in lines if not any(one in line for one in expected)]
    found += [f"not told: {one}" for one in expected if not any(one in line for line in lines)]
    return found


def _problems(case: Case, one: Ask, theirs: Answer, ours: Answer) -> list[str]:
    wanted = set().union(*(DIFFERENCES[name] for name in one.differences))
    found = differences(one, theirs, ours)
    if found == wanted:
        return []
    said = f"{case.name}: {one}: differs in {sorted(found)}, and should in {sorted(wanted)}"
    return [f"{said}\n   theirs {theirs.shown()}\n   ours   {ours.shown()}"]


def test_every_difference_is_explained() -> None:
    """docs/moving.md has a line for each, and each shows in some case."""
    table = (REPOSITORY / "docs/moving.md").read_text()
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE))
    named = {
        name
        for program in PROGRAMS
        for case in cases(CASES / program)
        for one in case.asks
        for name in one.differences
    }
    assert explained == named == set(DIFFERENCES)

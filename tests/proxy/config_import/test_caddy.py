"""What becomes of a Caddyfile, in the text alone; tests/e2e/test_migration.py serves it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config_import.draft import CannotRead
from proxy.config_import.proofreading import proofread
from proxy.config_import.readers import read

from .conftest import Import

CASES = sorted((Path(__file__).parent / "caddy").iterdir())
CADDY = Path(sys.executable).with_name("caddy")


def site(imported: Import, text: str, name: str = "a.test") -> dict[str, object]:
    return imported("caddy", text, "Caddyfile").site(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reverse_proxy localhost:1", {"backend": "http://localhost:1"}),
        ("reverse_proxy https://b.test", {"backend": "https://b.test:443", "preserve_host": False}),
        ("reverse_proxy h2c://127.0.0.1:1", {"backend": "h2c://127.0.0.1:1"}),
        ("reverse_proxy localhost:1 {\n header_up Host app.internal\n}",
         {"backend": "http://localhost:1", "request_headers": {"host": "app.internal"}}),
        ("reverse_proxy :1 :2",
         {"backend": ["http://localhost:1", "http://localhost:2"], "balance": "random_two"}),
        ("redir https://b.test{uri}", {"redirect": "https://b.test{path}", "status": 302}),
        ("respond hello", {"respond": {"body": "hello", "status": 200}}),
        ("root /www\nfile_server browse", {"root": "/www", "listing": True}),
        ("root * /www\ntry_files {path} /index.html\nfile_server",
         {"root": "/www", "fallback": "/index.html"}),
        ("root * /www\nphp_fastcgi unix//run/php.sock\nfile_server",
         {"root": "/www", "fastcgi": "unix:/run/php.sock"}),
        ("rewrite * /base{uri}\nreverse_proxy :1",
         {"backend": "http://localhost:1", "rewrite": "/base{path}"}),
        ("root * /www\nheader Cache-Control no-cache\nfile_server",
         {"root": "/www", "cache_control": {"*": "no-cache"}}),
        ("header Cache-Control no-cache\nreverse_proxy :1",
         {"backend": "http://localhost:1", "headers": {"set": {"Cache-Control": "no-cache"}}}),
        ("forward_auth 127.0.0.1:9 {\nuri /verify\ncopy_headers Remote-User\n}\nreverse_proxy :1",
         {"backend": "http://localhost:1",
          "forward_auth": {"url": "http://127.0.0.1:9/verify", "copy": ["Remote-User"]}}),
        ("", {"respond": {"status": 200}}),
    ],
)  # fmt: skip
def test_directives_and_what_they_become(
    text: str, expected: dict[str, object], imported: Import
) -> None:
    found = site(imported, f"a.test {{\n{text}\n}}")
    assert {key: value for key, value in found.items() if key != "names"} == expected


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_caddyfile_and_its_adapted_json_say_the_same(case: Path, tmp_path: Path) -> None:
    """What Caddy itself reads in the file is what is read here."""
    command = [CADDY, "adapt", "--adapter", "caddyfile", "--config", case]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "adapted.json").write_bytes(done.stdout)
    one = words(str(proofread(read("caddy", str(case)))))
    other = words(str(proofread(read("caddy", str(tmp_path / "adapted.json")))))
    assert one == other


def words(text: str) -> list[str]:
    """The lines without comments; which order they have does not matter."""
    bare = (re.sub(r" *#.*", "", line).strip().lower() for line in text.splitlines())
    return sorted(line for line in bare if line)


def test_a_file_without_braces_is_one_site(imported: Import) -> None:
    assert site(imported, "a.test, b.test\n\nroot * /www\nfile_server")["names"] == [
        "a.test",
        "b.test",
    ]


def test_snippets_arguments_quotes_and_the_environment(
    imported: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_HOST", "a.test")
    found = site(imported, """
(words) {
	header X-Words "{args[0]} and \\"{args[1]}\\""
}
{$THE_HOST} {
	import words one `two`
	respond <<END
		a
			b
		END 200
}
""")  # fmt: skip
    assert found["headers"] == {"set": {"X-Words": 'one and "two"'}}
    assert found["respond"] == {"body": "a\n\tb", "status": 200}


def test_handles_exclude_each_other_and_the_longest_path_comes_first(imported: Import) -> None:
    made = imported("caddy", """a.test {
	handle {
		respond rest
	}
	handle /a/* {
		respond a
	}
	handle_path /a/b/* {
		reverse_proxy :1
	}
}""", "Caddyfile")  # fmt: skip
    assert made.route("/a/*")["respond"]["body"] == "a"
    assert made.route("/a/b/*") == {
        "path": "/a/b/*", "backend": "http://localhost:1", "strip_prefix": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "guard",
    ["basic_auth {\n}", "forward_auth {upstream}:1", "basic_auth sha {\nalice abc\n}",
     "basic_auth {\nalice $1$abc\n}"],
)  # fmt: skip
def test_what_was_guarded_is_closed_where_the_guard_is_left_out(
    guard: str, imported: Import
) -> None:
    made = imported("caddy", f"a.test {{\n{guard}\nreverse_proxy :1\n}}", "Caddyfile")
    assert made.site("a.test")["deny"] == ["0.0.0.0/0", "::/0"]
    assert "closed to everybody" in made.left[0]


def test_a_refusal_that_cannot_be_taken_over_is_told_as_a_guard(imported: Import) -> None:
    made = imported(
        "caddy",
        "a.test {\n@evil header_regexp User-Agent a(?!b)\nrespond @evil 403\nreverse_proxy :1\n}",
        "Caddyfile",
    )
    assert made.draft.all_left()[0].guard


def test_what_would_have_answered_and_is_left_is_not_answered_by_others(imported: Import) -> None:
    made = imported(
        "caddy", "a.test {\nreverse_proxy /x/* {env.UP}:1\nroot * /www\nfile_server\n}", "Caddyfile"
    )
    assert made.route("/x/*")["respond"] == {"status": 501}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.test {", "no end"),
        ("}", "closes nothing"),
        ('a.test {\nrespond "x\n}', "no end"),
        ("a.test {\nrespond <<END\nx\n}", "no end"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    text: str, why: str, imported: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no caddy that could be asked instead
    with pytest.raises(CannotRead, match=why):
        imported("caddy", text, "Caddyfile")


def test_a_refusal_of_all_others(imported: Import) -> None:
    """``respond @others 403`` with a condition that is turned round."""
    made = imported("caddy", """a.test {
	@others not remote_ip 192.0.2.0/24
	respond @others 403
	@nokey not header X-Api-Key s3cret
	respond @nokey 401
	reverse_proxy :1
}""", "Caddyfile")  # fmt: skip
    found = made.site("a.test")["routes"]
    assert [one.get("respond", {}).get("status") for one in found] == [None, 401, 403]
    assert found[0]["match"] == {"from": ["192.0.2.0/24"], "header": {"X-Api-Key": "s3cret"}}
    assert found[1]["match"] == {"from": ["192.0.2.0/24"]}
    assert "match" not in found[2]


def test_of_several_refused_paths_those_are_taken_that_can_be(imported: Import) -> None:
    made = imported("caddy", """a.test {
	@forbidden path /xmlrpc.php /uploads/*.php
	respond @forbidden 403
	reverse_proxy :1
}""", "Caddyfile")  # fmt: skip
    assert made.route("/xmlrpc.php")["respond"] == {"status": 403}
    assert made.draft.all_left()[0].guard

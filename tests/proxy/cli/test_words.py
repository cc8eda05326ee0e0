"""Words of other programs on the command line, and the next steps of advice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from proxy.cli.main import program
from proxy.cli.next_steps import as_typed, not_running

TYPED = [
    (["start"], "here that is: treehouse-proxy run"),
    (["validate"], "here that is: treehouse-proxy check"),
    (["configtest"], "here that is: treehouse-proxy check"),
    (["restart"], "here that is: treehouse-proxy reload"),
    (["help"], "here that is: treehouse-proxy --help"),
    (["certificates"], "here that is: treehouse-proxy certs list"),
    (["site.yaml"], "a configuration is given with --config site.yaml"),
    (["run", "site.yaml"], "a configuration is given with --config site.yaml"),
    (["check", "nginx.conf"], "a configuration is given with --config nginx.conf"),
    (["-c", "x.yaml"], "here that is --config"),
    (["run", "--port", "443"], "here that is --https-port"),
    (["--host", "a.test"], "here that is --domain"),
    (["check", "--upstream", "x"], "here that is --backend"),
    (["--verbose"], "here that is --log-level"),
    (["chekc"], "Did you mean 'check'"),
    (["why"], "NAME is missing: sudo treehouse-proxy why example.org"),
    (["explain"], "[METHOD] URL is missing: treehouse-proxy explain https://example.org/app/"),
    (["certs", "renew"], "NAME is missing: sudo treehouse-proxy certs renew"),
    (["config", "import", "nginx"], "PATH is missing: treehouse-proxy config import nginx"),
    (["config", "import", "lighttpd", "x"], "'lighttpd' is none of these: nginx, caddy, traefik"),
    (["check", "--log-level", "loud"], "--log-level: 'loud' is none of these: "),
    (["reload", "now"], "'now' is a word too many: reload takes options only."),
    (["why", "a.test", "b.test"], "'b.test' is a word too many: why takes NAME."),
    (["top", "--interval", "0"], "--interval: 0 is not from 0.1 to 60."),
    (["drill", "outage", "--days", "99999"], "--days: 99999 is not from -3650 to 3650."),
    (["hash-password", "secret"], "by standard input"),
    (["drill"], "One of these has to follow: outage, clock, disk, backend, revocation."),
    (["drill", "outage", "--days", "soon"], "--days: 'soon' is no number."),
    (["top", "--interval", "1s"], "--interval: '1s' is no number."),
    (["run", "--https-port", "https"], "--https-port: 'https' is no whole number."),
    (["drill", "outage", "--days", "0"], "more than 0 for drill outage"),
    (["drill", "disk", "--days", "-2"], "more than 0 for drill disk"),
    (["drill", "revocation", "--days", "-2"], "more than 0 for drill revocation"),
    (["drill", "clock", "--days", "0"], "2 is ahead, -2 is behind"),
    (["drill", "backend"], "drill backend http://127.0.0.1:3000"),
    (["drill", "backend", "http://127.0.0.1:1", "--days", "2"], "no --days, no --after"),
    (["drill", "clock", "http://127.0.0.1:1"], "only a backend has a URL: drill clock"),
]


@pytest.mark.parametrize(("words", "said"), TYPED, ids=[" ".join(words) for words, _ in TYPED])
def test_a_word_of_another_program_is_told_ours(words: list[str], said: str) -> None:
    done = CliRunner().invoke(program, words)
    assert done.exit_code == 2
    assert said in done.output


ADVICE = "no; try: treehouse-proxy certs renew a.test --force, or `treehouse-proxy doctor a.test`"


def test_advice_names_the_options_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_COMMAND", raising=False)
    assert as_typed(ADVICE, None, None) == ADVICE
    assert as_typed(ADVICE, Path("/etc/my site.yaml"), None) == (
        "no; try: treehouse-proxy certs renew --config '/etc/my site.yaml' a.test --force, "
        "or `treehouse-proxy doctor --config '/etc/my site.yaml' a.test`"
    )
    monkeypatch.setenv("SUDO_COMMAND", "treehouse-proxy why")
    said = as_typed(ADVICE, None, Path("s"))
    assert "sudo treehouse-proxy certs renew --state s a.test" in said
    assert as_typed(said, None, Path("s")) == said, "once is enough"


def test_where_nobody_answers_the_way_out_is_named() -> None:
    said = not_running("no server answers on /x/control.sock (No such file)", None, None)
    assert "--config FILE or --state DIR" in said
    assert "--state DIR" not in not_running("no server answers", Path("c.yaml"), None)


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


@pytest.mark.parametrize(("name", "command"), list(commands(program)))
def test_the_help_of_every_command_has_an_example_of_it(name: str, command: click.Command) -> None:
    said = CliRunner().invoke(program, [*name.split(), "--help"]).output
    assert f"treehouse-proxy {name}" in said.partition("Usage:")[2].partition("\n")[2]

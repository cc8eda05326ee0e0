"""What messengers may do: one thing each, and nothing of the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.alerts.policy import messenger, messengers
from proxy.config.model import Address, Alerts, Config, Mail
from proxy.sandbox import describe, policies

MAIL = Mail(
    ("a@b.test",), "c@d.test", Address("mail.test", 587), password_file=Path("/etc/th/password")
)
ALERTS = Alerts(
    webhook="https://chat.test:8443/hooks/s3cret", email=MAIL,
    command=("/opt/pager/alert",), ca_file=Path("/etc/th/ca.pem"),
)  # fmt: skip
CONFIG = Config((), Path("/var/lib/th"), alerts=ALERTS)


def ports(way: str) -> set[int]:
    policy = messenger(CONFIG, way)  # type: ignore[arg-type]
    return {one.number for one in policy.connect or ()}


def paths(grants: object) -> set[str]:
    return {str(one.path) for one in grants}  # type: ignore[attr-defined]


def test_the_webhook_gets_its_port_and_no_other() -> None:
    assert ports("webhook") == {8443, 53}
    policy = messenger(CONFIG, "webhook")
    assert "/etc/th/ca.pem" in paths(policy.read)
    assert "/etc/th/password" not in paths(policy.read)
    assert (policy.write, policy.append, policy.execute) == ((), (), ())


@pytest.mark.parametrize(("url", "port"), [("http://x.test/", 80), ("https://x.test/", 443)])
def test_the_usual_ports(url: str, port: int) -> None:
    config = Config((), Path("/s"), alerts=Alerts(webhook=url))
    assert {one.number for one in messenger(config, "webhook").connect or ()} == {port, 53}


def test_mail_gets_the_mail_server_and_the_password() -> None:
    assert ports("email") == {587, 53}
    policy = messenger(CONFIG, "email")
    assert "/etc/th/password" in paths(policy.read)
    assert (policy.write, policy.append, policy.execute) == ((), (), ())


def test_a_command_gets_what_it_is_and_what_it_calls() -> None:
    policy = messenger(CONFIG, "command")
    assert {"/opt/pager", "/opt/pager/alert", "/usr/bin"} <= paths(policy.execute)
    assert policy.write == ()
    assert paths(policy.append) == {"/dev/null"}
    assert "/etc/th/password" not in paths(policy.read)


@pytest.mark.parametrize("way", ["webhook", "email", "command"])
def test_none_binds_or_sees_the_state(way: str) -> None:
    policy = messenger(CONFIG, way)  # type: ignore[arg-type]
    assert policy.bind == ()
    assert policy.hidden == CONFIG.state
    assert policy.connect is not None


def test_the_supervisor_keeps_what_a_command_needs_only_where_there_is_one() -> None:
    without = Config((), Path("/s"), alerts=Alerts(webhook="https://x.test/"))
    assert "/usr/bin" not in paths(policies(without)["supervisor"].execute) - paths(
        policies(Config((), Path("/s")))["supervisor"].execute
    )
    assert {"/opt/pager", "/usr/bin"} <= paths(policies(CONFIG)["supervisor"].execute)
    for role in ("worker", "certifier"):
        assert policies(CONFIG)[role].execute == ()  # type: ignore[index]


def test_people_see_them_and_no_secret() -> None:
    said = describe(messengers(CONFIG))
    assert list(messengers(CONFIG)) == [
        "messenger (webhook)",
        "messenger (email)",
        "messenger (command)",
    ]
    assert "the webhook at chat.test" in said
    assert "s3cret" not in said
    assert messengers(Config((), Path("/s"))) == {}

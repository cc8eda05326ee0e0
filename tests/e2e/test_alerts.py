"""Somebody is told: by webhook, by mail, by a command; once, and again when it is over."""

from __future__ import annotations

import datetime
import email
import email.policy
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from support.acme.ca_faults import Faults, Refuse
from support.acme.pebble import Pebble
from support.program.alert_sinks import MailServer, Webhook
from support.program.server import Server, await_gone, packages, shorten, started, treehouse

Write = Callable[[str, str], Path]


@pytest.fixture
def write(folder: Path, ports: tuple[int, int]) -> Write:
    def write(alerts: str, rest: str) -> Path:
        path = folder / "config.yaml"
        path.write_text(
            f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
alerts: {alerts}
{rest}
"""
        )
        return path

    return write


def own_certificate(folder: Path, days: float) -> str:
    """A site whose certificate lies in files and lives that long yet."""
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    pair = trustme.CA().issue_cert("own.test", not_after=ends)
    pair.cert_chain_pems[0].write_to_path(folder / "own.pem")
    pair.private_key_pem.write_to_path(folder / "own.key")
    for name in ("own.pem", "own.key"):
        os.chmod(folder / name, 0o644)
    return f"sites: [{{names: [own.test], root: {folder / 'www'}, certificate: {{chain: {folder / 'own.pem'}, key: {folder / 'own.key'}}}}}]"


def test_a_certificate_in_files_that_ends_soon_and_its_successor(
    folder: Path, root: Path, write: Write
) -> None:
    with Webhook() as hook:
        path = write(f'{{webhook: "{hook.url}", runway: 10d}}', own_certificate(folder, 5))
        with Server(["--config", str(path)], folder) as server:
            document = hook.await_document()
            assert document["version"] == 1
            assert document["server"] == os.uname().nodename
            (alert,) = document["alerts"]
            assert (alert["event"], alert["kind"], alert["name"]) == (
                "alert",
                "runway_short",
                "own.test",
            )
            assert "ends in 4 days" in alert["text"]
            assert alert["text"] in document["text"]
            assert "put the renewed certificate" in alert["next_step"]
            assert alert["certificate"]["source"] == "file"
            ((target, head),) = hook.heads
            assert target == "/hooks/s3cret?channel=ops"
            assert head["Content-Type"] == "application/json"
            server.await_log("told by webhook: runway_short own.test")
            # The messenger has gone, and nobody waits for it.
            assert server.status(folder / "state")["certificates"][0]["state"] == "fresh"
            assert server.stop() == 0
            assert "s3cret" not in server.text()
        # A restart does not repeat it; a successor that lasts ends it.
        with Server(["--config", str(path)], folder) as server:
            own_certificate(folder, 90)
            server.await_log("reloading: .*changed")
            (over,) = hook.await_document()["alerts"]
            assert (over["event"], over["kind"]) == ("over", "runway_short")
            assert "well again" in over["text"]
            assert over["since"] == alert["since"]


def test_an_upgraded_server_knows_who_has_been_told(
    folder: Path, root: Path, write: Write, shared_python: str, program: Path
) -> None:
    with Webhook() as hook:
        address = folder / "webhook"  # and the address stands in a file
        address.write_text(f"{hook.url}\n")
        path = write(f'{{webhook_file: "{address}", runway: 10d}}', own_certificate(folder, 5))
        with Server(
            ["--config", str(path)], folder,
            python=shared_python, cwd=program, environment=packages(program),
        ) as server:  # fmt: skip
            (alert,) = hook.await_document()["alerts"]
            server.await_log("told by webhook")
            assert treehouse("upgrade", "--state", str(folder / "state")).returncode == 0
            own_certificate(folder, 90)
            (over,) = hook.await_document()["alerts"]
            assert (over["event"], over["since"]) == ("over", alert["since"])
            treehouse("stop", "--state", str(folder / "state"))


def test_a_ca_that_is_down_and_a_webhook_that_is_unwell(
    folder: Path, root: Path, write: Write, ports: tuple[int, int], program: Path
) -> None:
    shorten(program / "proxy/supervisor/alerts.py", _PAUSES=(1.0,))
    with (
        Pebble(ports[0], ports[1], validity=60) as ca,
        Faults(ca) as front,
        Webhook(refuse=1) as hook,
    ):
        front.add("newOrder", Refuse(503, headers={"Retry-After": "1"}), times=1000)
        (folder / "front.pem").write_bytes(front.ca_pem)
        os.chmod(folder / "front.pem", 0o644)
        path = write(
            f'{{webhook: "{hook.url}", after_failures: 2}}',
            f"acme: {{directory: '{front.directory}', ca_file: front.pem, challenges: [http-01]}}\n"
            f"sites: [{{names: [down.example], root: {root}}}]",
        )
        with Server(
            ["--config", str(path)], folder, cwd=program, environment=packages(program)
        ) as server:
            server.await_log("alert: down.example: [2-9] attempts")
            assert hook.refused.acquire(timeout=60)
            server.await_log(
                "could not tell by webhook: 127.0.0.1 answers 503 .*; tried again in 1 s"
            )
            alert = hook.await_alert("renewal_failing")
            assert alert["certificate"]["state"] in ("failed", "waiting", "issuing", "due")
            assert "refused by the test" in alert["text"]
            assert alert["next_step"]
            front.clear()
            over = hook.await_alert("renewal_failing", "over")
            assert over["name"] == "down.example"


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
def test_mail_over_verified_tls_with_a_login(
    folder: Path, root: Path, write: Write, implicit: bool
) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "m.pem")
    authority.cert_pem.write_to_path(folder / "mail-ca.pem")
    (folder / "password").write_text("pa ss\n")
    for name in ("mail-ca.pem", "password"):
        os.chmod(folder / name, 0o644)
    with MailServer(folder / "m.pem", implicit=implicit, login=("th", "pa ss")) as server_of_mail:
        path = write(
            f"{{runway: 10d, ca_file: mail-ca.pem, email: {{to: [ops@example.org, boss@example.org], "
            f"sender: th@example.org, smtp: '127.0.0.1:{server_of_mail.port}', user: th, "
            f"password_file: password, tls: {'implicit' if implicit else 'starttls'}}}}}",
            own_certificate(folder, 5),
        )
        with Server(["--config", str(path)], folder) as server:
            sender, to, text = server_of_mail.await_mail()
            server.await_log("told by email")
    assert (sender, to) == ("th@example.org", ["ops@example.org", "boss@example.org"])
    message = email.message_from_string(text, policy=email.policy.default)
    assert "own.test: the certificate ends in 4 days" in message["Subject"]
    assert message["Auto-Submitted"] == "auto-generated"
    assert "Next step: put the renewed certificate" in message.get_content().replace("\n", " ")


def test_a_mail_server_that_is_not_trusted_gets_nothing(
    folder: Path, root: Path, write: Write
) -> None:
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "m.pem"
    )
    with MailServer(folder / "m.pem") as server_of_mail:
        path = write(
            f"{{runway: 10d, email: {{to: a@b.test, sender: c@d.test, smtp: '127.0.0.1:{server_of_mail.port}'}}}}",
            own_certificate(folder, 5),
        )
        with Server(["--config", str(path)], folder) as server:
            server.await_log("could not tell by email: its certificate is not trusted")
            assert server_of_mail.mails.empty()
            # What was not delivered is not forgotten at the end.
            assert server.stop() == 0
    kept = json.loads((folder / "state/alerts.json").read_text())
    assert [one["kind"] for one in kept["waiting"]["email"]] == ["runway_short"]


def test_a_command_gets_the_document_and_nothing_of_ours(
    folder: Path, root: Path, write: Write
) -> None:
    script = folder / "alert"
    # It tries what it may not: to write, to read the state, to keep a variable of ours.
    script.write_text(
        "#!/bin/sh\n"
        f"cat > /dev/null && touch {folder}/touched; cat {folder}/state/alerts.json > /dev/null && exit 3\n"
        'env | sort >&2; echo "$@" >&2; exit 4\n'
    )
    os.chmod(script, 0o755)
    os.chmod(folder, 0o777)
    path = write(f"{{runway: 10d, command: [{script}, --now]}}", own_certificate(folder, 5))
    with Server(["--config", str(path)], folder, environment={"SECRET": "x"}) as server:
        line = server.await_log("could not tell by command: the command ended with status 4")
        assert "--now" in line["message"]
        assert "SECRET" not in line["message"]
        assert "LANG=C.UTF-8" in line["message"]
        assert not (folder / "touched").exists()
        script.write_text("#!/bin/sh\nexec grep -q '\"own.test\"'\n")
        server.await_log("told by command: runway_short own.test")


def test_a_command_that_hangs_ends_with_its_messenger(
    folder: Path, root: Path, write: Write
) -> None:
    script = folder / "alert"
    script.write_text("#!/bin/sh\nexec sleep 3600\n")
    os.chmod(script, 0o755)
    path = write(f"{{runway: 10d, command: {script}}}", own_certificate(folder, 5))
    with Server(["--config", str(path)], folder) as server:
        deadline = time.monotonic() + 60
        while not (sleeping := [pid for pid in server.tree() if _program(pid) == "sleep"]):
            assert time.monotonic() < deadline, server.text()
            time.sleep(0.05)  # a process that begins has no event that could be awaited here
        assert server.stop() == 0
        await_gone(sleeping)  # killed with their messenger, and a busy machine ends them later


def test_a_messenger_that_hangs_is_ended_and_the_next_one_tells(
    folder: Path, root: Path, write: Write, program: Path
) -> None:
    shorten(program / "proxy/supervisor/alerts.py", _KILL_AFTER=5.0, _PAUSES=(0.1,))
    with socket.create_server(("127.0.0.1", 0)) as hook:
        hook.settimeout(60)
        path = write(
            f'{{webhook: "http://127.0.0.1:{hook.getsockname()[1]}/", runway: 10d}}',
            own_certificate(folder, 5),
        )
        with Server(
            ["--config", str(path)], folder, cwd=program, environment=packages(program)
        ) as server:
            with hook.accept()[0]:
                hangs = max(server.children(), key=started)
                os.kill(hangs, signal.SIGSTOP)
                server.await_log("could not tell by webhook: it took too long; tried again in 0 s")
                await_gone([hangs])
            with hook.accept()[0] as taken:
                taken.sendall(b"HTTP/1.1 204 Taken\r\n\r\n")
                server.await_log("told by webhook: runway_short own.test")


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_certifier_that_has_stopped(folder: Path, root: Path, write: Write) -> None:
    with Webhook() as hook:
        path = write(
            f'{{webhook: "{hook.url}", certifier_silent: 15s}}',
            f"sites: [{{names: [a.test], root: {root}}}]",
        )
        with Server(["--config", str(path)], folder) as server:
            server.await_log("a.test: certificate obtained")
            (line,) = [one for one in server.log if "certificate obtained" in one["message"]]
            os.kill(line["pid"], signal.SIGSTOP)
            alert = hook.await_alert("certifier_silent", within=60)
            assert alert["name"] is None
            assert alert["certificate"] is None
            assert "has not been heard of for" in alert["text"]
            os.kill(line["pid"], signal.SIGKILL)  # as the next step says
            assert "well again" in hook.await_alert("certifier_silent", "over")["text"]

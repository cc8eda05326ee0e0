"""The messenger: a process that delivers one message one way, and ends.

It is forked by the supervisor, which speaks to nobody on the network itself, and confined to the
one thing that it is for: connecting to the webhook, or to the mail server, or executing the
command. It has no key, no client and no state; what it may take of time is bounded here, and once
more by the supervisor. It says whether the message was taken, and if not, why.

The webhook's URL is often a secret: no word of it but the host is ever said.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from email.message import EmailMessage
from urllib.parse import urlsplit

from .. import log as logs
from .. import sandbox
from ..config.model import Alerts, Mail
from ..ipc.channel import Channel, ChannelClosed
from ..ipc.codec import encode
from ..ipc.messages import Delivered
from ..system.privileges import confine_process, die_with_parent
from ..tls.trust import client_context
from ..version import VERSION
from . import notices, policy
from .policy import Delivery

log = logging.getLogger("treehouse.messenger")

# For each step on the network: mail servers that look everything up take ten seconds to greet.
_STEP = 15.0
# The whole; the supervisor ends the process soon after.
WITHIN = 40.0
# What a command is called with, whatever this program was.
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_SAID = 300  # characters of somebody's refusal


class Undelivered(Exception):
    """Why it was not taken."""


def run(delivery: Delivery, channel: Channel) -> int:
    """The life of the process; returns its exit status."""
    config = delivery.config
    logs.set_up("messenger", config.log.format, config.log.level)
    confine_process()
    alerts = config.alerts
    if alerts is None:
        return 1
    now = time.time()
    document = notices.document(delivery.server, delivery.notices, now)
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
    message = (
        notices.mail(alerts.email, delivery.server, delivery.notices, now) if alerts.email else None
    )
    error: str | None = None
    try:
        trust = _trust(alerts)
        if delivery.way == "webhook" and alerts.webhook_file is not None:
            alerts = replace(alerts, webhook=alerts.webhook_file.read_text("utf-8").strip())
            config = replace(config, alerts=alerts)
        sandbox.apply(policy.messenger(config, delivery.way), config.sandbox)
        signal.alarm(int(WITHIN))
        match delivery.way:
            case "webhook":
                post(alerts.webhook or "", body, trust)
            case "email" if alerts.email is not None and message is not None:
                send(alerts.email, message, trust)
            case _:
                execute(alerts.command, body)
    except Undelivered as reason:
        error = str(reason)
    except (OSError, http.client.HTTPException, ValueError, sandbox.SandboxUnavailable) as reason:
        error = _words(reason)
    try:
        channel.send(encode(Delivered(error)))
    except ChannelClosed:
        return 1
    return 0


def _trust(alerts: Alerts) -> ssl.SSLContext:
    return client_context(alerts.ca_file)


def _words(reason: BaseException) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, TimeoutError):
        return "it does not answer"
    if isinstance(reason, smtplib.SMTPException):
        return f"the mail server refuses: {reason}"[:_SAID]
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


# The three ways


def post(url: str, body: bytes, trust: ssl.SSLContext) -> None:
    """A redirect is no answer: whoever moved may have moved anywhere."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, parts.port, timeout=_STEP, context=trust)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_STEP)
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    headers = {"Content-Type": "application/json", "User-Agent": f"treehouse-proxy/{VERSION}"}
    try:
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        said = answer.read(_SAID).decode("utf-8", "replace").strip()
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise Undelivered(f"{host} answers {answer.status} {answer.reason}: {said}".rstrip(": "))


def send(settings: Mail, message: EmailMessage, trust: ssl.SSLContext) -> None:
    server = settings.smtp
    own = socket.getfqdn()  # would be asked for at each connection otherwise
    client: smtplib.SMTP
    if settings.security == "implicit":
        client = smtplib.SMTP_SSL(server.host, server.port, own, timeout=_STEP, context=trust)
    else:
        client = smtplib.SMTP(server.host, server.port, own, timeout=_STEP)
    with client:
        if settings.security == "starttls":
            _start_tls(client, trust)
        if settings.user is not None and settings.password_file is not None:
            client.login(settings.user, settings.password_file.read_text("utf-8").strip())
        refused = client.send_message(message, settings.sender, list(settings.to))
    if refused:
        raise Undelivered(f"the mail server does not take mail for {', '.join(refused)}")


def _start_tls(client: smtplib.SMTP, trust: ssl.SSLContext) -> None:
    try:
        client.starttls(context=trust)
    except smtplib.SMTPNotSupportedError:
        raise Undelivered(
            "the mail server offers no STARTTLS (alerts.email.tls: implicit, or off where the way "
            "to it needs none)"
        ) from None


def execute(command: Sequence[str], body: bytes) -> None:
    """With the document on its standard input, and an environment that has nothing of ours."""
    parent = os.getpid()
    try:
        process = _started(command, parent)
    except PermissionError:
        raise Undelivered(
            "the command may not be executed (one that was configured or moved while the server "
            "runs can be after a restart)"
        ) from None
    try:
        _, said = process.communicate(body, timeout=WITHIN - 5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise Undelivered("the command does not come to its end") from None
    if process.returncode:
        words = said.decode("utf-8", "replace").strip()[-_SAID:]
        ended = f"the command ended with status {process.returncode}"
        raise Undelivered(f"{ended}: {words}".rstrip(": "))


def _started(command: Sequence[str], parent: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - it is what the configuration says
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if os.access(os.devnull, os.W_OK) else subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),
    )

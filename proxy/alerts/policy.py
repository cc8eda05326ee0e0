"""What a messenger may do, by the way it goes: a part of `sandbox.policy`.

One that goes to the webhook or to the mail server connects there and reads what TLS takes. One that
hands alerts to a command keeps what that may need: for it is the operator's own program, and a
script that could call nothing would be of no use. It writes nothing, and sees no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from acme_client.late_dataclass import dataclass

from ..config.model import Alerts, Config
from ..config.schema.alerts import Way
from ..sandbox.grants import Grant, Policy, Port
from ..sandbox.paths import HERE, Surroundings
from ..sandbox.policy import (
    DNS,
    alert_programs,
    base,
    nowhere,
    what_scripts_read,
)
from .incidents import Notice


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a messenger is started with: one message, and how to deliver it. ``server``: the name of
    this machine, for people."""

    config: Config
    way: Way
    server: str
    notices: Sequence[Notice]


_DESCRIPTORS = 256
# Where alerts go in the end: web interfaces and mail servers.
_USUAL = (443, 80, 25, 465, 587)


def messenger(config: Config, way: Way, here: Surroundings = HERE) -> Policy:
    alerts = config.alerts or Alerts()
    if way == "command":
        program = Path(alerts.command[0]) if alerts.command else Path("/")
        return Policy(
            descriptors=_DESCRIPTORS,
            read=(
                # Its folder, for what it brings along; and itself, where that holds the state too.
                Grant(program.parent, "the alert command, and what lies beside it"),
                Grant(program, "the alert command"),
                *what_scripts_read(here),
            ),
            append=tuple(nowhere(config)),
            execute=tuple(alert_programs(config)),
            connect=(DNS, *(Port(one, "where an alert command may send it") for one in _USUAL)),
            hidden=config.state,
        )
    secrets = [(alerts.ca_file, "CAs trusted for alerts")]
    if way == "email" and alerts.email is not None:
        secrets.append((alerts.email.password_file, "the password for the mail server"))
        port = Port(alerts.email.smtp.port, f"the mail server {alerts.email.smtp.host}")
    else:
        secrets.append((alerts.webhook_file, "the address of the webhook"))
        # The address in a file is read by the messenger before it is confined.
        parts = urlsplit(alerts.webhook or "https:")
        number = parts.port or (443 if parts.scheme == "https" else 80)
        port = Port(number, f"the webhook at {parts.hostname or alerts.webhook_file}")
    files = tuple(Grant(path, why) for path, why in secrets if path is not None)
    return Policy(
        descriptors=_DESCRIPTORS,
        read=(*files, *base(here)),
        connect=(port, *(() if port.number == DNS.number else (DNS,))),
        hidden=config.state,
    )


def messengers(config: Config, here: Surroundings = HERE) -> Mapping[str, Policy]:
    """For people, under titles."""
    ways = config.alerts.ways if config.alerts is not None else ()
    return {f"messenger ({way})": messenger(config, way, here) for way in ways}

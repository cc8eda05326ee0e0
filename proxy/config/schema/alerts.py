"""The keys below ``alerts``: who is told, and of what. A part of `document`."""

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from ..syntax.addresses import parse_mail_server, parse_webhook
from ..syntax.faults import Fault, Origins, Path, Wrong, shown
from ..syntax.kinds import Email, File, Token, count, duration, one_of, word
from ..syntax.sections import Field, Many, Section, section
from ..syntax.units import parse_duration
from ..values import Address, Runway

# How an alert goes to people.
Way = Literal["webhook", "email", "command"]
_RUNWAY = r"^[0-9.]+ *%$|^[0-9.]+$|^([0-9.]+(w|d|h|ms|m|s))+$"


def _parse_runway(text: str) -> Runway:
    share = re.fullmatch(r"(\d{1,2}) ?%", text.strip())
    if share:
        return Runway(share=int(share[1]) / 100)
    if "%" in text:
        raise Wrong(
            f"{shown(text)} is not a share of a lifetime", "write it like 15%, up to 99%; or 7d"
        )
    return Runway(seconds=parse_duration(text))


@section
class Mail(Section):
    to: Many[Email] = Field(description="Who gets it.")
    sender: Email = Field(description="Whom it is from.")
    smtp: Annotated[Address, word(parse_mail_server)] = Field(
        description="The mail server, HOST:PORT."
    )
    tls: Annotated[
        Literal["auto", "starttls", "implicit", "off"],
        one_of("auto", "starttls", "implicit", "off"),
    ] = Field(
        default="auto",
        description="auto is implicit on port 465, else STARTTLS, always verified.",
    )
    user: Token | None = Field(default=None, description="To log in with, where the server asks.")
    password_file: File | None = Field(default=None, description="A file with the password.")

    @property
    def security(self) -> Literal["starttls", "implicit", "off"]:
        if self.tls == "auto":
            return "implicit" if self.smtp.port == 465 else "starttls"
        return self.tls


@section
class Alerts(Section):
    """Who is told (each way that is given), and of what."""

    renamed: ClassVar = {"certifier_silent": "certifier_timeout"}

    webhook: Annotated[str, word(parse_webhook)] | None = Field(
        default=None,
        secret=True,  # its path is often a secret
        description="A URL that gets a JSON document by POST.",
    )
    webhook_file: File | None = Field(
        default=None, description="A file with that URL instead, whose path is often a secret."
    )
    email: Mail | None = Field(default=None, description="A mail server, and who gets mail.")
    command: Many[Token] = Field(
        default=(), description="A program and its arguments; gets the document on standard input."
    )
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust for the webhook and the mail server."
    )
    after_failures: Annotated[int, count(1, 1000)] = Field(
        default=3, description="Failed attempts in a row for one certificate."
    )
    runway: Annotated[Runway, word(_parse_runway, pattern=_RUNWAY)] = Field(
        default=Runway(share=0.15), description="What is left of a certificate: a share, or 7d."
    )
    certifier_timeout: Annotated[float, duration("15s", "7d")] = Field(
        default=3600.0,
        description="Nothing heard of the certifier for that long.",
    )
    repeat: Annotated[float, duration("1m", "30d")] = Field(
        default=86400.0, description="Told again while it lasts."
    )

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways that are given."""
        given: dict[Way, object] = {
            "webhook": self.webhook or self.webhook_file,
            "email": self.email,
            "command": self.command,
        }
        return tuple(way for way, one in given.items() if one)


def check(alerts: Alerts | None, origins: Origins) -> Iterator[Fault]:
    """Check what the keys need of each other."""
    at: Path = ("alerts",)
    if alerts is None:
        return
    if alerts.webhook and alerts.webhook_file:
        yield origins.fault_of_key(
            (*at, "webhook_file"), "webhook and webhook_file exclude each other", "keep one"
        )
    if not alerts.ways:
        yield origins.fault(at, "nobody is told", "give webhook, email or command")
    if alerts.command and not alerts.command[0].startswith("/"):
        yield origins.fault(
            (*at, "command"),
            f"{shown(alerts.command[0])} is not the whole path of a program",
            "write it like /usr/local/bin/alert",
        )
    mail = alerts.email
    if mail is None:
        return
    if (mail.user is None) != (mail.password_file is None):
        given = "user" if mail.user is not None else "password_file"
        yield origins.fault(
            (*at, "email", given), "user and password_file need each other", "give both, or neither"
        )
    if mail.user is not None and mail.tls == "off":
        yield origins.fault(
            (*at, "email", "tls"),
            "the password would be sent in the clear",
            "leave tls out, or user and password_file",
        )

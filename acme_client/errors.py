"""Says why an attempt for a certificate failed: a table of kinds, each with who is to blame.

Exceptions of libraries (acme, requests, ssl, OSError) become an `IssuanceError` where they arise.
Its text is for people: the log, ``status`` and the certificate's record show it, so it carries the
CA's own words where there are any.
"""

from __future__ import annotations

import enum
import re

from .late_dataclass import dataclass


class Blame(enum.Enum):
    CA = "the CA"
    NETWORK = "the way to the CA"
    SITE = "how the names reach this server"
    DNS = "the name servers of the names"
    SETTINGS = "the configuration"
    OURS = "this program or machine"


@dataclass(frozen=True, slots=True)
class Kind:
    blame: Blame
    # Whether the CA told us to come back later, rather than refusing what was asked.
    wait: bool = False


KINDS: dict[str, Kind] = {
    "unreachable": Kind(Blame.NETWORK),  # no answer: DNS, TCP, TLS, time-out, cut off
    "unavailable": Kind(Blame.CA, wait=True),  # 5xx
    "rate_limited": Kind(Blame.CA, wait=True),  # 429, urn:…:rateLimited
    "limits": Kind(Blame.CA, wait=True),  # our own ledger of its limits says to wait
    "refused": Kind(Blame.CA),  # any other problem document
    "nonsense": Kind(Blame.CA),  # an answer that is not ACME (RFC 8555)
    "stuck": Kind(Blame.CA),  # an order or authorization that does not get anywhere
    "validation": Kind(Blame.SITE),  # the CA looked at the challenge and was not content
    "zone": Kind(Blame.DNS),  # name servers do not take a record, or do not show it
    "hook": Kind(Blame.SETTINGS),  # the operator's program for DNS records has failed
    "presentation": Kind(Blame.OURS),  # a worker did not take the challenge in time
    "settings": Kind(Blame.SETTINGS),  # what is configured cannot be asked of this CA
    "binding": Kind(Blame.SETTINGS),  # the CA does not know us from elsewhere (acme.eab)
    "unproven": Kind(Blame.CA),  # the certificate that came is not the one that was wanted
    "clock": Kind(Blame.OURS),  # ours is far from the CA's
    "disk": Kind(Blame.OURS),
    "busy": Kind(Blame.OURS, wait=True),  # another certifier is at work on the same certificate
    "stopped": Kind(Blame.OURS),  # the program is being stopped
    "internal": Kind(Blame.OURS),  # a fault in this program
}


@dataclass(frozen=True, slots=True)
class ProblemDocument:
    """A problem document of a CA (RFC 9457, RFC 8555 §6.7). ``typ`` is its type without the prefix
    of ACME's types; ``name``: the name that it is about, if it says so; ``parts``: its subproblems
    (§6.7.1)."""

    typ: str
    detail: str
    name: str | None = None
    parts: tuple[ProblemDocument, ...] = ()


class IssuanceError(Exception):
    """An attempt that ended without a certificate. ``kind`` is a key of `KINDS`; ``not_before``
    (Unix seconds): when the CA allows the next attempt, if it said so; ``typ``: the type of the
    CA's problem document (RFC 8555 §6.7); ``challenge``: the kind that was in use; ``names``:
    those that the CA was not content with; ``said``: the CA's problem document; ``status``: of the
    answer that brought it (HTTP); ``account``: the URL of the account that made the order."""

    def __init__(
        self,
        kind: str,
        text: str,
        *,
        not_before: float | None = None,
        typ: str | None = None,
        challenge: str | None = None,
        names: tuple[str, ...] = (),
        said: ProblemDocument | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.not_before = not_before
        self.typ = typ
        self.challenge = challenge
        self.names = names
        self.said = said
        self.status = status
        self.account: str | None = None
        self.what = KINDS[kind]


class NotSet(IssuanceError):
    """A DNS record was certainly not set, so that there is none to remove."""


# What Python puts before or behind the words of OpenSSL: "[SSL: WRONG_VERSION_NUMBER] ",
# "_ssl.c:975: ", " (_ssl.c:1000)".
_FOR_PROGRAMMERS = re.compile(r"\[[A-Z_]+(: [A-Z0-9_]+)?\] |_ssl\.c:\d+: | \(_ssl\.c:\d+\)")


def plainly(error: BaseException) -> str:
    """Return what a system's or a library's exception says, without what only programmers can read:
    numbers of errors, and lines of OpenSSL's module.

    >>> plainly(PermissionError(13, "Permission denied", "/srv/state"))
    'Permission denied: /srv/state'
    >>> plainly(TimeoutError("_ssl.c:975: The handshake operation timed out"))
    'The handshake operation timed out'
    """
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = error.strerror or ""
        text += f": {error.filename}" if isinstance(error.filename, str) else ""
    return _FOR_PROGRAMMERS.sub("", text) or type(error).__name__

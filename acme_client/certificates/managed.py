"""A certificate that this process keeps: what is wanted, what there is, and how that is reported.

A certificate belongs to the agent's main thread, except while a thread is at work on it (``task``):
then it belongs to that thread, and the main thread only reads it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import asdict, field

from ..late_dataclass import dataclass
from ..link import INTERNAL, CertificateSpec, Served
from ..names import typed
from ..status import AriWindow, AttemptStatus, CertificateStatus, certificate_status
from ..text import timestamp
from ..x509 import keys
from ..x509.verify import CertificateAndKey, CertificateInfo, digest_of
from .lifecycle import READY, State
from .record import Attempt, History, Record, translated
from .renewal import Window

# The states of a certificate while an attempt for it has not come to its end.
UNDER_WAY = READY | {State.ISSUING}


class Task(enum.Enum):
    """What a thread is doing with a certificate."""

    LOAD = "load"  # take from the store what there is
    REREAD = "reread"  # look again, for the folder has changed
    RECHECK = "recheck"  # whether the certificate that another one stands in for is good again
    KEEP_PAIR = "keep the certificate"  # which the disk did not take before
    KEEP_RECORD = "keep the record"
    KEEP_REQUEST = "keep that another one was asked for"
    SERVE = "serve"  # have all workers take it
    ATTEMPT = "attempt"
    ASK = "ask when to renew"
    REVOKE = "revoke"
    SHARE = "share"  # what was made while the other machines could not be told


# When workers did not all acknowledge a certificate, they are told again: the worker that did not
# is being replaced, and the new one gets all certificates at birth.
TELL_AGAIN = 60.0


@dataclass(slots=True, eq=False)
class ManagedCertificate:
    wanted: CertificateSpec
    record: Record
    pair: CertificateAndKey | None = None  # verified; served, or to be served
    facts: CertificateInfo | None = None  # of ``pair``
    served: bool = False
    is_fallback: bool = False  # ``pair`` is the certificate before the newest, see `recovery`
    saved: bool = True  # False: the disk did not take ``pair``, which is in memory only
    republish_at: float = 0.0  # when to publish again what the workers did not all acknowledge
    task: Task | None = None  # what a thread is doing with it
    tickets: list[int] = field(
        default_factory=list
    )  # commands that wait for the outcome of the attempt
    force: bool = False  # order once, even if our count of the CA's limits says to wait
    by_hand: bool = False  # a person has asked for the attempt that is to come
    revoked: str = ""  # the serial number of the certificate that a person has revoked here
    # Commands that came while a thread was at work on it.
    postponed: list[Callable[[], None]] = field(default_factory=list)
    dormant: bool = False  # no attempt is made unless a client asks: see `on_demand`
    given_up: bool = False  # a certificate on demand that is not renewed any more
    # Where other machines have it too:
    satisfies: bool = True  # False: the certificate is not what this machine wants
    contested: str = ""  # why this machine does not order what it wants
    contested_since: float | None = None
    braked: str = ""  # why no machine orders for a while: too many were made
    under_way: str = ""  # the machine that makes an attempt
    asks: bool = True  # False: another machine asks when to renew it
    ready_since: float | None = None  # since when it has called for an attempt
    postponed_until: float = 0.0  # another machine is at work on it
    found_locked: int = 0  # times in a row that another machine had its lock
    hindered: str = ""  # why the last attempt has not been begun
    no_place_until: float = 0.0  # other machines have all places at the CA
    told: tuple[History, list[AttemptStatus]] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def busy(self) -> bool:
        return self.task is not None

    @property
    def attempted(self) -> bool:
        """Whether an attempt is under way that has not come to its end."""
        return self.task is Task.ATTEMPT and self.record.state in UNDER_WAY

    @property
    def serial(self) -> str:
        """That of the certificate in use; "" for none."""
        return self.facts.serial if self.facts else ""

    @property
    def is_revoked(self) -> bool:
        """Whether the certificate in use is the one that a person has revoked here."""
        return bool(self.revoked) and self.serial == self.revoked

    def is_called(self, name: object) -> bool:
        """Whether ``name`` is one of its names; also with the family of its key behind, as in
        "www.example.org/rsa"."""
        if not isinstance(name, str):
            return False
        plain, mark, family = typed(name).partition("/")
        return plain in self.wanted.names and (
            not mark or family == keys.family(self.wanted.key_type)
        )

    def usable(self, now: float) -> bool:
        return self.facts is not None and self.facts.not_after > now

    def as_served(self) -> Served:
        """Return what `Link.publish` takes. Raises ValueError without a certificate."""
        if self.pair is None or self.facts is None:
            raise ValueError(f"{self.name} has no certificate")
        return Served(
            name=self.name,
            site=self.wanted.names[0],
            names=self.facts.names,
            chain_pem=self.pair.chain_pem,
            key_pem=self.pair.key_pem,
            serial=self.facts.serial,
            not_before=self.facts.not_before,
            not_after=self.facts.not_after,
            family=keys.family(self.facts.key_type),
            source="internal" if self.record.source == "internal" else "acme",
            on_demand_for=self.wanted.on_demand_for,
            digest=digest_of(self.pair),
        )

    @property
    def issued_by(self) -> str:
        """The directory of the CA that issued the certificate in use."""
        return self.record.directory or self.wanted.authority.directory

    def status(self) -> CertificateStatus:
        """Return its entry of the status, for `why` and the alerts too."""
        record, facts = self.record, self.facts
        authority = self.wanted.authority
        self.told = translated(record.history, _attempt, self.told)
        return certificate_status(
            name=self.name,
            names=self.wanted.names,
            source="internal" if authority.directory == INTERNAL else "acme",
            directory=(record.directory if facts else None) or authority.directory,
            key_type=facts.key_type if facts else self.wanted.key_type,
            serial=facts.serial if facts else None,
            not_before=facts.not_before if facts else None,
            not_after=facts.not_after if facts else None,
            renew_at=record.renew_at if facts else None,
            window=_window(record.window),
            state=record.state.value,
            attempts=record.attempts,
            last_error=record.last_error,
            next_attempt=record.next_attempt,
            served=self.served,
            profile=authority.profile,
            on_demand_for=self.wanted.on_demand_for,
            given_up=self.given_up,
            contested=self.contested or None,
            contested_since=self.contested_since,
            made_by=record.made.node if record.made and facts else None,
            holder=self.under_way or (record.tried_by if record.state is State.ISSUING else None),
            history=self.told[1],
        )


def _window(window: Window | None) -> AriWindow | None:
    if window is None:
        return None
    return {
        "start": timestamp(window.start),
        "end": timestamp(window.end),
        "explanation_url": window.explanation,
    }


def _attempt(attempt: Attempt) -> AttemptStatus:
    return {
        "at": timestamp(attempt.at),
        "outcome": attempt.outcome,
        "directory": attempt.directory,
        "challenge": attempt.challenge,
        "error": attempt.text or None,
        "seconds": attempt.seconds,
        "problem": asdict(attempt.said) if attempt.said else None,
    }

"""The scheduler's actions, and the events that it is told of.

The scheduler decides and the process performs (`agent`); nothing else passes between them. In a
simulation another process performs them, at another speed.

An action of class `Run` gives a certificate away until an event `Finished` brings it back. The
other actions need no answer, except where their text says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ..certificates.managed import ManagedCertificate, Task
from ..late_dataclass import dataclass
from ..link import Authority, Command, OnDemandRule
from ..on_demand.checks import Finding, Why
from ..on_demand.known_names import Changes, Remembered

# Actions


@dataclass(frozen=True, slots=True)
class Run:
    """Do this with a certificate, in a thread. ``directory`` is the CA's that is asked, if any;
    ``reason`` is a revocation's (RFC 5280 §5.3.1)."""

    task: Task
    managed: ManagedCertificate
    directory: str = ""
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """Look which certificates have changed in the store; leads to `Changed`."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the supervisor how a certificate stands; ``managed`` None: it is no longer wanted."""

    name: str
    managed: ManagedCertificate | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the command with this ticket."""

    ticket: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AllLoaded:
    """Tell the supervisor that everything found in the store has been published. Once."""


@dataclass(frozen=True, slots=True)
class Check:
    """Find out whether a name may be had on demand, by the first of these rules that allows it;
    leads to `Checked`."""

    name: str
    rules: tuple[OnDemandRule, ...]
    why: Why = Why.NEW


@dataclass(frozen=True, slots=True)
class SaveNames:
    """Write down the changes to the names on demand; leads to `NamesNotSaved` when that fails."""

    changes: Changes


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete a certificate's files."""

    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the certificate that is kept for a name, unless it is one of ``wanted``; then
    answer."""

    command: Command
    name: str
    wanted: frozenset[str]


@dataclass(frozen=True, slots=True)
class RollAccountKeys:
    """Give the account with each of these CAs a new key, where there is one; then answer."""

    command: Command
    authorities: tuple[Authority, ...]


@dataclass(frozen=True, slots=True)
class ShowPersistRecords:
    """Find out which records of dns-persist-01 each of these CAs wants for these names; then
    answer."""

    command: Command
    authorities: tuple[Authority, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountCosts:
    """Find out what orders would take of CAs' limits, ``orders`` by directory; then answer."""

    command: Command
    orders: Mapping[str, list[tuple[str, ...]]] = field(hash=False)


Action = (
    Run
    | Scan
    | Report
    | Answer
    | AllLoaded
    | Check
    | SaveNames
    | Discard
    | Forget
    | RollAccountKeys
    | ShowPersistRecords
    | CountCosts
)

# Events


@dataclass(frozen=True, slots=True)
class Finished:
    """A thread has done what ``run`` asked for. ``error``: why a revocation failed, if it did."""

    run: Run
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Came:
    """The supervisor has sent a command."""

    command: Command


@dataclass(frozen=True, slots=True)
class LookAround:
    """A minute has passed: somebody may have changed the store, or a fault may be over."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What `Scan` has found: names whose files have changed; None: all may have."""

    names: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Checked:
    finding: Finding


@dataclass(frozen=True, slots=True)
class NamesRemembered:
    """The names on demand of an earlier process, read at the start."""

    remembered: Remembered


@dataclass(frozen=True, slots=True)
class NamesNotSaved:
    pass


@dataclass(frozen=True, slots=True)
class PeersChanged:
    """Other machines that have the same certificates have come or gone, want something else, or can
    be heard again."""


Event = (
    Finished
    | Came
    | LookAround
    | Changed
    | Checked
    | NamesRemembered
    | NamesNotSaved
    | PeersChanged
)

"""Names on demand of several machines: each is asked about once, and all have its certificate.

    on-demand/names/NAME    what was found out about a name; a refusal is gone after minutes
    on-demand/sites/SITE    how many names a site has, and when its next new one may come

Whoever finds out about a name has its lock meanwhile, and the machines to which clients come at the
same moment read what was found. A name that is allowed counts against the site's allowance in the
step that writes it, so that the allowance is the cluster's. While the engine is away, no machine
takes on a new name unless it is the only one that orders: what the others order is not known.

Clients cause all of this, so what lies in the engine is bounded: names by the site's ``most``,
refusals by how many are written in a minute.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..certificates.folder_names import folder_name
from ..certificates.peers import CLOCK_APART, Peers
from ..certificates.repository import folder_of
from ..certificates.shared_repository import Busy, SharedRepository
from ..late_dataclass import dataclass
from ..link import OnDemandRule
from ..on_demand.checks import Finding, Why
from ..on_demand.manager import ALLOWANCE_FOR, REFUSED_FOR, UNTOLD_FOR
from ..on_demand.policy import Allowance
from ..storage import documents
from ..storage.store import Conflict, Edit, Fenced, Lock, Unreadable
from .gate import Gate
from .settings import VERSION

log = logging.getLogger("treehouse.certifier")

NAMES, SITES = "on-demand/names", "on-demand/sites"
_NAME, _REFUSED, _SITE = "name.json", "refused.json", "site.json"

_LEASE = 1800.0
# How long another machine is waited for that finds out about the name.
_WAITED_FOR = 30.0
_LOOKED_EVERY = 0.1
# What was found out so lately holds for all machines that come to the same renewal.
_HOLDS_FOR = 600.0
# Refusals that are told to the others in a minute; further ones are this machine's own.
_REFUSALS_MOST = 120
_TRIES = 20


@dataclass(frozen=True, slots=True)
class _Known:
    """What the engine has of a name: ``asked`` when the rules were asked, ``until`` when it is
    over, in Unix seconds of the cluster's clock."""

    outcome: str
    why: str
    site: str
    asked: float
    until: float | None


class SharedNames:
    """Any thread may use it. ``now`` gives Unix seconds."""

    def __init__(
        self, store: Gate, repository: SharedRepository, peers: Peers, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._repository = repository
        self._peers = peers
        self._wall = now
        self._closing = threading.Event()
        self._minute = 0
        self._refusals = 0

    def want(self, names: Iterable[str]) -> None:
        """Have what the cluster has of these names."""
        for name in names:
            self._repository.want(name, (name,))

    def close(self) -> None:
        self._closing.set()

    def find_out(
        self,
        name: str,
        rules: Sequence[OnDemandRule],
        why: Why,
        ask: Callable[[], Finding | None],
    ) -> Finding | None:
        """Return what is known of a name, or what ``ask`` finds out, for all machines."""
        try:
            return self._find_out(name, rules, why, ask)
        except OSError as error:
            if why is not Why.HEARD and self._peers.is_only:
                return ask()
            said = f"the cluster cannot be asked: {error.strerror or error}"
            return Finding(name, "untold", said, rules[0])

    def _find_out(
        self,
        name: str,
        rules: Sequence[OnDemandRule],
        why: Why,
        ask: Callable[[], Finding | None],
    ) -> Finding | None:
        found = self._known(name, rules, why)
        if found is not None:
            return found
        if why is Why.HEARD:
            return Finding(name, "untold", "the cluster has no certificate for it", rules[0])
        deadline = time.monotonic() + _WAITED_FOR
        while (lock := self._store.lock(_folder(name), _LEASE)) is None:
            if time.monotonic() > deadline or self._closing.wait(_LOOKED_EVERY):
                said = "another machine is finding out about it"
                return Finding(name, "untold", said, rules[0])
            found = self._known(name, rules, why)
            if found is not None:
                return found
        try:
            found = self._known(name, rules, why)
            if found is None:
                found = ask()
                if found is not None:
                    found = self._keep(found, lock)
        finally:
            with contextlib.suppress(OSError):  # it ends with the session
                lock.release()
        return found

    def _known(self, name: str, rules: Sequence[OnDemandRule], why: Why) -> Finding | None:
        """Return what was found out before, where that holds still."""
        now = self._now()
        said = self._read(name)
        rule = next((one for one in rules if one.site == said.site), None) if said else None
        if said is None or rule is None:
            return None
        if said.outcome != "allowed":
            left = (said.until or 0.0) - now
            if not 0.0 < left <= REFUSED_FOR + CLOCK_APART:
                return None
            if said.outcome == "untold":
                return Finding(name, "untold", said.why, rule, seconds=left)
            return Finding(name, "refused", said.why, rule, seconds=left)
        is_new = abs(now - said.asked) < _HOLDS_FOR
        if why is Why.AGAIN:
            return Finding(name, "allowed", said.why, rule) if is_new else None
        self.want([name])
        self._repository.refresh(name)
        record, pair = self._repository.load(name)
        has = pair is not None and (record.not_after or 0.0) > self._wall()
        if not has and (why is Why.HEARD or not is_new):
            return None
        return Finding(name, "allowed", said.why, rule, is_known=True)

    def _keep(self, finding: Finding, lock: Lock) -> Finding:
        """Tell the other machines; returns what came of it, which is less where the site's
        allowance is used up. Raises OSError."""
        name, rule, now = finding.name, finding.rule, self._now()
        document = {"outcome": finding.outcome, "why": finding.why, "site": rule.site, "asked": now}
        if finding.outcome != "allowed":
            seconds = REFUSED_FOR if finding.outcome == "refused" else UNTOLD_FOR
            if self._may_tell(now):
                data = documents.write({**document, "until": now + seconds}, VERSION)
                self._store.put_for(_folder(name), _REFUSED, data, REFUSED_FOR)
            return finding
        data = documents.write(document, VERSION)
        for _try in range(_TRIES):
            mark = self._store.mark(_folder(name))
            is_counted = _NAME in self._load(_folder(name))
            edits = [Edit(_folder(name), {_NAME: data}, replaces=mark)]
            if not is_counted:
                counted = self._counted(rule, now)
                if isinstance(counted, Finding):
                    return Finding(name, "refused", counted.why, rule, seconds=ALLOWANCE_FOR)
                edits.append(counted)
            try:
                self._store.change(edits, by=lock)
            except Conflict:
                continue  # another machine has counted another name of the site
            self.want([name])
            return finding
        raise Conflict(errno.EAGAIN, "the other machines count all the time")

    def _counted(self, rule: OnDemandRule, now: float) -> Edit | Finding:
        """Return the step that counts one more name of a site; a finding where it has too many."""
        folder = _site_folder(rule.site)
        mark = self._store.mark(folder)
        names, due = self._site(folder)
        allowance = Allowance(rule.per_hour, due)
        if allowance.wait(now):
            why = f"{rule.per_hour} new names in an hour are ordered for {rule.site}"
            return Finding("", "refused", why, rule)
        if names >= rule.most:
            return Finding("", "refused", f"{rule.site} has {rule.most} names already", rule)
        allowance.spend(now)
        return Edit(folder, _site_files(names + 1, allowance.due), replaces=mark)

    def discard(self, name: str) -> None:
        """Delete what this machine has of a name; and what the engine has, where no machine has a
        certificate for it that is valid. Raises OSError."""
        try:
            with self._repository.alone(name) as lock:
                record, pair = self._repository.load(name)
                if pair is None or (record.not_after or 0.0) <= self._wall():
                    self._drop(name, lock)
        except (Busy, Conflict, Fenced):
            pass  # another machine is at work on it, and wants it
        except OSError as error:
            log.info("%s: the cluster keeps it: %s", name, error.strerror or error)
        self._repository.unwant(name)
        self._repository.discard(name)

    def _drop(self, name: str, lock: Lock) -> None:
        for _try in range(_TRIES):
            said = self._read(name)
            edits = [Edit(folder_of(name)), Edit(_folder(name))]
            if said is not None and said.outcome == "allowed":
                folder = _site_folder(said.site)
                mark = self._store.mark(folder)
                names, due = self._site(folder)
                files = _site_files(max(names - 1, 0), due)
                edits.append(Edit(folder, files, replaces=mark))
            try:
                self._store.change(edits, by=lock)
            except Conflict:
                continue
            return

    # The engine

    def _now(self) -> float:
        """The time by the middle of all machines' clocks."""
        return self._wall() - self._peers.clock_offset

    def _may_tell(self, now: float) -> bool:
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._refusals = minute, 0
        self._refusals += 1
        return self._refusals <= _REFUSALS_MOST

    def _read(self, name: str) -> _Known | None:
        """Return what was found out last; None for a name that is not known."""
        files = self._load(_folder(name))
        found = [_known(documents.read(files.get(one, b""), VERSION)) for one in (_NAME, _REFUSED)]
        return max((one for one in found if one), key=lambda one: one.asked, default=None)

    def _load(self, folder: str) -> dict[str, bytes]:
        try:
            return self._store.load(folder)
        except Unreadable:  # what is written next takes its place
            return {}

    def _site(self, folder: str) -> tuple[int, float]:
        said = documents.read(self._load(folder).get(_SITE, b""), VERSION)
        names, due = documents.number(said.get("names")), documents.number(said.get("due"))
        return int(max(names or 0.0, 0.0)), due or 0.0


def _folder(name: str) -> str:
    return f"{NAMES}/{folder_name(name)}"


def _site_folder(site: str) -> str:
    return f"{SITES}/{folder_name(site)}"


def _site_files(names: int, due: float) -> dict[str, bytes]:
    return {_SITE: documents.write({"names": names, "due": due}, VERSION)}


def _known(said: Any) -> _Known | None:
    outcome, site = said.get("outcome"), said.get("site")
    asked, until = documents.number(said.get("asked")), documents.number(said.get("until"))
    if not isinstance(outcome, str) or not isinstance(site, str) or asked is None:
        return None
    return _Known(outcome, str(said.get("why", "")), site, asked, until)

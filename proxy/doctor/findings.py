"""One finding: how it is, about what, in plain words, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import Any, Literal

from acme_client.late_dataclass import dataclass
from acme_client.text import printable

# ok: as it should be. attention: works, or may work, and somebody should know. wrong: keeps a
# certificate from being had, or a site from being seen. unknown: could not be looked at.
Sign = Literal["ok", "attention", "wrong", "unknown"]

_MARKS: dict[Sign, str] = {"ok": "ok", "attention": "note", "wrong": "WRONG", "unknown": "?"}


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: a part of the machine, or a name. ``step``: the command or the deed that helps."""

    sign: Sign
    about: str
    text: str
    step: str | None = None


def lines(findings: Iterable[Finding]) -> Iterable[str]:
    """For people: what belongs together under its title, each with its sign."""
    for about, group in groupby(findings, key=lambda one: one.about):
        yield about
        for one in group:
            yield f"  {_MARKS[one.sign]:<5}  {printable(one.text)}"
            if one.step:
                yield f"         → {printable(one.step)}"


def summary(findings: Iterable[Finding]) -> str:
    listed = list(findings)
    wrong = sum(one.sign == "wrong" for one in listed)
    notes = sum(one.sign == "attention" for one in listed)
    unknown = sum(one.sign == "unknown" for one in listed)
    if not wrong and not notes and not unknown:
        return "nothing is wrong"
    said = [f"{wrong or 'nothing'} wrong", f"{notes} to know"]
    if unknown:
        said.append(f"{unknown} could not be looked at")
    return ", ".join(said)


def document(findings: Iterable[Finding]) -> dict[str, Any]:
    """``--json``."""
    return {"version": 1, "findings": [asdict(one) for one in findings]}

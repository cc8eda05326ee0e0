"""The last warnings of the log: lines that say the same are one, and none is pushed out by a crowd."""

from __future__ import annotations

from proxy.supervisor.control.last_warnings import MOST, LastWarnings


def said(warnings: LastWarnings) -> list[tuple[str, int]]:
    return [(one["text"], one["times"]) for one in warnings]


def add(warnings: LastWarnings, text: str, at: float = 0.0, process: str = "worker 1") -> None:
    warnings.add({"at": at, "level": "warning", "process": process, "text": text})


def test_the_same_line_is_one_with_its_number() -> None:
    warnings = LastWarnings()
    add(warnings, "a backend fails", 1.0)
    add(warnings, "something else", 2.0)
    add(warnings, "a backend fails (and 13 times more meanwhile)", 3.0, "worker 2")
    add(warnings, "a backend fails (and 2 times more meanwhile) (3 more like this)", 4.0)
    assert said(warnings) == [("a backend fails", 1 + 14 + 3 + 3), ("something else", 1)]
    newest = next(iter(warnings))
    assert (newest["at"], newest["process"]) == (4.0, "worker 1")
    assert warnings.counts == {"warning": 22}


def test_a_crowd_of_lines_that_differ_in_numbers_pushes_nothing_out() -> None:
    warnings = LastWarnings()
    add(warnings, "a.test: attempt 1 failed")
    for number in range(10_000):
        add(warnings, f"the limit connections was reached by 192.0.{number >> 8}.{number & 255}")
        add(warnings, f"the limit connections was reached by 2001:db8::{number:x}")
    texts = [text for text, _ in said(warnings)]
    assert texts[-1] == "a.test: attempt 1 failed"
    assert len(texts) < 20


def test_there_are_only_so_many() -> None:
    warnings = LastWarnings()
    words = [f"{chr(103 + a)}{chr(103 + b)}" for a in range(19) for b in range(19)]
    for word in words:
        add(warnings, f"about {word}")
    assert [text for text, _ in said(warnings)] == [
        f"about {word}" for word in reversed(words[-MOST:])
    ]

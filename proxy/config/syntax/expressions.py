"""Regular expressions that take time in proportion to the text, whatever the two are. Pure.

Python's `re` tries one way after the other, and there are expressions (``(a|aa)+$``, ``.*a.*b.*c``)
for which a text that a stranger chooses keeps it busy for seconds or for ever (CWE-1333). Nothing
could stop it: it holds the event loop and the interpreter's lock. So `re` only reads the
expression. It becomes an automaton that is in all its states at the same time (Thompson, 1968), and
a step from one set of states to the next is worked out once and remembered.

What needs a memory of what has matched has no automaton: references back, looking ahead or behind,
possessive and atomic parts. Those are refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from .faults import Wrong, shown

_MOST_STATES = 2000  # a repetition like {500} is as many copies
_MOST_STEPS = 4096  # remembered for each expression

Test = Callable[[str], bool]
_Set = frozenset[int]

_CATEGORIES: dict[str, Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda one: one.isalnum() or one == "_",
}
_PLACES = {
    "AT_BEGINNING": "begin",
    "AT_BEGINNING_STRING": "begin",
    "AT_END": "end",
    "AT_END_STRING": "end",
    "AT_BOUNDARY": "boundary",
    "AT_NON_BOUNDARY": "inside",
}


class Expression:
    """``text`` as Python's `re` has it. Raises `Wrong`."""

    def __init__(self, text: str) -> None:
        self._ways: list[tuple[int, ...]] = []  # by state: those reached without a character
        self._tests: dict[int, tuple[Test, int]] = {}  # a test of a character, and the state then
        self._conditions: dict[int, tuple[str, int]] = {}  # on the place, and the state then
        self._steps: dict[tuple[_Set, str, str], _Set] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what Python will read in another way one day
                parsed: Any = re._parser.parse(text)  # type: ignore[attr-defined] # its own reader
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise Wrong(
                f"{shown(text)} is no regular expression: {error}", "write it as Python's re has it"
            ) from None
        flags = parsed.state.flags
        if flags & (re.VERBOSE | re.ASCII | re.LOCALE | re.MULTILINE):
            raise Wrong(f"{shown(text)} has a flag that is not known here", "use (?i) and (?s)")
        self._text = text
        self._done = self._add()
        self._first = self._build(parsed, self._done, flags)

    def search(self, value: str) -> bool:
        """Whether the expression fits anywhere in ``value``, which has no line ends."""
        states: _Set = frozenset()
        before, done = "", self._done
        for place in range(len(value) + 1):
            after = value[place : place + 1]
            states = self._at(states, before, after)
            if done in states:
                return True
            if not after:
                return False
            states = self._step(states, after)
            before = after
        return False

    # Running

    def _step(self, states: _Set, one: str) -> _Set:
        """The states behind a character."""
        key = states, one, ""
        found = self._steps.get(key)
        if found is None:
            tests = (self._tests[number] for number in states & self._tests.keys())
            found = frozenset(then for test, then in tests if test(one))
            self._remember(key, found)
        return found

    def _at(self, states: _Set, before: str, after: str) -> _Set:
        """All states that may be reached without a character, between two characters ("" is the
        beginning or the end): from these, and from the first, for an attempt begins at each
        place."""
        key = states, _kind(before), _kind(after)
        found = self._steps.get(key)
        if found is None:
            seen: set[int] = set()
            left = [self._first, *states]
            while left:
                number = left.pop()
                if number in seen:
                    continue
                seen.add(number)
                if number in self._conditions:
                    condition, then = self._conditions[number]
                    if _holds(condition, before, after):
                        left.append(then)
                left += self._ways[number]
            found = frozenset(seen)
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[_Set, str, str], found: _Set) -> None:
        if len(self._steps) >= _MOST_STEPS:
            self._steps.clear()
        self._steps[key] = found

    # Building: each part is made with the state that comes behind it

    def _add(self, *ways: int) -> int:
        """Add a state from which others are reached without a character."""
        if len(self._ways) >= _MOST_STATES:
            raise Wrong(f"{shown(self._text)} is too large", "repeat less")
        self._ways.append(ways)
        return len(self._ways) - 1

    def _build(self, parts: Iterable[Any], then: int, flags: int) -> int:
        for operation, given in reversed(list(parts)):
            then = self._one(str(operation), given, then, flags)
        return then

    def _one(self, operation: str, given: Any, then: int, flags: int) -> int:
        match operation:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                state = self._add()
                self._tests[state] = _test(operation, given, flags), then
                return state
            case "BRANCH":
                return self._add(*[self._build(one, then, flags) for one in given[1]])
            case "SUBPATTERN":
                _group, more, less, inner = given
                return self._build(inner, then, (flags | more) & ~less)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = given
                return self._repeated(least, most, inner, then, flags)
            case "AT" if str(given) in _PLACES:
                state = self._add()
                self._conditions[state] = _PLACES[str(given)], then
                return state
        raise Wrong(
            f"{shown(self._text)} looks around or back, which cannot be done in bounded time",
            "write it without (?=…), (?<…), \\1 and the like",
        )

    def _repeated(self, least: Any, most: Any, inner: Any, then: int, flags: int) -> int:
        if most is re._constants.MAXREPEAT:  # type: ignore[attr-defined] # as `re._parser`
            loop = self._add()
            self._ways[loop] = self._build(inner, loop, flags), then
            then = loop
        else:
            for _ in range(int(most) - int(least)):
                then = self._add(self._build(inner, then, flags), then)
        for _ in range(int(least)):
            then = self._build(inner, then, flags)
        return then


def _kind(one: str) -> str:
    """As much of a neighbour as matters to a condition on a place."""
    if not one:
        return "end"
    return "word" if _CATEGORIES["CATEGORY_WORD"](one) else "other"


def _holds(condition: str, before: str, after: str) -> bool:
    if condition == "begin":
        return not before
    if condition == "end":
        return not after
    differ = (_kind(before) == "word") != (_kind(after) == "word")
    return differ == (condition == "boundary")


def _test(operation: str, given: Any, flags: int) -> Test:
    if operation == "ANY":
        return (lambda _one: True) if flags & re.DOTALL else (lambda one: one != "\n")
    if operation == "IN":
        test = _set(given)
    else:
        wanted = chr(given)
        test = wanted.__eq__ if operation == "LITERAL" else wanted.__ne__
    if not flags & re.IGNORECASE:
        return test
    if operation == "NOT_LITERAL":
        return lambda one: test(one.lower()) and test(one.upper())
    negated = operation == "IN" and str(given[0][0]) == "NEGATE"
    if negated:
        plain = _set(given[1:])
        return lambda one: not (plain(one) or plain(one.lower()) or plain(one.upper()))
    return lambda one: test(one) or test(one.lower()) or test(one.upper())


def _set(items: Any) -> Test:
    tests: list[Test] = []
    negated = False
    for operation, given in items:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                tests.append(chr(given).__eq__)
            case "RANGE":
                low, high = map(chr, given)
                tests.append(lambda one, low=low, high=high: low <= one <= high)  # type: ignore[misc]
            case "CATEGORY":
                name = str(given)
                known = _CATEGORIES[name.replace("_NOT_", "_")]
                if "_NOT_" in name:
                    tests.append(lambda one, known=known: not known(one))  # type: ignore[misc]
                else:
                    tests.append(known)
    return lambda one: any(test(one) for test in tests) != negated

"""Regular expressions about paths, as far as they say no more than our routes can. Pure.

``^/old/(.*)$`` is the route ``/old/*``, ``^/(a|b)/?$`` are four exact ones, ``\\.(css|js)$`` are
endings. Whatever is not plainly of such a form is no route: None.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

from acme_client.late_dataclass import dataclass

from .substitution import substituted

# Why an expression has no route, and why endings of file names have none.
NO_ROUTE = "a route is an exact path, or all below a folder: write one for each that is meant"
NO_ROUTE_OF_ENDINGS = (
    "a route is chosen by its path, not by endings: write one for each folder that is meant"
)
_MOST = 64  # routes out of one expression
_LITERAL = re.compile(r"(?:[A-Za-z0-9/_~@:,;=!&'% -]|\\[^A-Za-z0-9])*")
_ALTERNATIVES = re.compile(r"\((?:\?:)?((?:[A-Za-z0-9/_.|~ -]|\\[^A-Za-z0-9])*)\)")
_CLASS = re.compile(r"\[((?:[A-Za-z0-9]-[A-Za-z0-9]|[A-Za-z0-9_.])+)\](?![*+?{])")
_WIDEST_CLASS = 10  # characters that become routes
# What takes the rest of the path, whatever that is.
_REST = re.compile(r"(\()?(?:\.\*|\.\+|\.\*\?|\[\^\?\]\*|\[\^ \]\*)(\))?\$?")
_ENDINGS = re.compile(
    r"(?:\^?\.\*|\^?\.\+|/)?\\\.\(?(?:\?:)?((?:[A-Za-z0-9|_?]|\\\.|\[[a-z0-9]+\])+)\)?\$"
)
_DOT_FILES = re.compile(
    r"(?:(?:/|\(\?:\^\|/\)|\(\^\|/\)|\^/?|\^\.\*/)\\\.(?:\(\?!well-known[^)]*\))?"
    r"(?:[a-z]*|\([a-z|]+\)|\*|\.\*|\[\^/?\]\*)|\\\.(?:ht[a-z]*|git))(?:/\.\*)?(?:\.\*)?\$?"
)
_REFERENCE = re.compile(r"\$(\d)")
_LETTERS = re.compile(r"\[([A-Za-z])([A-Za-z])\]")


@dataclass(frozen=True, slots=True)
class PathForm:
    """One route of an expression. ``path`` is as a route has it, ``rest`` the number of the group
    that took what the asterisk takes (0 where none did), ``groups`` what each other group took."""

    path: str
    rest: int = 0
    groups: tuple[tuple[int, str], ...] = ()
    loose: bool = False  # the expression takes /apiary where the route takes /api and /api/

    def taken(self, group: int) -> str | None:
        """Return what a group stands for in a target; None where that is not known."""
        if group and group == abs(self.rest):
            # The asterisk begins behind a slash; a group that began before it took that too.
            return "{rest}" if self.rest > 0 else "/{rest}"
        return dict(self.groups).get(group)


def forms(expression: str) -> list[PathForm] | None:
    """Return the routes that take what an anchored expression takes; None where no routes do."""
    if not expression.startswith("^"):
        return None
    body = expression[1:]
    if body in ("", "/", "(.*)", ".*", "(.*)$", ".*$", "/(.*)", "/(.*)$", "/.*", "/.*$"):
        slash = "/" in body
        rest = int("(" in body)
        # Where the group takes the slash as well, {rest} lacks it: see `filled`.
        return [PathForm("/*", rest if slash else -rest)]
    found = list(itertools.islice(_forms(body, "", 0, ()), _MOST + 1))
    if not found or len(found) > _MOST or None in found:
        return None
    return [one for one in found if one is not None]


def _forms(
    body: str, path: str, group: int, groups: tuple[tuple[int, str], ...]
) -> Iterator[PathForm | None]:
    literal = _LITERAL.match(body)
    text = literal[0] if literal else ""
    # A quantifier belongs to the last character of the literal.
    if text and body[len(text) : len(text) + 1] in ("?", "*", "+", "{"):
        text = text[:-2] if len(text) > 1 and text[-2] == "\\" else text[:-1]
    path += re.sub(r"\\(.)", r"\1", text)
    body = body[len(text) :]
    if body == "$":
        yield PathForm(path, 0, groups)
    elif body in ("/?$", "(/)?$", "/*$"):
        yield PathForm(path, 0, groups)
        yield PathForm(f"{path}/", 0, groups)
    elif body in ("(/|$)", "(?:/|$)", "($|/)", "(?:$|/)", r"\b"):
        yield PathForm(path, 0, groups)
        yield PathForm(f"{path}/*", 0, groups)
    elif body in ("(/.*)?$", "(/.*)?", "(?:/.*)?$", "(?:/.*)?"):
        number = 0 if "?:" in body else group + 1
        yield PathForm(path, 0, (*groups, (number, "")))
        yield PathForm(f"{path}/*", -number, groups)
    elif body in ("/?(.*)$", "/?(.*)", "(?:/|$)(.*)$", "(?:/|$)(.*)", "/?.*$", "/?.*"):
        number = group + 1 if "(.*)" in body else 0
        yield PathForm(path, 0, (*groups, (number, "")))
        yield PathForm(f"{path}/*", number, groups)
    elif body in ("(/|$)(.*)$", "(/|$)(.*)"):
        yield PathForm(path, 0, (*groups, (group + 1, ""), (group + 2, "")))
        yield PathForm(f"{path}/*", group + 2, (*groups, (group + 1, "/")))
    elif body == "":
        if path.endswith("/"):
            yield PathForm(f"{path}*", 0, groups)
        else:
            yield PathForm(path, 0, groups, loose=True)
            yield PathForm(f"{path}/*", 0, groups, loose=True)
    elif (rest := _REST.fullmatch(body)) and bool(rest[1]) == bool(rest[2]):
        number = group + 1 if rest[1] else 0
        if path.endswith("/"):
            yield PathForm(f"{path}*", number, groups)
        else:
            yield PathForm(path, 0, (*groups, (number, "")), loose=True)
            yield PathForm(f"{path}/*", -number, groups, loose=True)
    elif (letters := _CLASS.match(body)) and (set_of := _members(letters[1])):
        for one in set_of:
            yield from _forms(body[letters.end() :], path + one, group, groups)
    elif (several := _ALTERNATIVES.match(body)) and several[0][1:3] != "?=":
        captured = not several[0].startswith("(?:")
        number = group + 1 if captured else group
        for one in several[1].split("|"):
            word = re.sub(r"\\(.)", r"\1", one)
            if "." in re.sub(r"\\.", "", one):
                yield None
                return
            more = (*groups, (number, word)) if captured else groups
            yield from _forms(body[several.end() :], path + word, number, more)
    else:
        yield None


def _members(text: str) -> list[str]:
    """Return the characters of a class, like ``12`` or ``0-3``; none where they are too many."""
    found: list[str] = []
    for one in re.findall(r"[A-Za-z0-9]-[A-Za-z0-9]|.", text):
        first, last = one[0], one[-1]
        found += [chr(code) for code in range(ord(first), ord(last) + 1)]
    return list(dict.fromkeys(found)) if len(found) <= _WIDEST_CLASS else []


def endings(expression: str) -> list[str] | None:
    """Return the endings of file names that an expression asks for, as ``\\.(css|jpe?g)$`` does;
    None where it asks for anything else."""
    found = _ENDINGS.fullmatch(expression)
    if found is None:
        return None
    words = []
    for word in found[1].replace("\\.", ".").split("|"):
        words += _spelt_out(word)
    good = [word for word in words if re.fullmatch(r"[A-Za-z0-9_.]+", word)]
    return good if len(good) == len(words) and good else None


def _spelt_out(word: str) -> list[str]:
    """Return the words of an ending: ``jpe?g`` is jpeg and jpg."""
    letters = _LETTERS.search(word)
    if letters:
        before, after = word[: letters.start()], word[letters.end() :]
        return [one for letter in letters.groups() for one in _spelt_out(before + letter + after)]
    place = word.find("?")
    if place < 1:
        return [word]
    return _spelt_out(word[:place] + word[place + 1 :]) + _spelt_out(
        word[: place - 1] + word[place + 1 :]
    )


def hides_dot_files(expression: str) -> bool:
    """Whether an expression takes names that begin with a dot, and nothing else. What only begins
    with the dot itself may be an ending, as that of scripts is."""
    return bool(_DOT_FILES.fullmatch(expression))


def filled(
    target: str,
    form: PathForm,
    variable: Callable[[str], str | None],
    reference: re.Pattern[str] = _REFERENCE,
) -> str | None:
    """Replace the ``$1`` of a target by what the form knows of them, and its other variables by
    ``variable``. None where one of them is not known."""
    text = substituted(
        reference, target, lambda found: form.taken(int(found[1])) if int(found[1]) else "{path}"
    )
    made = None if text is None else variable(text)
    return None if made is None else with_one_slash(made)


def with_one_slash(target: str) -> str:
    """Write one slash before ``{rest}`` where a target and what a group took each bring one."""
    return re.sub(r"(?<!:)//\{rest\}", "/{rest}", target)

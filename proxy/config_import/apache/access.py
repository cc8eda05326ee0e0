"""Who is let in: ``Require``, ``Allow from`` and passwords.

Several ``Require`` lines mean: one of them is enough. Here an address and a password are both asked
for, which is stricter; that is told.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from ..draft import EVERYBODY, Level, Place
from ..word_lists import words
from .directives import Directive, here, last

NAMES = frozenset(
    words(
        """
    require requireany requireall requirenone authtype authname authuserfile authgroupfile
    authbasicprovider order allow deny satisfy sslverifyclient sslrequire sslrequiressl
    limit limitexcept authmerging authdigestprovider sslcacertificatefile
    sslcacertificatepath authldapurl authformprovider
    """
    )
)


def add(directives: Sequence[Directive], level: Level) -> None:
    """Add what a section says; an inner section's replaces that of an outer one."""
    for one in directives:
        if one.name in ("limit", "limitexcept"):
            _by_method(one, level)
    rules = [one for one in directives if one.name in ("require", "requireany", "requireall",
                                                       "requirenone")]  # fmt: skip
    old = here(directives, "order", "allow", "deny")
    if old and not rules:
        _old(old, level)
        return
    if not rules:
        return
    for key in ("allow", "deny", "basic_auth"):
        level.keys.pop(key, None)
    for one in rules:
        one.use()
    flat, every = _flat(rules)
    if not flat:
        return
    _required(flat, every, directives, level)


def _by_method(one: Directive, level: Level) -> None:
    """Give a route the methods of ``<LimitExcept GET>``, where all others are denied. Any other
    rule that refuses some methods closes the route."""
    one.use()
    words = [" ".join(inner.args).lower() for inner in one.block or ()]
    denied = bool(words) and all(word in ("all denied", "from all", "deny,allow") for word in words)
    if one.name == "limitexcept" and denied:
        methods = [word.upper() for word in one.args]
        if "GET" in methods and "HEAD" not in methods:
            methods.append("HEAD")
        level.put("methods", methods, one.place)
        return
    if all(word == "all granted" for word in words):
        return
    level.close(one.place, str(one), "who may do what is not told apart by method here")


def _flat(rules: Sequence[Directive]) -> tuple[list[Directive], bool]:
    """Return the ``require`` lines of one level of blocks, and whether all of them must hold."""
    if len(rules) == 1 and rules[0].name in ("requireall", "requireany"):
        inner = rules[0].block or []
        if all(one.name == "require" for one in inner):
            return inner, rules[0].name == "requireall"
        if rules[0].name == "requireall" or len(inner) != 1:
            return [_mixed(rules[0])], True
        return _flat(inner)
    if all(one.name == "require" for one in rules):
        return list(rules), False
    return [_mixed(rules[0])], True


def _mixed(one: Directive) -> Directive:
    return Directive("require", ["<blocks>"], one.place)


def _required(
    rules: Sequence[Directive], every: bool, directives: Sequence[Directive], level: Level
) -> None:
    networks: list[str] = []
    refused: list[str] = []
    users = False
    place = rules[0].place
    granted = False
    for one in rules:
        words = [word.lower() for word in one.args]
        match words:
            case ["all", "granted"]:
                granted = True
            case ["all", "denied"]:
                if not every and len(rules) > 1:
                    continue
                level.put("deny", list(EVERYBODY), one.place)
                return
            case ["local"]:
                networks.append("loopback")
            case ["ip", *given]:
                found = [_network(word) for word in given]
                if None in found:
                    level.close(one.place, str(one), "it is no network")
                    return
                networks += [word for word in found if word]
            case ["not", "ip", *given]:
                found = [_network(word) for word in given]
                if None in found:
                    level.close(one.place, str(one), "it is no network")
                    return
                refused += [word for word in found if word]
            case ["valid-user"]:
                users = True
            case ["user", *_names]:
                why = "every user of the file gets in here; give these a file of their own"
                level.close(one.place, str(one), why)
                return
            case ["method", *given]:
                level.put("methods", [word.upper() for word in given], one.place)
            case _:
                level.close(one.place, str(one), "only addresses and passwords are asked for here")
                return
    if networks and not (granted and not every):
        level.put("allow", networks, place)
    if refused:
        level.put("deny", refused, place)
    if users and not (granted and not every):
        passwords(directives, level, place)
        if networks and not every:
            why = "an address or a password was enough; here both are asked for"
            level.leave(place, "Require ip, Require valid-user", why, guard=True)


def passwords(directives: Sequence[Directive], level: Level, place: Place) -> None:
    kind, file, realm = (
        last(directives, name) for name in ("authtype", "authuserfile", "authname")
    )
    here(directives, "authbasicprovider", "authgroupfile")
    if kind is not None and kind.arg.lower() != "basic":
        level.close(kind.place, str(kind), "passwords are asked for by basic_auth")
        return
    if file is None:
        level.close(
            place, "Require valid-user", "whose passwords are asked for is not said by a file"
        )
        return
    level.put_in(("basic_auth", "users_file"), file.arg, file.place)
    if realm is not None:
        level.put_in(("basic_auth", "realm"), realm.arg, realm.place)


def _network(word: str) -> str | None:
    """Read a network as Apache writes it: ``10.1`` means ``10.1.0.0/16``. None where it is none."""
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,2}\.?", word):
        parts = word.rstrip(".").split(".")
        word = f"{'.'.join([*parts, *['0'] * (4 - len(parts))])}/{8 * len(parts)}"
    try:
        ipaddress.ip_network(word, strict=False)
    except ValueError:
        return None
    return word


def _old(rules: Sequence[Directive], level: Level) -> None:
    """Add ``Order``, ``Allow from`` and ``Deny from``, as Apache 2.2 has them."""
    allowed: list[str] = []
    denied: list[str] = []
    order = "deny,allow"
    for one in rules:
        words = [word for word in one.args if word.lower() != "from"]
        if one.name == "order":
            order = "".join(words).lower()
            continue
        for word in words:
            if word.lower() == "all":
                (allowed if one.name == "allow" else denied).append("all")
                continue
            network = _network(word)
            if network is None:
                level.close(one.place, str(one), "it is no network")
                return
            (allowed if one.name == "allow" else denied).append(network)
    for key in ("allow", "deny"):
        level.keys.pop(key, None)
    place = rules[0].place
    named = [word for word in allowed if word != "all"]
    if "all" in denied and not ("all" in allowed and order == "deny,allow"):
        if named and order == "deny,allow":
            level.put("allow", named, place)
        else:
            level.put("deny", list(EVERYBODY), place)
    elif order == "allow,deny" and "all" not in allowed:
        level.put("allow", named, place) if named else level.put("deny", list(EVERYBODY), place)
        if denied and named:
            level.put("deny", denied, place)
    elif [word for word in denied if word != "all"]:
        level.put("deny", [word for word in denied if word != "all"], place)

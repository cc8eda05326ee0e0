"""Lists the DNS providers that are known by name, and the settings that each takes and needs.

Nearly all of them are dns-lexicon's (the extra ``dns``). dns-lexicon tells its providers by the
names of its modules, and the settings of each by what its command line takes
(``configure_parser``). It does not tell which settings are needed: the table below does for the
providers that most people have, and any other provider needs at least one of its ``auth_…``
settings. ``httpreq`` is ours (lego's interface of that name).

Nothing here speaks to a provider.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import re
from collections.abc import Collection, Sequence
from typing import Protocol, cast

from ..late_dataclass import dataclass

EXTRA = "dns"
INSTALL = "pip install 'treehouse-proxy[dns]'"
HTTPREQ = "httpreq"
# lexicon's guess of a provider by the zone's name servers, and a file on this machine.
_NOT_HERE = frozenset({"auto", "base", "localzone"})


class NotInstalled(Exception):
    """Raised where a package is missing. ``str()`` says which, ``remedy`` how to install it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class LexiconProvider(Protocol):
    """The part of lexicon's provider classes that we use. ``config`` is lexicon's own
    ``ConfigResolver``."""

    def __init__(self, config: object) -> None: ...

    @staticmethod
    def configure_parser(parser: argparse.ArgumentParser) -> None: ...

    def authenticate(self) -> None: ...

    def create_record(self, rtype: str, name: str, content: str) -> bool: ...

    def delete_record(
        self, identifier: str | None, rtype: str, name: str, content: str
    ) -> bool: ...

    def list_records(self, rtype: str, name: str, content: str) -> list[dict[str, object]]: ...

    def cleanup(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Option:
    """A setting that a provider takes. ``choices``: the only values that it takes; empty where it
    takes any."""

    name: str
    help: str
    choices: tuple[str, ...] = ()
    default: str | None = None

    @property
    def secret(self) -> bool:
        """Whether the setting's value gives access, to judge by the setting's name."""
        return bool(re.search(r"token|secret|password|passwd|key|credential|hmac", self.name))


# The lowest TTL of a record, in seconds, that each provider takes by its documentation. A lower one
# in the configuration gives way to it.
LEAST_TTL = {
    "desec": 3600,
    "gandi": 300,
    "godaddy": 600,
    "linode4": 300,
    "namecom": 300,
    "porkbun": 600,
    "vultr": 120,
}
# Each tuple is one way to be let in: all of its settings.
_NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "cloudflare": (("auth_token",),),
    "ddns": (("auth_token", "ddns_server"),),
    "desec": (("auth_token",), ("auth_username", "auth_password")),
    "digitalocean": (("auth_token",),),
    "gandi": (("auth_token",),),
    "hetzner": (("auth_token",),),
    HTTPREQ: (("endpoint",),),
    "linode4": (("auth_token",),),
    "namecheap": (("auth_token", "auth_username", "auth_client_ip"),),
    "ovh": (
        ("auth_entrypoint", "auth_application_key", "auth_application_secret", "auth_consumer_key"),
    ),
    "porkbun": (("auth_key", "auth_secret"),),
    "powerdns": (("auth_token", "pdns_server"),),
    "route53": (("auth_access_key", "auth_access_secret"), ("auth_username", "auth_token")),
}
_HTTPREQ_OPTIONS = (
    Option("endpoint", "the URL that /present and /cleanup are put behind"),
    Option("username", "for HTTP's basic authentication"),
    Option("password", "for HTTP's basic authentication"),
    Option("mode", "RAW sends domain, token and key authorization", ("RAW",)),
)


def installed() -> bool:
    return importlib.util.find_spec("lexicon") is not None


def names() -> list[str]:
    """List every provider that a configuration can name; without lexicon, only our own."""
    return sorted({*_of_lexicon(), HTTPREQ})


def _of_lexicon() -> list[str]:
    if not installed():
        return []
    found = importlib.util.find_spec("lexicon._private.providers")
    folders = found.submodule_search_locations if found is not None else None
    found_names = (one.name for one in pkgutil.iter_modules(list(folders or ())))
    return [name for name in found_names if name not in _NOT_HERE]


# The settings of each provider that was asked for. Packages below a home that is root's alone can
# be read at the start, and not by the user that the server becomes: what was found then stays.
_known: dict[str, list[Option]] = {}


def options(provider: str) -> list[Option]:
    """List the settings that the provider takes. Raises `NotInstalled`, and `KeyError` for a
    provider that is not known."""
    try:
        _known[provider] = _found_out(provider)
    except Exception:  # importing a package that cannot be read may fail in any way
        if os.geteuid() == 0 or provider not in _known:
            raise
    return _known[provider]


def _found_out(provider: str) -> list[Option]:
    if provider == HTTPREQ:
        return list(_HTTPREQ_OPTIONS)
    if not installed():
        raise NotInstalled("dns-lexicon is not installed", INSTALL)
    if provider not in _of_lexicon():
        raise KeyError(provider)
    demand_packages(provider)
    parser = argparse.ArgumentParser(add_help=False)
    load(provider).configure_parser(parser)
    return [_option(action) for action in parser._actions if action.option_strings]


def _option(action: argparse.Action) -> Option:
    return Option(
        action.dest,
        " ".join((action.help or "").split()),
        tuple(map(str, action.choices or ())),
        None if action.default is None else str(action.default),
    )


def load(provider: str) -> type[LexiconProvider]:
    """Import lexicon's class for the provider."""
    made = importlib.import_module(f"lexicon._private.providers.{provider}")
    return cast("type[LexiconProvider]", made.Provider)


def demand_packages(provider: str) -> None:
    """Raise `NotInstalled` where lexicon needs another package for this provider."""
    missing = []
    for text in importlib.metadata.requires("dns-lexicon") or []:
        found = re.match(
            r"([A-Za-z0-9._-]+).*extra\s*==\s*[\"']" + re.escape(provider) + "[\"']", text
        )
        if found is not None:
            try:
                importlib.metadata.distribution(found[1])
            except importlib.metadata.PackageNotFoundError:
                missing.append(found[1])
    if missing:
        raise NotInstalled(
            f"for {provider} dns-lexicon needs {', '.join(missing)}",
            f"pip install 'dns-lexicon[{provider}]'",
        )


def missing(
    provider: str, known: Sequence[Option], given: Collection[str]
) -> list[tuple[str, ...]]:
    """List the settings that are missing: a tuple for each way to be let in, the shortest first;
    empty where ``given`` has all settings of some way."""
    ways = _NEEDED.get(provider)
    if ways is None:
        entrances = tuple(one.name for one in known if one.name.startswith("auth_"))
        if not entrances or any(name in given for name in entrances):
            return []
        return [entrances]
    lacking = [tuple(name for name in way if name not in given) for way in ways]
    return sorted(lacking, key=len) if all(lacking) else []

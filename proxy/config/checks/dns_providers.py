"""Checks what ``acme.dns`` says of a DNS provider or a hook: its name, its credentials, its files.

Which settings a provider takes is asked of dns-lexicon itself
(`acme_client.challenges.api_catalog`), so that a slip is found before the first order is made.
Doing so also loads what the provider needs, while that can still be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from acme_client.challenges import api_catalog
from acme_client.challenges.api_catalog import NotInstalled, Option
from acme_client.link import acme_sh

from ..schema.acme import Credential, Dns
from ..schema.parse import Parsed
from ..syntax.faults import Fault, Origins, Path, nearest, shown
from .reader import Reader, reach, typed


def check(parsed: Parsed, reader: Reader | None) -> Iterator[Fault]:
    """Yield a fault for each slip. ``reader`` is the user that the server becomes."""
    for index, dns in enumerate(parsed.document.acme.dns):
        at: Path = ("acme", "dns", index)
        if dns.provider is not None:
            yield from _provider(dns, dns.provider, at, parsed.origins)
        elif dns.hook is not None:
            yield from _environment(dns, at, parsed.origins)
            if dns.hook_style == "acme.sh":
                yield from _acme_sh(dns, at, parsed.origins, reader)


def _provider(dns: Dns, provider: str, at: Path, origins: Origins) -> Iterator[Fault]:
    try:
        options = api_catalog.options(provider)
    except NotInstalled as error:
        yield origins.fault((*at, "provider"), str(error), f"{error.remedy}, or use a hook")
        return
    except KeyError:
        yield origins.fault(
            (*at, "provider"),
            f"dns-lexicon knows no provider {shown(provider)}",
            nearest(provider, api_catalog.names()),
        )
        return
    except Exception as error:  # of a module that others have written
        what = f"dns-lexicon's module for {provider} cannot be loaded: {error}"
        yield origins.fault((*at, "provider"), what, "install it anew, or use a hook")
        return
    given = {one.name for one in dns.credentials}
    known = {one.name: one for one in options}
    for one in dns.credentials:
        yield from _credential(one, known, provider, at, origins)
    lacking = api_catalog.missing(provider, options, given)
    if lacking:
        ways = " or ".join(" and ".join(_spelt(name, known) for name in way) for way in lacking)
        place = (*at, "credentials") if dns.credentials else (*at, "provider")
        yield origins.fault(
            place, f"for {provider} these are missing: {ways}", _add(lacking, known)
        )


def _credential(
    one: Credential, known: dict[str, Option], provider: str, at: Path, origins: Origins
) -> Iterator[Fault]:
    path = (*at, "credentials", one.name + ("_file" if one.secret_file else ""))
    option = known.get(one.name) or known.get(one.name.replace("-", "_"))
    if option is None or option.name != one.name:
        remedy = nearest(one.name, list(known)) if option is None else f"write {option.name}"
        yield origins.fault_of_key(path, f"{provider} takes no setting of this name", remedy)
    elif option.choices and one.value is not None and one.value not in option.choices:
        yield origins.fault(
            path, f"{shown(one.value)} is not known here", nearest(one.value, option.choices)
        )
    elif option.secret and one.value is not None and not one.from_variable:
        yield origins.fault(path, "a secret stands in the configuration", _elsewhere(one.name))


def _elsewhere(name: str) -> str:
    return (
        f"write {name}_file: FILE, a file that the server's user alone can read, or {name}: "
        "${VARIABLE}; and replace the secret, which others may have seen"
    )


def _spelt(name: str, known: dict[str, Option]) -> str:
    return f"{name}_file" if name in known and known[name].secret else name


def _add(lacking: Sequence[tuple[str, ...]], known: dict[str, Option]) -> str:
    helps = [f"{name}: {known[name].help}" for name in lacking[0] if name in known]
    wanted = ", ".join(f"{_spelt(name, known)}: …" for name in lacking[0])
    return f"write credentials: {{{wanted}}}" + (f"; {'; '.join(helps)}" if helps else "")


def _environment(dns: Dns, at: Path, origins: Origins) -> Iterator[Fault]:
    for one in dns.credentials:
        path = (*at, "credentials", one.name + ("_file" if one.secret_file else ""))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", one.name):
            yield origins.fault_of_key(
                path, "this is not the name of a variable", "write it as the hook reads it"
            )
        elif one.name in ("PATH", "HOME", "TMPDIR") or one.name.startswith("LD_"):
            yield origins.fault_of_key(
                path, "this variable is the server's to set", "set it in the hook itself"
            )
        elif (
            Option(one.name.lower(), "").secret and one.value is not None and not one.from_variable
        ):
            yield origins.fault(path, "a secret stands in the configuration", _elsewhere(one.name))


def _acme_sh(dns: Dns, at: Path, origins: Origins, reader: Reader | None) -> Iterator[Fault]:
    hook = dns.hook
    assert hook is not None  # noqa: S101 - the caller has looked
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\.sh", hook.name):
        yield origins.fault(
            (*at, "hook"),
            f"{hook.name} is not named like a plug-in of acme.sh",
            "name a file like ~/.acme.sh/dnsapi/dns_cf.sh; its functions are dns_cf_add and _rm",
        )
        return
    program = acme_sh(hook)
    if not program.exists() and (reader is None or reader.here or os.geteuid() == 0):
        yield origins.fault(
            (*at, "hook"),
            f"{program}, which the plug-in calls, does not exist",
            "name the plug-in where acme.sh is installed",
        )
    elif reader is not None and (trouble := reach(program, os.R_OK, reader)) is not None:
        what, remedy = trouble
        yield origins.fault(
            (*at, "hook"),
            what,
            f"{remedy}; or copy acme.sh and dnsapi to where uid {reader.uid} may read them: "
            f"sudo cp -r {typed(program.parent)} /etc/treehouse-proxy/",
        )

"""What processes are granted for proofs over the DNS: with a hook, with a name server, and without."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import acme_client
import proxy
from proxy.config.model import Acme, Address, Config, Dns, FilesAction, OnDemand, Route, Site
from proxy.sandbox import Policy, describe, policies

HOOK = Path("/etc/treehouse-proxy/hooks/dns-hook")
STATE = Path("/var/lib/treehouse-proxy")
SITE = Site(("*.example.org",), (Route("/*", FilesAction(Path("/srv/www"))),))


def config(*dns: Dns, resolvers: tuple[Address, ...] = ()) -> Config:
    return Config((SITE,), STATE, acme=Acme(dns=dns, resolvers=resolvers))


def ports(policy: Policy) -> set[int]:
    return {port.number for port in policy.connect or ()}


def executed(policy: Policy) -> set[Path]:
    return {grant.path for grant in policy.execute}


def test_without_a_hook_nothing_is_executed() -> None:
    roles = policies(config(Dns(server=Address("192.0.2.53", 5353))))
    assert "hook" not in roles
    assert executed(roles["certifier"]) == executed(roles["worker"]) == set()
    program = {Path(sys.executable).resolve().parent}  # itself, when it is upgraded
    assert Path("/usr/bin") not in executed(roles["supervisor"]) - program
    assert ports(roles["certifier"]) == {53, 80, 443, 5353}
    assert ports(roles["worker"]) == set()


def test_resolvers_on_other_ports_can_be_asked_over_tcp() -> None:
    roles = policies(config(resolvers=(Address("192.0.2.1", 5300),)))
    assert 5300 in ports(roles["certifier"])


def test_who_says_which_names_come_on_demand_can_be_asked() -> None:
    def certifier(rule: OnDemand, directory: str = "internal") -> set[int]:
        made = replace(SITE, on_demand=rule, internal=directory == "internal")
        acme = Acme(directory=directory, resolvers=(Address("192.0.2.1", 5300),))
        roles = policies(Config((made,), STATE, acme=acme))
        assert ports(roles["worker"]) == set()
        numbers = [port.number for port in roles["certifier"].connect or ()]
        assert len(numbers) == len(set(numbers))
        return set(numbers)

    assert certifier(OnDemand(patterns=("a.example",))) == set()
    assert certifier(OnDemand(ask="http://127.0.0.1:5000/x")) == {5000}
    assert certifier(OnDemand(ask="https://app.internal/")) == {53, 443}
    assert certifier(OnDemand(dns=True)) == {53, 5300}
    ca = "https://ca.example:14000/dir"
    assert certifier(OnDemand(patterns=("a.example",)), ca) == {53, 80, 443, 5300, 14000}


def test_a_hook_and_who_starts_it() -> None:
    """It keeps no more than the certifier, which keeps no more than the supervisor."""
    roles = policies(config(Dns(hook=HOOK)))
    hook, certifier, supervisor = roles["hook"], roles["certifier"], roles["supervisor"]
    assert {HOOK.parent, Path("/usr/bin")} <= executed(hook)
    assert executed(hook) <= executed(certifier) <= executed(supervisor)
    assert ports(hook) == {53, 443}
    assert ports(hook) <= ports(certifier)
    assert {grant.path for grant in hook.read} <= {grant.path for grant in certifier.read}
    assert [grant.path for grant in hook.write] == [STATE / "dns-hook"]
    assert not any(STATE.is_relative_to(grant.path) for grant in (*hook.read, *hook.execute))
    assert executed(roles["worker"]) == set()
    assert "the DNS hook" in describe(roles).partition("\nhook\n")[2]


@pytest.mark.parametrize("package", [proxy, acme_client])
def test_our_code_may_be_read_wherever_it_lies(package: ModuleType) -> None:
    """Some of it is imported late, and tracebacks quote all of it."""
    (folder,) = map(Path, package.__path__)
    granted = {grant.path for grant in policies(config())["certifier"].read}
    assert [path for path in folder.rglob("*.py") if granted.isdisjoint(path.parents)] == []

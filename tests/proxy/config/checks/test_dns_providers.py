"""Slips in what ``acme.dns`` says of providers and hooks: each is told with its place and a way out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acme_client.challenges import api_catalog
from proxy.config.load import ConfigurationFaults, Options, load
from proxy.config.model import Config
from proxy.supervisor.reload import plan

Read = Callable[[str], Config]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the user that a server becomes may look."""
    made = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    tmp_path = folder
    monkeypatch.setenv("TOKEN", "from-the-environment")
    (tmp_path / "token").write_text("from-a-file\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "site").mkdir()
    hook = tmp_path / "hooks/dnsapi/dns_cf.sh"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")

    def loaded(dns: str) -> Config:
        (tmp_path / "c.yaml").write_text(
            f"state: {tmp_path}/state\nacme:\n  dns: {{{dns}}}\n"
            "sites:\n- {names: ['*.example.org'], root: site}\n"
        )
        return load(Options(config=tmp_path / "c.yaml"), now_uid=0)

    return loaded


def faults(read: Read, dns: str) -> str:
    with pytest.raises(ConfigurationFaults) as told:
        read(dns)
    return str(told.value)


SLIPS = {
    "provider: clodflare": ('knows no provider "clodflare"', "did you mean cloudflare?"),
    "provider: cloudflare": ("for cloudflare these are missing: auth_token_file", "auth_token: sp"),
    "provider: cloudflare, credentials: {auth_token: abc}": (
        "credentials.auth_token: a secret stands in the configuration",
        "auth_token_file: FILE",
    ),
    "provider: cloudflare, credentials: {auth_token_file: token, zoneid: 4}": (
        "credentials.zoneid: cloudflare takes no setting of this name",
        "did you mean zone_id?",
    ),
    "provider: cloudflare, credentials: {auth-token_file: token}": ("write auth_token",),
    "provider: cloudflare, credentials: {auth_token_file: none}": ("does not exist",),
    "provider: cloudflare, credentials: {auth_token_file: empty}": ("is empty",),
    "provider: cloudflare, credentials: {auth_token_file: token, auth_token: '${TOKEN}'}": (
        "auth_token and auth_token_file exclude each other",
    ),
    "provider: cloudflare, credentials: {auth_token_file: token}, tsig: {name: a, secret_file: token}": (
        "tsig: this key belongs to server",
    ),
    "provider: ovh, credentials: {auth_entrypoint: ovh-euro, auth_consumer_key_file: token}": (
        '"ovh-euro" is not known here',
        "auth_application_key_file and auth_application_secret_file",
    ),
    "provider: desec, credentials: {auth_username: a}": ("auth_token_file or auth_password_file",),
    "provider: vultr": ("for vultr these are missing: auth_token_file",),
    "provider: httpreq, credentials: {username: a}": ("these are missing: endpoint",),
    "provider: gandi, hook: hooks/dnsapi/dns_cf.sh": ("hook and provider exclude each other",),
    "token: abc": ("credentials: {auth_token_file: FILE}",),
    "hook: hooks/dnsapi/dns_cf.sh, hook_style: acme.sh": (
        "hooks/acme.sh, which the plug-in calls, does not exist",
    ),
    "hook: site/../token, hook_style: acme.sh": ("is not named like a plug-in of acme.sh",),
    "hook: hooks/dnsapi/dns_cf.sh, hook_style: certbott": ("did you mean certbot?",),
    "hook: hooks/dnsapi/dns_cf.sh, credentials: {LD_PRELOAD: x}": ("the server's to set",),
    "hook: hooks/dnsapi/dns_cf.sh, credentials: {API_KEY: x}": ("a secret stands in",),
    "server: 192.0.2.1, hook_style: lego": ("hook_style: this key belongs to hook",),
    "server: 192.0.2.1, credentials: {a: b}": (
        "credentials: this key belongs to provider or hook",
    ),
}


@pytest.mark.parametrize("dns", SLIPS)
def test_slips(read: Read, dns: str) -> None:
    said = faults(read, dns)
    for part in SLIPS[dns]:
        assert part in said, said
    assert "abc" not in said or "token" in dns


def test_without_lexicon_it_is_said_what_to_install(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_catalog, "installed", lambda: False)
    said = faults(read, "provider: cloudflare, credentials: {auth_token_file: token}")
    assert "dns-lexicon is not installed (pip install 'treehouse-proxy[dns]'" in said


def test_what_root_has_loaded_is_known_to_the_user_it_becomes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A virtual environment below /root: a reload still knows the provider that the start knew."""
    before = api_catalog.options("cloudflare")
    monkeypatch.setattr(api_catalog, "installed", lambda: False)
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    assert api_catalog.options("cloudflare") == before
    monkeypatch.setattr(api_catalog, "_known", {})
    with pytest.raises(api_catalog.NotInstalled):
        api_catalog.options("cloudflare")


def test_a_package_that_lexicon_needs_for_one_provider(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name == "boto3":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    said = faults(read, "provider: route53, credentials: {auth_access_key_file: token}")
    assert "dns-lexicon needs boto3 (pip install 'dns-lexicon[route53]'" in said


def test_a_secret_comes_from_the_environment_or_a_file(read: Read) -> None:
    for given in ("{auth_token: '${TOKEN}'}", "{auth_token_file: token}"):
        config = read(f"provider: cloudflare, credentials: {given}")
        assert "from-the-environment" not in repr(config)
        assert not config.notices


def test_a_plan_tells_of_a_change_and_of_no_secret(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read("provider: cloudflare, credentials: {auth_token: '${TOKEN}'}")
    monkeypatch.setenv("TOKEN", "another-token")
    after = read("provider: cloudflare, credentials: {auth_token: '${TOKEN}'}")
    lines = [one for one in plan.changes(before, after, frozenset()) if "dns" in one]
    assert lines
    assert not any("token" in one.replace("auth_token", "") for one in lines), lines


def test_every_provider_of_lexicon_can_be_asked_what_it_takes() -> None:
    """And of each that is in our table lexicon has those settings."""
    names = api_catalog.names()
    assert len(names) > 80
    for name in names:
        try:
            options = {one.name for one in api_catalog.options(name)}
        except api_catalog.NotInstalled:
            continue
        for way in api_catalog._NEEDED.get(name, ()):
            assert set(way) <= options, name

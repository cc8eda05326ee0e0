"""The keys of ``acme``: where certificates come from, and how names are proven there.

`check` has what the keys need of each other; what sites make of them is in `checks.consistency`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path as FilePath
from typing import Annotated, ClassVar, get_args

from acme_client.late_dataclass import dataclass
from acme_client.link import HookStyle

from ..syntax.addresses import parse_directory_url, parse_name_server, parse_resolver
from ..syntax.environment import FromVariable
from ..syntax.faults import Fault, Origins, Path, Wrong, nearest, shown
from ..syntax.kinds import Email, File, Token, duration, mapping, one_of, parse_file, word
from ..syntax.sections import Field, Many, Section, section
from ..values import Address
from ..values import KeyType as KeyTypeName

# A name for the directories that people use; everything else is a URL.
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "internal": "internal",
}
# Names that people have for CAs, and what to write.
_OTHER_NAMES = {
    **dict.fromkeys(("staging", "le-staging", "test", "fake"), "write letsencrypt-staging"),
    **dict.fromkeys(
        ("le", "lets-encrypt", "let's encrypt", "production", "prod", "acme", "auto", "certbot"),
        "write letsencrypt, or leave it out",
    ),
    **dict.fromkeys(("self-signed", "selfsigned", "local", "dev", "self_signed"), "write internal"),
    "zerossl": "write https://acme.zerossl.com/v2/DV90, with eab as ZeroSSL gives it",
    "google": "write https://dv.acme-v02.api.pki.goog/directory, with eab as Google gives it",
    "sslcom": "write https://acme.ssl.com/sslcom-dv-ecc, with eab as SSL.com gives it",
    "ssl.com": "write https://acme.ssl.com/sslcom-dv-ecc, with eab as SSL.com gives it",
    "buypass": "Buypass has given up its ACME service: choose another CA",
}
_CHALLENGES = ("http-01", "tls-alpn-01", "dns-01", "dns-persist-01")
# RFC 8945 §6, those that are still to be used.
_TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")


def _parse_directory(text: str) -> str:
    if text in DIRECTORIES:
        return text
    if "/" not in text and ":" not in text:
        if text.lower() in _OTHER_NAMES:
            raise Wrong(f"{shown(text)} is not a known name of a CA", _OTHER_NAMES[text.lower()])
        raise Wrong(f"{shown(text)} is not a known CA", nearest(text, list(DIRECTORIES)))
    return parse_directory_url(text)


def _parse_challenge(text: str) -> str:
    if text in _CHALLENGES:
        return text
    raise Wrong(f"{shown(text)} is not a challenge", nearest(text, _CHALLENGES))


def _parse_zone(text: str) -> str:
    """Read a zone's name, which may have underscores: zones for validation records do."""
    name = text.strip().removesuffix(".").lower()
    labels = name.split(".")
    if len(name) > 253 or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        raise Wrong(f"{shown(text)} is not the name of a zone", "write it like example.org")
    return name


def _parse_tsig_name(text: str) -> str:
    name = text.strip().removesuffix(".").lower()
    if len(name) > 253 or not re.fullmatch(r"[a-z0-9_.-]+", name):
        raise Wrong(f"{shown(text)} is not the name of a key", "write it as the name server has it")
    return name


Directory = Annotated[str, word(_parse_directory, examples=list(DIRECTORIES))]
Challenge = Annotated[str, word(_parse_challenge, enum=list(_CHALLENGES))]
KeyType = Annotated[KeyTypeName, one_of("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096")]


@section
class ExternalAccount(Section):
    kid: Token = Field(description="The key identifier that the CA handed out.")
    hmac_key_file: File = Field(description="A file with the MAC key, base64url.")


@section
class Tsig(Section):
    name: Annotated[str, word(_parse_tsig_name)] = Field(
        description="The key's name, as the name server has it."
    )
    secret_file: File = Field(
        description="A file with the secret in base64, or as tsig-keygen writes it."
    )
    algorithm: Annotated[str, one_of(*_TSIG_ALGORITHMS)] = Field(
        default="hmac-sha256", description="The key's algorithm."
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """One setting of a provider or hook, from a file that is read later, or as it stands in the
    configuration. ``from_variable``: it came from the environment."""

    name: str
    value: str | None = field(default=None, repr=False)
    secret_file: FilePath | None = None
    from_variable: bool = field(default=False, repr=False)


def _read_credentials(
    entries: Iterator[tuple[str, object]], base: FilePath
) -> tuple[Credential, ...]:
    made: dict[str, Credential] = {}
    for name, value in entries:
        text = str(value)
        if name.endswith("_file"):
            name = name.removesuffix("_file")
            one = Credential(name, secret_file=base / parse_file(text))
        else:
            if not text.isprintable():
                raise Wrong(f"the value of {shown(name)} is not one line of text", "mend it")
            one = Credential(name, text, from_variable=isinstance(value, FromVariable))
        if name in made:
            raise Wrong(f"{name} and {name}_file exclude each other", "keep one of the two")
        made[name] = one
    return tuple(made.values())


_CREDENTIALS = mapping(_read_credentials, example="write {auth_token_file: FILE}")


def _parse_provider(text: str) -> str:
    name = text.strip().lower().replace("-", "").replace("_", "").replace(" ", "")
    if not re.fullmatch(r"[a-z0-9.]{1,40}", name):
        raise Wrong(f"{shown(text)} is not the name of a DNS provider", "write it like cloudflare")
    return {"r53": "route53", "awsroute53": "route53", "do": "digitalocean", "cf": "cloudflare",
            "rfc2136": "ddns", "pdns": "powerdns"}.get(name, name)  # fmt: skip


@section
class Dns(Section):
    other_words: ClassVar = {
        **dict.fromkeys(
            ("token", "api_token", "api_key", "auth_token", "api_token_file", "auth_token_file"),
            "write provider: NAME and credentials: {auth_token_file: FILE}",
        ),
        **dict.fromkeys(("name", "plugin", "dns_provider"), "here that is provider: NAME"),
        **dict.fromkeys(("env", "environment"), "here that is credentials: {NAME_file: FILE}"),
        **dict.fromkeys(("style", "hook_type"), "here that is hook_style: certbot"),
        **dict.fromkeys(
            ("auth_hook", "manual_auth_hook"), "here that is hook: /PROGRAM, hook_style: certbot"
        ),
        **dict.fromkeys(("cleanup_hook", "manual_cleanup_hook"), "here that is hook_cleanup"),
    }

    zone: Annotated[str, word(_parse_zone)] | None = Field(
        default=None, description="The zone that records go to; else it is found by asking the DNS."
    )
    server: Annotated[Address, word(parse_name_server)] | None = Field(
        default=None, description="The name server that takes updates (RFC 2136)."
    )
    tsig: Tsig | None = Field(default=None, description="The key that updates are signed with.")
    hook: File | None = Field(
        default=None, description="A program that sets and removes records, instead of a server."
    )
    hook_style: Annotated[HookStyle, one_of(*get_args(HookStyle))] = Field(
        default="treehouse",
        description="How the hook is called: as ours, or as certbot, acme.sh or lego call theirs.",
    )
    hook_cleanup: File | None = Field(
        default=None, description="Another program that removes records, as certbot's hooks have."
    )
    hook_timeout: Annotated[float, duration("1s", "5m")] = Field(
        default=120.0, description="Until the hook, or a call of the provider's, is ended."
    )
    provider: Annotated[str, word(_parse_provider)] | None = Field(
        default=None, description="A DNS provider by name, such as cloudflare (dns-lexicon)."
    )
    credentials: Annotated[tuple[Credential, ...], _CREDENTIALS] = Field(
        default=(),
        description="What the provider is to be told: NAME_file: FILE, or NAME: ${VARIABLE}; of a "
        "hook, its environment.",
    )
    ttl: Annotated[float, duration("1s", "1d")] = Field(
        default=60.0, description="Of the records that are set."
    )
    propagation: Annotated[float, duration("0s", "10m")] = Field(
        default=120.0,
        description="Until every name server of the zone shows a record; 0s does not look.",
    )


@section
class Fallback(Section):
    directory: Directory = Field(description="The other CA: a name or an https URL.")
    email: Email | None = Field(
        default=None, description="Contact there; else the same as above it."
    )
    ca_file: File | None = Field(default=None, description="PEM bundle to trust for its own TLS.")
    profile: Token | None = Field(default=None, description="Which of its profiles to ask for.")
    preferred_chain: Token | None = Field(
        default=None, description="The root that its chain is to lead to, by common name."
    )
    eab: ExternalAccount | None = Field(default=None, description="External account binding.")


@section
class Acme(Section):
    other_words: ClassVar = {
        "staging": "write directory: letsencrypt-staging",
        **dict.fromkeys(
            ("ca", "server", "url", "provider", "ca_server", "caServer", "issuer"),
            "here that is directory: letsencrypt, or a URL",
        ),
        **dict.fromkeys(("contact", "mail"), "here that is email: ops@example.org"),
        **dict.fromkeys(
            ("agree_tos", "accept_tos", "terms_of_service_agreed", "agree", "enabled"),
            "leave it out: the terms are agreed to by asking for a certificate",
        ),
    }

    directory: Directory = Field(
        default="letsencrypt", description="The CA: a name or an https URL."
    )
    email: Email | None = Field(default=None, description="Contact that the CA may write to.")
    ca_file: File | None = Field(
        default=None, description="PEM bundle to trust for the CA's own TLS."
    )
    profile: Token | None = Field(
        default=None, description="Which of the CA's profiles to ask for."
    )
    preferred_chain: Token | None = Field(
        default=None, description="The root that the chain is to lead to, by common name."
    )
    key_type: Many[KeyType] = Field(
        default=("ecdsa-p256",), description="The certificates' keys; two, ECDSA and RSA, for both."
    )
    challenges: Many[Challenge] = Field(
        default=(
            "http-01",
            "tls-alpn-01",
        ),
        description="Ways to prove control of a name, in order of preference.",
    )
    dns: Many[Dns] = Field(
        default=(),
        description="How records for dns-01 are set; one entry for each zone or for all.",
    )
    resolvers: Many[Annotated[Address, word(parse_resolver)]] = Field(
        default=(), description="Who is asked about zones, instead of the system's resolvers."
    )
    eab: ExternalAccount | None = Field(default=None, description="External account binding.")
    fallback: Many[Fallback] = Field(
        default=(), description="Other CAs, asked in order when one fails."
    )


# What these keys need of each other


def check(acme: Acme, origins: Origins) -> Iterator[Fault]:
    yield from check_key_types(acme.key_type, ("acme", "key_type"), origins)
    if not acme.challenges:
        yield origins.fault(
            ("acme", "challenges"), "the list of challenges is empty", "leave the key out"
        )
    yield from _fallbacks(acme, origins)
    yield from _dns(acme, origins)


def check_key_types(types: Sequence[str], path: Path, origins: Origins) -> Iterator[Fault]:
    families = [one.partition("-")[0] for one in types]
    if not types:
        yield origins.fault(path, "the list of keys is empty", "leave the key out")
    elif len(set(families)) < len(families):
        yield origins.fault(
            path,
            "clients are told apart by ECDSA and RSA, so one of each makes sense",
            "leave one of the two out",
        )


def _fallbacks(acme: Acme, origins: Origins) -> Iterator[Fault]:
    seen = {acme.directory}
    for index, other in enumerate(acme.fallback):
        path = ("acme", "fallback", index, "directory")
        if other.directory == "internal":
            yield origins.fault(
                path,
                "the built-in CA is no substitute: visitors do not trust it",
                "name another public CA",
            )
        elif other.directory in seen:
            yield origins.fault(path, "this CA is already asked before", "leave it out")
        seen.add(other.directory)


# Each way to set records, with the keys that belong to it alone.
_WAYS = {
    "server": ("tsig",),
    "hook": ("hook_style", "hook_cleanup"),
    "provider": (),
}
_SHARED = {
    "ttl": ("server", "provider"),
    "hook_timeout": ("hook", "provider"),
    "credentials": ("provider", "hook"),
}


def _dns(acme: Acme, origins: Origins) -> Iterator[Fault]:
    first: dict[str | None, int] = {}
    for index, dns in enumerate(acme.dns):
        at: Path = ("acme", "dns", index)
        ways = [way for way in _WAYS if getattr(dns, way) is not None]
        if len(ways) != 1:
            yield origins.fault(
                at,
                f"{' and '.join(ways)} exclude each other"
                if ways
                else "nothing here says how records get into the DNS",
                "give server for a name server that takes updates, hook for a program, or provider",
            )
        else:
            yield from _strays(dns, ways[0], at, origins)
        if dns.zone in first:
            where = origins.at(("acme", "dns", first[dns.zone]))
            yield origins.fault(
                at,
                f"the same zone as at {where}"
                if dns.zone
                else f"for every zone, as the entry at {where}",
                "give each entry a zone of its own; one may be without, for all others",
            )
        first.setdefault(dns.zone, index)
    if "dns-01" in acme.challenges and not acme.dns:
        yield origins.fault(
            ("acme", "challenges"),
            "dns-01 needs somebody to set its records",
            "add acme.dns with provider, server or hook, or leave dns-01 out",
        )


def _strays(dns: Dns, way: str, at: Path, origins: Origins) -> Iterator[Fault]:
    """Yield a fault for each key that belongs to another way."""
    for other, keys in _WAYS.items():
        for key in keys if other != way else ():
            if key in dns.given:
                yield origins.fault_of_key(
                    (*at, key), f"this key belongs to {other}", f"add {other}, or leave it out"
                )
    for key, owners in _SHARED.items():
        if key in dns.given and way not in owners:
            yield origins.fault_of_key(
                (*at, key),
                f"this key belongs to {' or '.join(owners)}",
                f"add {owners[0]}, or leave it out",
            )

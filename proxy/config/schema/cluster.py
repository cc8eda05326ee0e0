"""What a user may write under ``cluster``: several machines with one set of certificates."""

import re
import socket
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from ..syntax.addresses import is_loopback
from ..syntax.faults import Fault, Origins, Wrong, shown
from ..syntax.kinds import File, Switch, Token, one_of, word
from ..syntax.sections import Field, Many, Section, already_read, section

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_NODE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Wrong(f"{shown(text)} is no name of a cluster", "use small letters, digits and -")
    return text


def _parse_node(text: str) -> str:
    if not _NODE.fullmatch(text):
        raise Wrong(f"{shown(text)} is no name of a node", "use letters, digits, dots, - and _")
    return text


def _parse_endpoint(text: str) -> str:
    say = "write it like https://192.0.2.1:2379"
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable():
        raise Wrong(f"{shown(text)} is no address of etcd", say)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Wrong(f"{shown(text)} has more than scheme, host and port", say)
    if parts.path.strip("/"):
        raise Wrong(f"{shown(text)} has a path", say)
    return text.rstrip("/")


def _parse_share(text: str) -> float:
    share = re.fullmatch(r"(\d{1,2}) ?%", text.strip())
    if share is None or not 1 <= int(share[1]) <= 50:
        raise Wrong(f"{shown(text)} is not a share of a lifetime", "write it like 10%, 1% to 50%")
    return int(share[1]) / 100


@section
class Alone(Section):
    """What a machine does while it cannot reach etcd."""

    order_below: Annotated[float, word(_parse_share, pattern=r"^[0-9]{1,2} *%$")] = Field(
        default=0.1,
        description="Order a certificate without the others when less of its life is left.",
    )
    challenges: Annotated[Literal["thumbprint", "off"], one_of("thumbprint", "off")] = Field(
        default="thumbprint",
        description="Answer HTTP-01 challenges of other machines by the account's thumbprint.",
    )


@section
class Cluster(Section):
    """Several machines, one set of certificates, kept in etcd."""

    other_words: ClassVar = {
        **dict.fromkeys(("endpoints", "endpoint", "urls", "hosts"), "here that is etcd: [URL, …]"),
        **dict.fromkeys(("secret", "key", "encryption_key"), "here that is secret_file: FILE"),
        **dict.fromkeys(("leader", "primary", "role", "follower"), "here that is order: false"),
        "password": "here that is password_file: FILE",
        "username": "here that is user: NAME",
    }

    name: Annotated[str, word(_parse_name)] = Field(
        description="The cluster's name: the same on every machine, its keys lie below it."
    )
    etcd: Many[Annotated[str, word(_parse_endpoint)]] = Field(
        description="The members of etcd, each like https://192.0.2.1:2379."
    )
    secret_file: File = Field(
        description="The secret that seals what lies in etcd, the same on every machine; "
        "treehouse-proxy cluster init makes it."
    )
    order: Switch = Field(
        default=True,
        description="Order certificates, each once among the machines; false: only take them.",
    )
    node: Annotated[str | None, word(_parse_node)] = Field(
        default=None, description="What this machine is called; left out: the host's name."
    )
    alone: Alone = Field(
        default=already_read(Alone), description="What it does while it cannot reach etcd."
    )
    ca_file: File | None = Field(
        default=None, description="CAs that etcd's certificates are trusted by."
    )
    cert_file: File | None = Field(
        default=None, description="A client certificate for etcd, without a common name."
    )
    key_file: File | None = Field(default=None, description="The key of cert_file.")
    user: Token | None = Field(default=None, description="The user that logs in to etcd.")
    password_file: File | None = Field(default=None, description="A file with its password.")

    @property
    def called(self) -> str:
        """What this machine is called."""
        return self.node or socket.gethostname()


def check(cluster: Cluster | None, origins: Origins) -> Iterator[Fault]:
    """Yield a fault for each key that lacks another key, or does not go with it."""
    if cluster is None:
        return
    if not cluster.etcd:
        yield origins.fault(
            ("cluster", "etcd"), "no member of etcd is named", "write [https://192.0.2.1:2379]"
        )
    for one, other in (
        ("cert_file", "key_file"),
        ("key_file", "cert_file"),
        ("user", "password_file"),
        ("password_file", "user"),
    ):
        if getattr(cluster, one) is not None and getattr(cluster, other) is None:
            yield origins.fault(
                ("cluster", one), f"it needs {other} beside it", f"add {other}, or take {one} out"
            )
    schemes = {urlsplit(url).scheme for url in cluster.etcd}
    if len(schemes) > 1:
        yield origins.fault(
            ("cluster", "etcd"), "some members are asked by TLS and others are not", "use https"
        )
    if schemes == {"http"}:
        for key in ("ca_file", "cert_file"):
            if getattr(cluster, key) is not None:
                yield origins.fault(
                    ("cluster", key), "etcd is not asked by TLS", "write https:// in etcd"
                )
        if cluster.user is not None and not all(map(_is_near, cluster.etcd)):
            yield origins.fault(
                ("cluster", "user"),
                "the password would cross the network in clear",
                "write https:// in etcd",
            )
    if not _NODE.fullmatch(cluster.called):
        yield origins.fault(
            ("cluster",),
            f"the host's name {shown(cluster.called)} names no node",
            "write node: NAME",
        )


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_loopback(host)

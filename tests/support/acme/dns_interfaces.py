"""The interfaces of DNS providers, by their documentation, on this machine: for lexicon's own code.

One TLS server answers for the hosts of all of them; `redirected` leads every look-up there, so that
URLs, certificates and signatures are those of the real ones. Each keeps the zone ``example.test``
as a set of TXT values by name, checks who asks, and refuses what the real one refuses. Every request
is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import trustme

from support.http.backend_app import running

ZONE = "example.test"
SECRET = "s3cret-token-of-the-account"
HOSTS = (
    "api.cloudflare.com", "api.hetzner.cloud", "api.digitalocean.com", "desec.io",
    "eu.api.ovh.com", "route53.amazonaws.com", "hooks.example.test",
)  # fmt: skip


@dataclass
class Asked:
    method: str
    host: str
    path: str
    query: dict[str, str]
    fields: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body or "null")


class Refusal(Exception):
    def __init__(self, status: int, body: object) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass
class Records:
    """TXT records of the zone: numbers to full names and values."""

    held: dict[int, tuple[str, str]] = field(default_factory=dict)
    ttls: set[int] = field(default_factory=set)
    last: int = 0

    def add(self, name: str, value: str, ttl: int) -> int:
        self.last += 1
        self.held[self.last] = name, value
        self.ttls.add(ttl)
        return self.last

    def at(self, name: str) -> list[str]:
        return [value for held, value in self.held.values() if held == name]

    def drop(self, name: str, value: str | None = None) -> bool:
        gone = [
            number
            for number, (held, held_value) in self.held.items()
            if held == name and value in (None, held_value)
        ]
        for number in gone:
            del self.held[number]
        return bool(gone)


def full(name: str) -> str:
    return ZONE if name in ("", "@") else f"{name}.{ZONE}"


def sub(name: str) -> str:
    return name.removesuffix(ZONE).removesuffix(".")


class Interfaces(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.records = Records()
        self.asked: list[Asked] = []
        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def of(self, host: str) -> list[Asked]:
        return [one for one in self.asked if one.host == host]


@contextlib.contextmanager
def interfaces() -> Iterator[Interfaces]:
    server = Interfaces()
    with running(server):
        yield server


def redirected(server: Interfaces, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have this process find every host at the server, and trust its CA."""
    bundle = folder / "interfaces.pem"
    bundle.write_bytes(server.ca_pem)
    patch.setenv("SSL_CERT_FILE", str(bundle))
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        place = server.server_address if host in HOSTS else (host, port)
        return real(place[0], place[1], *rest, **named)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)


class _Handler(BaseHTTPRequestHandler):
    server: Interfaces
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        asked = Asked(
            self.command,
            self.headers["Host"].partition(":")[0],
            unquote(url.path),
            dict(parse_qsl(url.query)),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length).decode(),
        )
        self.server.asked.append(asked)
        try:
            status, body = 200, _SERVICES[asked.host](asked, self.server.records)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/xml" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


def _bearer(asked: Asked, body: object) -> None:
    if asked.fields.get("authorization") != f"Bearer {SECRET}":
        raise Refusal(401, body)


def _cloudflare(asked: Asked, records: Records) -> object:
    """https://developers.cloudflare.com/api/resources/dns/subresources/records/"""
    _bearer(
        asked, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}
    )
    info = {"page": 1, "per_page": 100, "total_pages": 1, "count": 1, "total_count": 1}
    if asked.path == "/client/v4/zones":
        return {"success": True, "result": [{"id": "z1", "name": ZONE}], "result_info": info}
    assert asked.path.startswith("/client/v4/zones/z1/dns_records"), asked.path
    if asked.method == "GET":
        found = [
            {"id": str(number), "type": "TXT", "name": name, "content": value, "ttl": 60}
            for number, (name, value) in records.held.items()
            if asked.query.get("name") in (None, name)
            and asked.query.get("content") in (None, value)
        ]
        return {"success": True, "result": found, "result_info": info}
    if asked.method == "POST":
        said = asked.json
        if said["content"] in records.at(said["name"]):
            error = {"code": 81058, "message": "An identical record already exists."}
            raise Refusal(400, {"success": False, "errors": [error]})
        records.add(said["name"], said["content"], said["ttl"])
        return {"success": True, "result": {"id": str(records.last)}}
    del records.held[int(asked.path.rpartition("/")[2])]
    return {"success": True, "result": {}}


def _hetzner(asked: Asked, records: Records) -> object:
    """https://docs.hetzner.cloud/reference/cloud#zone-rrsets"""
    _bearer(asked, {"error": {"code": "unauthorized", "message": "unable to authenticate"}})
    if asked.path == f"/v1/zones/{ZONE}":
        return {"zone": {"id": 7, "name": ZONE}}
    found = re.fullmatch(
        rf"/v1/zones/(?:7|{re.escape(ZONE)})/rrsets(?:/([^/]+)/TXT)?(?:/actions/(\w+))?", asked.path
    )
    assert found, asked.path
    name = full(found[1] or sub(asked.query.get("name", "")))
    if asked.method == "GET":
        values = records.at(name)
        one = {
            "id": f"{sub(name)}/TXT", "name": sub(name), "type": "TXT", "ttl": 60,
            "records": [{"value": f'"{value}"', "comment": ""} for value in values],
        }  # fmt: skip
        if found[1]:
            if not values:
                raise Refusal(404, {"error": {"code": "not_found", "message": "no such rrset"}})
            return {"rrset": one}
        meta = {"pagination": {"page": 1, "last_page": 1, "next_page": None}}
        return {"rrsets": [one] if values else [], "meta": meta}
    for record in asked.json["records"]:
        value = record["value"].strip('"')
        if found[2] == "add_records":
            records.add(name, value, asked.json["ttl"])
        elif not records.drop(name, value):
            raise Refusal(404, {"error": {"code": "not_found", "message": "no such record"}})
    return {"action": {"id": 1, "status": "success"}}


def _digitalocean(asked: Asked, records: Records) -> object:
    """https://docs.digitalocean.com/reference/api/digitalocean/#tag/Domain-Records"""
    _bearer(asked, {"id": "unauthorized", "message": "Unable to authenticate you"})
    base = f"/v2/domains/{ZONE}"
    if asked.path == base:
        return {"domain": {"name": ZONE}}
    assert asked.path.startswith(f"{base}/records"), asked.path
    if asked.method == "GET":
        found = [
            {"id": number, "type": "TXT", "name": sub(name), "data": value, "ttl": 60}
            for number, (name, value) in records.held.items()
        ]
        return {"domain_records": found, "links": {}, "meta": {"total": len(found)}}
    if asked.method == "POST":
        number = records.add(full(asked.json["name"]), asked.json["data"], asked.json["ttl"])
        return {"domain_record": {"id": number}}
    del records.held[int(asked.path.rpartition("/")[2])]
    return {}


def _desec(asked: Asked, records: Records) -> object:
    """https://desec.readthedocs.io/en/latest/dns/rrsets.html"""
    if asked.fields.get("authorization") != f"Token {SECRET}":
        raise Refusal(401, {"detail": "Invalid token."})
    if asked.path.rstrip("/") in (f"/api/v1/domains/{ZONE}", f"/api/v1/domains/{ZONE}/rrsets/.."):
        return {"name": ZONE, "minimum_ttl": 3600}
    found = re.fullmatch(
        rf"/api/v1/domains/{re.escape(ZONE)}/rrsets(?:/([^/]+)/TXT)?/*", asked.path
    )
    assert found, asked.path
    if asked.method == "GET":
        wanted = asked.query.get("subname")
        names = {name for name, _ in records.held.values() if wanted in (None, sub(name))}
        return [
            {
                "subname": sub(name), "name": f"{name}.", "type": "TXT", "ttl": 3600,
                "records": [f'"{value}"' for value in records.at(name)],
            }
            for name in sorted(names)
        ]  # fmt: skip
    said = asked.json
    ttl = int(said.get("ttl", 3600))
    if ttl < 3600:
        raise Refusal(400, {"ttl": ["Ensure this value is greater than or equal to 3600."]})
    name = full(found[1] or said["subname"])
    if asked.method == "POST" and records.at(name):
        raise Refusal(400, {"non_field_errors": ["Another RRset with the same name exists."]})
    records.drop(name)
    for value in said["records"]:
        records.add(name, value.strip('"'), ttl)
    return said


def _ovh(asked: Asked, records: Records) -> object:
    """https://help.ovhcloud.com/csm/en-api-getting-started-ovhcloud-api"""
    if asked.path == "/1.0/auth/time":
        return 1_700_000_000
    url = f"https://{asked.host}{asked.path}"
    if asked.query:
        url += "?" + "&".join(f"{name}={value}" for name, value in asked.query.items())
    stamp = asked.fields["x-ovh-timestamp"]
    signed = "+".join((SECRET, "consumer-key", asked.method, url, asked.body, stamp))
    if asked.fields["x-ovh-signature"] != "$1$" + hashlib.sha1(signed.encode()).hexdigest():
        raise Refusal(403, {"message": "Invalid signature"})
    base = f"/1.0/domain/zone/{ZONE}"
    match asked.method, asked.path.removeprefix(base):
        case "GET", "/1.0/domain/zone/":
            return [ZONE]
        case "GET", "/status":
            return {"isDeployed": True}
        case "GET", "/record":
            wanted = asked.query.get("subDomain")
            return [n for n, (name, _) in records.held.items() if wanted in (None, sub(name))]
        case "GET", path:
            number = int(path.rpartition("/")[2])
            name, value = records.held[number]
            return {
                "id": number, "fieldType": "TXT", "subDomain": sub(name), "ttl": 60,
                "target": f'"{value}"',
            }  # fmt: skip
        case "POST", "/record":
            said = asked.json
            return {"id": records.add(full(said["subDomain"]), said["target"], said["ttl"])}
        case "POST", "/refresh":
            return None
        case "DELETE", path:
            del records.held[int(path.rpartition("/")[2])]
            return None
    raise AssertionError(asked)


_AWS = 'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"'


def _route53(asked: Asked, records: Records) -> object:
    """https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html"""
    if "Credential=access-key/" not in asked.fields.get("authorization", ""):
        raise Refusal(403, f"<ErrorResponse {_AWS}><Error><Code>AccessDenied</Code></Error>"
                           "</ErrorResponse>")  # fmt: skip
    if asked.path == "/2013-04-01/hostedzonesbyname":
        return (
            f"<ListHostedZonesByNameResponse {_AWS}><HostedZones><HostedZone>"
            f"<Id>/hostedzone/Z1</Id><Name>{ZONE}.</Name><CallerReference>x</CallerReference>"
            "<Config><PrivateZone>false</PrivateZone></Config></HostedZone></HostedZones>"
            "<IsTruncated>false</IsTruncated><MaxItems>100</MaxItems>"
            "</ListHostedZonesByNameResponse>"
        )
    assert asked.path.rstrip("/") == "/2013-04-01/hostedzone/Z1/rrset", asked.path
    if asked.method == "GET":
        sets = ""
        for name in sorted({name for name, _ in records.held.values()}):
            values = "".join(
                f"<ResourceRecord><Value>&quot;{one}&quot;</Value></ResourceRecord>"
                for one in records.at(name)
            )
            sets += (
                f"<ResourceRecordSet><Name>{name}.</Name><Type>TXT</Type><TTL>60</TTL>"
                f"<ResourceRecords>{values}</ResourceRecords></ResourceRecordSet>"
            )
        return (
            f"<ListResourceRecordSetsResponse {_AWS}><ResourceRecordSets>{sets}"
            "</ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>100</MaxItems>"
            "</ListResourceRecordSetsResponse>"
        )
    action = re.search(r"<Action>(\w+)</Action>", asked.body)
    name = re.search(r"<Name>([^<]+)\.</Name>", asked.body)
    ttl = re.search(r"<TTL>(\d+)</TTL>", asked.body)
    assert action is not None
    assert name is not None
    assert ttl is not None
    values = re.findall(r"<Value>(?:&quot;|\")([^<&\"]+)(?:&quot;|\")</Value>", asked.body)
    if len(values) != len(set(values)):
        raise Refusal(400, f"<ErrorResponse {_AWS}><Error><Code>InvalidChangeBatch</Code>"
                           "<Message>[Duplicate Resource Record: 'x']</Message></Error>"
                           "</ErrorResponse>")  # fmt: skip
    records.drop(name[1])
    for value in values if action[1] != "DELETE" else ():
        records.add(name[1], value, int(ttl[1]))
    return (
        f"<ChangeResourceRecordSetsResponse {_AWS}><ChangeInfo><Id>/change/1</Id>"
        "<Status>INSYNC</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>"
        "</ChangeResourceRecordSetsResponse>"
    )


def _httpreq(asked: Asked, records: Records) -> object:
    """https://go-acme.github.io/lego/dns/httpreq/"""
    if asked.fields.get("authorization") != "Basic YWxpY2U6czNjcmV0LXRva2VuLW9mLXRoZS1hY2NvdW50":
        raise Refusal(401, {"message": "who are you?"})
    said = asked.json
    if "fqdn" in said:
        name, value = said["fqdn"].rstrip("."), said["value"]
    else:
        name, value = f"_acme-challenge.{said['domain']}", said["keyAuth"]
    if asked.path == "/dns/present":
        records.add(name, value, 60)
    else:
        assert asked.path == "/dns/cleanup"
        records.drop(name, value)
    return {}


_SERVICES = {
    "api.cloudflare.com": _cloudflare,
    "api.hetzner.cloud": _hetzner,
    "api.digitalocean.com": _digitalocean,
    "desec.io": _desec,
    "eu.api.ovh.com": _ovh,
    "route53.amazonaws.com": _route53,
    "hooks.example.test": _httpreq,
}

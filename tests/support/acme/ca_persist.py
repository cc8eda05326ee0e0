"""A CA with dns-persist-01, which pebble lacks: a front that offers it in the place of dns-01, looks at
the zone itself, and lets a pebble that is content with everything issue.

    with Pebble(always_valid=True) as ca, Faults(ca) as front:
        front.persist = Persist(knot.address, "02")

``draft`` is the one that it follows: "02" with hashed account URIs and what there is to know in the
directory; "01" with the account's URL, told with the challenge; "00" which tells only its name.
What it makes of a record is written down here anew, and shares no code with the client.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import dns.message
import dns.query
import dns.rdatatype

if TYPE_CHECKING:
    from .ca_faults import Exchange, Reply

ISSUER = "ca.example"
PREFIX = "https://ca.example/account-hash/"


class Persist:
    """``validated``: with which names it was content, and whether as a wildcard's."""

    def __init__(self, name_server: str, draft: str = "02") -> None:
        self._name_server = name_server
        self.draft = draft
        self.validated: set[tuple[str, bool]] = set()
        self._keys: dict[str, list[str]] = {}  # thumbprints by account URL
        self._asked: dict[str, tuple[str, str, bool]] = {}  # by challenge: authorization, name, …
        self._failed: dict[str, str] = {}  # by authorization
        self._lock = threading.Lock()

    def answer(self, exchange: Exchange) -> Reply:
        match exchange.kind:
            case "directory":
                return self._directory(exchange.forward())
            case "newAccount":
                reply = exchange.forward()
                key = _thumbprint(_part(exchange.body, "protected")["jwk"])
                if reply.status in (200, 201):
                    known = self._keys.setdefault(reply.headers["Location"], [])
                    known.append(key) if key not in known else None
                return reply
            case "keyChange":
                reply = exchange.forward()
                inner = base64.urlsafe_b64decode(_padded(json.loads(exchange.body)["payload"]))
                account = _part(exchange.body, "protected")["kid"]
                self._keys[account].append(_thumbprint(_part(inner, "protected")["jwk"]))
                return reply
            case "authorization":
                return self._authorization(exchange)
            case "challenge":
                return self._challenge(exchange)
        return exchange.forward()

    def _directory(self, reply: Reply) -> Reply:
        document = json.loads(reply.body)
        document["meta"]["caaIdentities"] = [ISSUER]
        if self.draft == "02":
            document["meta"] |= {"issuerDomainNames": [ISSUER], "accountHashPrefix": PREFIX}
        return _with(reply, document)

    def _authorization(self, exchange: Exchange) -> Reply:
        reply = exchange.forward()
        document = json.loads(reply.body)
        account = _part(exchange.body, "protected")["kid"]
        for challenge in document["challenges"]:
            if challenge["type"] != "dns-01":
                continue
            challenge["type"] = "dns-persist-01"
            challenge.pop("token", None)
            if self.draft == "02":
                challenge["issuerDomainNames"] = [ISSUER]
            else:
                challenge["issuer-domain-names"] = [ISSUER]
            if self.draft == "01":
                challenge["accounturi"] = account
            about = exchange.path, document["identifier"]["value"], bool(document.get("wildcard"))
            with self._lock:
                self._asked[challenge["url"]] = about
            failure = self._failed.get(exchange.path)
            if failure:
                document["status"] = challenge["status"] = "invalid"
                typ = "urn:ietf:params:acme:error:unauthorized"
                challenge["error"] = {"type": typ, "detail": failure}
        return _with(reply, document)

    def _challenge(self, exchange: Exchange) -> Reply:
        protected = _part(exchange.body, "protected")
        payload = base64.urlsafe_b64decode(_padded(json.loads(exchange.body)["payload"]))
        asked = self._asked.get(protected["url"])
        if asked is None or payload != b"{}":
            return exchange.forward()
        path, name, wildcard = asked
        if self._stands(name, wildcard, protected["kid"]):
            self.validated.add((name, wildcard))
            return exchange.forward()
        self._failed[path] = f"no record for {name}"
        return exchange.silence({"type": "dns-persist-01", "status": "processing"})

    def _stands(self, name: str, wildcard: bool, account: str) -> bool:
        accounts = {account}
        if self.draft == "02":
            accounts = {
                PREFIX + "sha-256/" + _digest(bytes([len(name)]), name, key, account)
                for key in self._keys[account]
            }
        for text in self._texts(f"_validation-persist.{name}"):
            issuer, *parameters = text.split("; ")
            found = dict(one.split("=", 1) for one in parameters)
            broad = found.get("policy") == "wildcard" or not wildcard
            if issuer == ISSUER and found.get("accounturi") in accounts and broad:
                return True
        return False

    def _texts(self, name: str) -> list[str]:
        query = dns.message.make_query(name + ".", "TXT")
        response = dns.query.tcp(query, self._name_server, 60)
        return [
            b"".join(one.strings).decode()
            for rrset in response.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for one in rrset
        ]


def _with(reply: Reply, document: dict[str, Any]) -> Reply:
    reply.body = json.dumps(document).encode()
    return reply


def _part(body: bytes, which: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(_padded(json.loads(body)[which])))
    assert isinstance(value, dict)
    return value


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


def _thumbprint(key: dict[str, str]) -> str:
    """RFC 7638, for the elliptic curves' keys that accounts here have."""
    members = {name: key[name] for name in ("crv", "kty", "x", "y")}
    return _digest(json.dumps(members, separators=(",", ":"), sort_keys=True))


def _digest(*parts: str | bytes) -> str:
    over = b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return base64.urlsafe_b64encode(hashlib.sha256(over).digest()).rstrip(b"=").decode()

"""What certificate authorities send, in front of a real one (pebble): one table per kind.

A new case is a line: which of the CA's answers, and what comes in its place. The kinds were seen
at real CAs (Entrust, Vault, smallstep, EJBCA, Dogtag, acme2certifier, ZeroSSL, Google), and in
reports about other clients; section 1 of docs/faults.md says what follows from each.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acme import messages as library

from acme_client.certificates.record import Record, from_json
from acme_client.certificates.repository import CertificateRepository
from acme_client.issuers.account_files import ACCOUNT, CLOSED_KEY, KEY
from acme_client.issuers.accounts import Accounts, Fate
from acme_client.issuers.transport import Transport, trust
from acme_client.link import Authority, Settings
from acme_client.rate_limits.ledger import Ledger
from acme_client.storage.directory import DirectoryStore
from acme_client.x509 import keys, loadable
from acme_client.x509.verify import CertificateAndKey, read
from support.acme.ca_faults import (
    Edit,
    Fault,
    Faults,
    Heard,
    Json,
    NoNonce,
    Pass,
    Refuse,
    Relative,
    Say,
    Validated,
)
from support.acme.certifier import Certifier, FakeServer, settings
from support.acme.pebble import Pebble
from support.threads import run_together

pytestmark = pytest.mark.pebble

NAME = "a.example"
ALWAYS = 10_000
ACME = "urn:ietf:params:acme:error:"
Case = tuple[tuple[str, Fault, int], ...]  # resource, what comes instead, how often


@pytest.fixture(scope="module")
def answering() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(scope="module")
def front(answering: FakeServer) -> Iterator[Faults]:
    with (
        Pebble(answering.http_port, answering.tls_port, nonce_reject=0) as ca,
        Faults(ca) as faults,
    ):
        yield faults


@pytest.fixture
def server(answering: FakeServer, front: Faults) -> FakeServer:
    answering.forget()
    front.clear()
    front.seen.clear()
    return answering


def wanted(front: Faults, state: Path, **more: Any) -> Settings:
    return settings(state, Authority(front.directory, ca_pem=front.ca_pem, **more), (NAME,))


def record(state: Path) -> Record:
    return from_json((state / "certificates" / NAME / "meta.json").read_bytes())


def challenges_with(*others: dict[str, Any]) -> Callable[[bytes], bytes]:
    """An authorization that offers http-01 and ``others``, which the CA does not know."""

    def change(body: bytes) -> bytes:
        document = json.loads(body)
        known = [one for one in document["challenges"] if one["type"] == "http-01"]
        return json.dumps({**document, "challenges": [*others, *known]}).encode()

    return change


def indented(body: bytes) -> bytes:
    return b"".join(b"  " + line for line in body.splitlines(keepends=True))


def upside_down(body: bytes) -> bytes:
    end = b"-----END CERTIFICATE-----\n"
    return b"".join(one + end for one in reversed(body.split(end)) if one.strip())


def strange(**fields: Any) -> tuple[tuple[str, Fault, int], ...]:
    other = {"type": "proprietary-99", "url": "https://ca.example/c/2", **fields}
    return (("authorization", Edit(challenges_with(other)), ALWAYS),)


def bad_nonce(body: bytes, **headers: str) -> tuple[tuple[str, Fault, int], ...]:
    head = {"Content-Type": "application/problem+json", **headers}
    return (("newOrder", Say(body, 400, head), 1),)


def problem(typ: str = "badNonce", **fields: Any) -> bytes:
    return json.dumps({"type": ACME + typ, "detail": "x", "status": 400, **fields}).encode()


CAPITALS = {"type": "dns", "value": NAME.upper()}
DOTTED = {"type": "dns", "value": f"{NAME}."}
NOT_FOUND = Refuse(404, "malformed", detail="no such thing")

# Whatever the CA does here, there is a certificate in the end, and one order was enough.
OBTAINED: dict[str, Case] = {
    # Chains (the whole table is in test_pem_files)
    "a chain without its last line end": (("certificate", Edit(bytes.rstrip), 1),),
    "a chain with CR": (("certificate", Edit(lambda body: body.replace(b"\n", b"\r")), 1),),
    "a chain with END and BEGIN on one line": (
        ("certificate", Edit(lambda body: body.replace(b"-----\n-----", b"----------")), 1),
    ),
    "a chain that is indented": (("certificate", Edit(indented), 1),),
    "a chain with a NUL": (("certificate", Edit(lambda body: body + b"\0"), 1),),
    "a chain with a web page around": (
        ("certificate", Edit(lambda body: b"<html><pre>" + body.rstrip() + b"</pre>"), 1),
    ),
    "a chain upside down": (("certificate", Edit(upside_down), 1),),
    # IssuanceError documents
    "subproblems null": bad_nonce(problem(subproblems=None)),
    "subproblems of texts": bad_nonce(problem(subproblems=["a", "b"])),
    "subproblems that are an object": bad_nonce(problem(subproblems={"type": "x"})),
    "subproblems that are a text": bad_nonce(problem(subproblems="none")),
    "a subproblem without a name": bad_nonce(problem(subproblems=[{"identifier": None}])),
    "a subproblem of a mere name": bad_nonce(problem(subproblems=[{"identifier": "a.example"}])),
    "subproblems in lists": bad_nonce(problem(subproblems=[[], None, 7])),
    "an identifier null": bad_nonce(problem(identifier=None)),
    "an identifier that is a text": bad_nonce(problem(identifier="a.example")),
    "a detail null": bad_nonce(problem(detail=None)),
    "a detail that is an object": bad_nonce(problem(detail={"en": "x"})),
    "a status that is a text": bad_nonce(problem(status="400")),
    "a title that is a number": bad_nonce(problem(title=7)),
    "nothing but the type": bad_nonce(json.dumps({"type": ACME + "badNonce"}).encode()),
    "the prefix of old": bad_nonce(b'{"type": "urn:acme:error:badNonce", "detail": "x"}'),
    "another content type": bad_nonce(problem(), **{"Content-Type": "application/json"}),
    "a content type with a parameter": bad_nonce(
        problem(), **{"Content-Type": "application/problem+json; charset=utf-8"}
    ),
    "a web page's content type": bad_nonce(problem(), **{"Content-Type": "text/html"}),
    "a byte order mark": bad_nonce(b"\xef\xbb\xbf" + problem()),
    "Latin-1": bad_nonce(problem().replace(b'"x"', b'"ung\xfcltig"')),
    "a list of one": bad_nonce(b"[" + problem() + b"]"),
    # Challenges that nobody knows
    "an unknown challenge with padding in its token": strange(token="aa=="),
    "an unknown challenge whose token is a number": strange(token=7),
    "an unknown challenge whose token is null": strange(token=None),
    "an unknown challenge without a URL": strange(url=None),
    "an unknown challenge whose URL is none": strange(url="::"),
    "an unknown challenge with a strange error": strange(error="no"),
    "a challenge that is no object": (
        ("authorization", Edit(challenges_with("http-02", None)), ALWAYS),  # type: ignore[arg-type]
    ),
    "a known challenge with a bad token beside": (
        (
            "authorization",
            Edit(challenges_with({"type": "dns-01", "url": "https://c.example/", "token": "aa=="})),
            ALWAYS,
        ),
    ),
    "a challenge without a type": (("authorization", Edit(challenges_with({"url": "x"})), ALWAYS),),
    # Names
    "a name in capitals": (("authorization", Json({"identifier": CAPITALS}), ALWAYS),),
    "a name with its last dot": (("authorization", Json({"identifier": DOTTED}), ALWAYS),),
    # URLs
    "a relative Location": (("newOrder", Relative(), 1),),
    "relative URLs everywhere": (("*", Relative(), ALWAYS),),
    "a directory of relative URLs": (("directory", Relative(), 1),),
    # What nobody needs any more
    "authorizations null in an order that is ready": (
        ("newOrder", Json({"authorizations": None}, status="ready"), 1),
        ("order", Json({"authorizations": None}, status="ready"), ALWAYS),
    ),
    "a valid order without finalize": (("order", Json(without=("finalize",), status="valid"), 9),),
    "an order under way without finalize": (
        ("order", Json(without=("finalize",)), ALWAYS),
        ("finalize", Json(without=("finalize",)), ALWAYS),
    ),
    "a valid order without authorizations": (
        ("order", Json(without=("authorizations",), status="valid"), ALWAYS),
        ("finalize", Json(without=("authorizations",)), ALWAYS),
    ),
    "a valid order with null for both": (
        ("order", Json({"authorizations": None, "finalize": None}, status="valid"), ALWAYS),
    ),
    "a valid authorization without challenges": (
        ("authorization", Json(without=("challenges",), status="valid"), ALWAYS),
    ),
    "a valid authorization with challenges null": (
        ("authorization", Json({"challenges": None}, status="valid"), ALWAYS),
    ),
    "a valid authorization without its name": (
        ("authorization", Json(without=("identifier",), status="valid"), ALWAYS),
    ),
    "an order whose empty places hold empty texts": (
        ("newOrder", Json({"certificate": "", "error": ""}), 1),
        ("order", Json({"finalize": "", "error": ""}, status="valid"), ALWAYS),
        ("finalize", Json({"certificate": "", "error": {}}), ALWAYS),
    ),
    "an answer to finalize that is empty": (("finalize", Heard(Say(b"")), 1),),
    "an answer to finalize that is a text": (("finalize", Heard(Say(b"ok")), 1),),
    "a valid order whose certificate comes later": (
        ("finalize", Json(without=("certificate",)), ALWAYS),
        ("order", Json(without=("certificate",), status="valid"), 1),
    ),
    # What a moment later is otherwise
    "a challenge that is valid already": (
        ("challenge", Validated(Refuse(400, "malformed", detail="challenge is not pending")), 1),
    ),
    "a certificate that is not there yet": (("certificate", NOT_FOUND, 3),),
    "an order that is not there yet": (("order", NOT_FOUND, 2),),
    "an authorization that is not there yet": (("authorization", NOT_FOUND, 2),),
    "polls that are too many": (("order", Refuse(429, "rateLimited", {"Retry-After": "1"}), 1),),
    # Nonces
    "no nonce with any answer": (("*", NoNonce(), ALWAYS),),
    "no HEAD for a nonce": (("newNonce", Refuse(405, "malformed"), 1),),
    "a nonce that is none": (("order", Json(headers={"Replay-Nonce": "§"}), 1),),
    "a Retry-After that is none": (("order", Json(headers={"Retry-After": "soon"}), 1),),
    "a Retry-After with a fraction": (("order", Json(headers={"Retry-After": "0.5"}), 1),),
}


@pytest.mark.parametrize("case", OBTAINED)
def test_there_is_a_certificate(
    front: Faults,
    server: FakeServer,
    tmp_path: Path,
    case: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for kind, fault, times in OBTAINED[case]:
        front.add(kind, fault, times)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) in ("fresh", "waiting", "failed"))
        assert server.state(NAME) == "fresh", server.reports
    assert len(front.of("newOrder")) == (2 if case in BAD_NONCES else 1)
    assert record(tmp_path).attempts == 0
    served = server.served[NAME]
    assert loadable.fault(CertificateAndKey(served.chain_pem, served.key_pem)) is None
    kept = CertificateRepository(DirectoryStore(tmp_path)).load_pair(NAME)
    assert kept == CertificateAndKey(served.chain_pem, served.key_pem)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


# The request was refused, and is made again.
BAD_NONCES = {
    name
    for name, case in OBTAINED.items()
    if any(kind == "newOrder" and isinstance(fault, Say) for kind, fault, _times in case)
}


def failed_once(body: bytes) -> bytes:
    """An authorization that is still pending after a look that failed (RFC 8555 §8.2)."""
    document = json.loads(body)
    for one in [one for one in document["challenges"] if one["type"] == "http-01"]:
        one["error"] = {"type": ACME + "dns", "detail": "no such host"}
        one["status"] = "processing"
    return json.dumps({**document, "status": "pending"}).encode()


# What is refused, why, and what is said.
REFUSED: dict[str, tuple[Case, str, str]] = {
    "smallstep's words": (
        (("newOrder", Say(b'{"status": 401, "message": "not allowed"}', 401), 1),),
        "refused",
        "the CA says: not allowed",
    ),
    "Vault's words": (
        (("newOrder", Say(b'{"errors": ["role requires keys of type ec"]}', 400), 1),),
        "refused",
        "the CA says: role requires keys of type ec",
    ),
    "Google's words": (
        (("newOrder", Say(b'{"error": {"code": 403, "message": "forbidden"}}', 403), 1),),
        "refused",
        "the CA says: forbidden",
    ),
    "a web page": (
        (("newOrder", Say(b"<html>Forbidden</html>", 403), 1),),
        "refused",
        "the CA says: HTTP status 403",
    ),
    "nothing at all": ((("newOrder", Say(b"", 400), 1),), "refused", "HTTP status 400"),
    "a number": ((("newOrder", Say(b"7", 400), 1),), "refused", "HTTP status 400"),
    "null": ((("newOrder", Say(b"null", 500), 9),), "unavailable", "HTTP status 500"),
    "a problem that comes as a success": (
        (
            (
                "newOrder",
                Say(problem("caa", detail="no"), 200, {"Content-Type": "application/problem+json"}),
                1,
            ),
        ),
        "refused",
        "the CA says: no (caa)",
    ),
    "sent elsewhere": (
        (("newOrder", Say(b"", 301, {"Location": "https://new.example/order"}), 1),),
        "nonsense",
        "sends elsewhere: https://new.example/order",
    ),
    "an order without a URL": (
        (("newOrder", Json(headers={"Location": None}), 1),),
        "nonsense",
        "the CA's order has no URL",
    ),
    "a URL that is none": (
        (("newOrder", Json({"authorizations": ["ftp://ca.example/a"]}), 1),),
        "nonsense",
        "'ftp://ca.example/a' is no URL",
    ),
    "an order that never had a finalize": (
        (("newOrder", Json(without=("finalize",)), 1), ("order", Json(without=("finalize",)), 99)),
        "nonsense",
        "it is ready and has no finalize",
    ),
    # The last reason that it gave, wherever that was
    "the reason of a failed finalize": (
        (
            ("finalize", Refuse(503, "serverInternal", detail="the HSM is on fire"), 1),
            ("order", Pass(), 1),
            ("order", Json({"status": "invalid"}, without=("error",)), 9),
        ),
        "refused",
        "the CA gave the order up: the HSM is on fire (serverInternal)",
    ),
    "the reason that a challenge had": (
        (
            ("authorization", Pass(), 1),
            ("authorization", Edit(failed_once), 1),
            ("authorization", Json({"status": "invalid", "challenges": None}), 9),
        ),
        "validation",
        f"{NAME}: http-01: no such host (dns)",
    ),
    "a private key in the chain": (
        (("certificate", Edit(lambda body: body + keys.to_pem(keys.generate(keys.DEFAULT))), 1),),
        "unproven",
        "something else than certificates",
    ),
    "a chain in DER": (
        (("certificate", Edit(lambda _: b"\x30\x82\x01\x0a" + bytes(266)), 1),),
        "unproven",
        "binary (DER) and not PEM",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_reason_is_told_and_the_old_certificate_stays(
    front: Faults,
    server: FakeServer,
    tmp_path: Path,
    case: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults, outcome, words = REFUSED[case]
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        good = server.served[NAME]
        for kind, fault, times in faults:
            front.add(kind, fault, times)
        answer = server.ask("renew", NAME)
        assert not answer["ok"]
        assert words in answer["error"]
        assert server.served[NAME] == good
    last = record(tmp_path).history[-1]
    assert last.outcome == outcome
    assert words in last.text
    kept = CertificateRepository(DirectoryStore(tmp_path)).load_pair(NAME)
    assert kept == CertificateAndKey(good.chain_pem, good.key_pem)
    assert not [one for one in caplog.records if one.exc_info]


RATE_LIMITED: dict[str, bytes] = {
    "subproblems null": problem("rateLimited", subproblems=None),
    "subproblems of texts": problem("rateLimited", subproblems=["x"]),
    "a status that is a text": problem("rateLimited", status="429"),
    "another type": problem("malformed"),
    "no JSON": b"<html>slow down</html>",
    "nothing": b"",
    "a list": b"[]",
}


@pytest.mark.parametrize("case", RATE_LIMITED)
@pytest.mark.parametrize("kind", ["newOrder", "newAccount"])
def test_a_ca_says_when_to_come_back(
    front: Faults, server: FakeServer, tmp_path: Path, kind: str, case: str
) -> None:
    front.add(kind, Say(RATE_LIMITED[case], 429, {"Retry-After": "3600"}))
    before = time.time()
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: record_or_none(tmp_path) is not None)
        server.until(lambda: record(tmp_path).history)
    kept = record(tmp_path)
    assert kept.history[-1].outcome == "rate_limited"
    assert kept.next_attempt is not None
    assert kept.next_attempt >= before + 3600


def record_or_none(state: Path) -> Record | None:
    try:
        return record(state)
    except OSError:
        return None


def close_account(front: Faults, state: Path) -> tuple[Path, str, bytes]:
    """Deactivate the account (RFC 8555 §7.3.6); its folder, URL and key."""
    (folder,) = (state / "accounts").iterdir()
    url, key = json.loads((folder / ACCOUNT).read_bytes())["uri"], (folder / KEY).read_bytes()
    with Transport("test", trust(front.ca_pem), time.time) as transport:
        transport.directory(front.directory)
        transport.sign_with(keys.from_pem(key), url)
        transport.send(url, library.UpdateRegistration(status="deactivated"))
    return folder, url, key


def test_a_closed_account_is_followed_by_another(
    front: Faults, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        folder, old, key = close_account(front, tmp_path)
        answer = server.ask("renew", NAME)
        assert answer["ok"], answer
        assert json.loads((folder / ACCOUNT).read_bytes())["uri"] != old
        assert (folder / CLOSED_KEY).read_bytes() == key
        assert "has closed our account" in server.reports[NAME]["history"][-1]["error"]
        assert server.ask("renew", NAME)["ok"]
        assert server.reports[NAME]["history"][-1]["error"] is None
    told = [one for one in caplog.messages if "has closed our account" in one]
    assert len(told) == 1


def test_two_orders_that_meet_a_closed_account_make_one_new_one(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    by = Authority(front.directory, ca_pem=front.ca_pem)
    names = (NAME, "b.example")
    with Certifier(settings(tmp_path, by, *((name,) for name in names)), server):
        server.until(lambda: all(server.state(name) == "fresh" for name in names))
        close_account(front, tmp_path)
        front.seen.clear()
        tickets = [server.tell("renew", name) for name in names]
        server.until(lambda: all(ticket in server.answers for ticket in tickets))
        assert all(server.answers[ticket]["ok"] for ticket in tickets), server.answers
    made = [one for one in front.of("newAccount") if "onlyReturnExisting" not in one.payload]
    assert len(made) == 1


def test_whoever_hears_late_of_a_closed_account_finds_the_next_one(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """Between the look at the account's URL and the question to the CA another attempt may put the
    next account there; its key must not be asked in place of the closed one's."""
    by = Authority(front.directory, ca_pem=front.ca_pem)
    with Certifier(settings(tmp_path, by, (NAME,)), server):
        server.until(lambda: server.state(NAME) == "fresh")
    _folder, url, _key = close_account(front, tmp_path)
    store = DirectoryStore(tmp_path)
    accounts = Accounts(store, Ledger(store, time.time))
    fates = []

    def lose(_number: int) -> None:
        with Transport("test", trust(front.ca_pem), time.time) as transport:
            fates.append(accounts.refused(by, url, gone=False, transport=transport))
            accounts.use(by, transport.directory(front.directory), transport)

    run_together(6, lose)
    assert sorted(fates, key=lambda fate: fate.value) == [*[Fate.REPLACED] * 5, Fate.CLOSED]


def test_a_refusal_that_is_not_about_the_account_leaves_it_alone(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
        (folder,) = (tmp_path / "accounts").iterdir()
        before = {one.name: one.read_bytes() for one in folder.iterdir()}
        # Where the CA has renewal information, the order is tried once more without it.
        for _ in range(2):
            front.add("newOrder", Refuse(403, "unauthorized", detail="not this name"))
        assert "not this name" in server.ask("renew", NAME)["error"]
        assert {one.name: one.read_bytes() for one in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("typ", "detail"),
    [
        ("malformed", "contact is required"),
        ("invalidContact", "no contact given"),
        ("userActionRequired", "an e-mail address must be provided"),
    ],
)
def test_a_ca_that_misses_a_contact(
    front: Faults, server: FakeServer, tmp_path: Path, typ: str, detail: str
) -> None:
    front.add("newAccount", Refuse(400, typ, detail=detail), ALWAYS)
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: record_or_none(tmp_path) is not None)
        server.until(lambda: record(tmp_path).history)
    assert "acme.email has none" in record(tmp_path).history[-1].text


def test_garbage_in_renewal_information_is_named(
    front: Faults, server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    front.window = (time.time() + 86400, time.time() + 2 * 86400)
    front.add("renewalInfo", Say(b"<html>maintenance</html>"), ALWAYS)
    try:
        with Certifier(wanted(front, tmp_path), server):
            server.until(lambda: any("no word on when to renew" in one for one in caplog.messages))
    finally:
        front.window = None
    (line,) = {one for one in caplog.messages if "no word on when to renew" in one}
    assert "the CA's renewal information is not JSON" in line


def test_a_chain_on_disk_that_an_earlier_version_kept_as_it_came(
    front: Faults, server: FakeServer, tmp_path: Path
) -> None:
    """Served again after a start, though it has no last line end."""
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: server.state(NAME) == "fresh")
    good = server.served[NAME]
    file = tmp_path / "certificates" / NAME / "fullchain.pem"
    file.write_bytes(good.chain_pem.rstrip())
    server.forget()
    with Certifier(wanted(front, tmp_path), server):
        server.until(lambda: NAME in server.served)
        served = server.served[NAME]
    assert (served.chain_pem, served.serial) == (good.chain_pem, good.serial)
    assert read(CertificateAndKey(served.chain_pem, served.key_pem))[1].serial == good.serial

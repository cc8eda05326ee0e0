"""Who may ask the admin listener: every header that a browser, or somebody else, may send."""

from __future__ import annotations

import pytest

from proxy.config.model import Admin
from proxy.config.syntax.addresses import parse_listen
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Request
from proxy.worker.admin.access import Access, Refused

LISTEN = parse_listen("127.0.0.1:2020")
OWN = b"127.0.0.1:2020"
JSON = (b"content-type", b"application/json")
ORIGIN = (b"origin", b"http://127.0.0.1:2020")


def asked(
    *fields: tuple[bytes, bytes],
    host: bytes = OWN,
    method: bytes = b"GET",
    path: bytes = b"/status",
    connection: Connection | None = None,
) -> Exchange:
    connection = connection or Connection("127.0.0.1", 40000, "127.0.0.1", 2020)
    plain = host.rpartition(b":")[0].strip(b"[]") if b":" in host else host
    request = Request(method, path, b"1.1", host, plain, [(b"host", host), *fields], connection)
    return Exchange(connection, request)


def refused(access: Access, exchange: Exchange, *, action: bool = False) -> str | None:
    fault = refused_with(access, exchange, action=action)
    return None if fault is None else fault.kind


def refused_with(access: Access, exchange: Exchange, *, action: bool = False) -> Fault | None:
    assert exchange.request is not None
    try:
        access.check(exchange, exchange.request)
        if action:
            access.check_action(exchange.request)
    except Fault as fault:
        return fault
    return None


def access(**given: object) -> Access:
    return Access(Admin(listen=LISTEN, **given), b"secret")  # type: ignore[arg-type] # keys of the section


@pytest.mark.parametrize("host", [b"127.0.0.1:2020", b"localhost:2020", b"[::1]:2020", b"10.0.0.5"])
def test_by_address(host: bytes) -> None:
    assert refused(access(), asked(host=host)) is None


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:2020", b"localhost.evil.example", b"127.0.0.1.nip.io"]
)
def test_another_name_that_leads_here(host: bytes) -> None:
    assert refused(access(), asked(host=host)) == "misdirected"


@pytest.mark.parametrize(
    ("fields", "path", "kind"),
    [
        ([], b"/status", None),
        ([(b"sec-fetch-site", b"none")], b"/", None),
        ([(b"sec-fetch-site", b"same-origin")], b"/events", None),
        ([ORIGIN], b"/status", None),
        ([(b"origin", b"http://LOCALHOST:2020")], b"/status", "forbidden"),  # another origin
        ([(b"sec-fetch-site", b"cross-site")], b"/status", "forbidden"),
        ([(b"sec-fetch-site", b"same-site")], b"/events", "forbidden"),
        ([(b"sec-fetch-site", b"cross-site")], b"/", "forbidden"),  # a picture, a script
        ([(b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")], b"/", "forbidden"),
        ([(b"sec-fetch-site", b"nonsense")], b"/status", "forbidden"),
        ([(b"origin", b"null")], b"/status", "forbidden"),
        ([(b"origin", b"https://127.0.0.1:2020")], b"/status", "forbidden"),  # another scheme
        ([(b"origin", b"http://127.0.0.1:2021")], b"/status", "forbidden"),
        ([ORIGIN, (b"origin", b"http://evil.example")], b"/status", "forbidden"),
    ],
)
def test_pages_of_other_sites(
    fields: list[tuple[bytes, bytes]], path: bytes, kind: str | None
) -> None:
    assert refused(access(), asked(*fields, path=path)) == kind


def test_a_link_that_somebody_follows() -> None:
    followed = [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"navigate"),
        (b"sec-fetch-dest", b"document"),
    ]
    assert refused(access(), asked(*followed, path=b"/")) is None
    assert refused(access(), asked(*followed, path=b"/status")) == "forbidden"
    assert refused(access(), asked(*followed, path=b"/", method=b"POST")) == "forbidden"
    framed = [*followed[:2], (b"sec-fetch-dest", b"iframe")]
    assert refused(access(), asked(*framed, path=b"/")) == "forbidden"


def action(*fields: tuple[bytes, bytes]) -> Exchange:
    return asked(*fields, method=b"POST", path=b"/act")


def test_an_action_needs_the_page() -> None:
    able = access(actions=True)
    token = (b"x-treehouse-token", (able.token or "").encode())
    assert refused(able, action(token, JSON, ORIGIN), action=True) is None
    for fields in (
        [JSON, ORIGIN],
        [token, ORIGIN],
        [token, JSON],
        [token, token, JSON, ORIGIN],
        [(b"x-treehouse-token", b"0" * 64), JSON, ORIGIN],
        [(b"x-treehouse-token", b""), JSON, ORIGIN],
        [token, (b"content-type", b"text/plain"), ORIGIN],
        [token, (b"content-type", b"application/x-www-form-urlencoded"), ORIGIN],
        [token, JSON, (b"origin", b"http://evil.example")],
        [token, JSON, (b"sec-fetch-site", b"same-site")],
    ):
        assert refused(able, action(*fields), action=True) == "forbidden", fields


def test_no_action_where_the_configuration_says_nothing() -> None:
    reader = access()
    assert reader.token is None
    for token in (b"", b"None", b"0" * 64):
        fields = [(b"x-treehouse-token", token), JSON, ORIGIN]
        assert refused(reader, action(*fields), action=True) == "forbidden"


@pytest.mark.parametrize(
    ("given", "fields", "told"),
    [
        ({}, [], "set admin.actions to true and reload"),
        ({"actions": True}, [JSON, ORIGIN], "X-Treehouse-Token is missing"),
        ({"actions": True}, [JSON, ORIGIN], 'from the first event of /events ("token")'),
        ({"actions": True}, [(b"x-treehouse-token", b"0"), JSON], "is not this server's: load the"),
        ({"actions": True}, [(b"origin", b"http://evil.example")], "by its own address"),
        ({"actions": True}, ["token", ORIGIN], "with Content-Type: application/json"),
        ({"actions": True}, ["token", JSON], "with Origin: http://127.0.0.1:2020"),
    ],
)
def test_who_is_refused_reads_what_is_missing_and_how_to_get_it(
    given: dict[str, object], fields: list[object], told: str
) -> None:
    able = access(**given)
    token = (b"x-treehouse-token", (able.token or "").encode())
    exchange = action(*(token if one == "token" else one for one in fields))  # type: ignore[misc, arg-type] # pairs
    refusal = refused_with(able, exchange, action=True)
    assert isinstance(refusal, Refused)
    assert told in refusal.told
    assert (able.token or "none") not in refusal.told


def test_the_token_is_of_this_server() -> None:
    one = Access(Admin(listen=LISTEN, actions=True), b"one")
    assert one.token == Access(Admin(listen=LISTEN, actions=True), b"one").token
    assert one.token != Access(Admin(listen=LISTEN, actions=True), b"two").token


def test_by_its_own_names_the_handshake_counts() -> None:
    named = access(names=("admin.test",))
    connection = Connection("10.0.0.9", 1, "10.0.0.5", 2020, scheme=b"https")
    connection.server_name = "admin.test"
    assert refused(named, asked(host=b"admin.test", connection=connection)) is None
    assert refused(named, asked(host=b"10.0.0.5", connection=connection)) == "misdirected"
    connection.server_name = "site.test"  # whose rules on certificates are others
    assert refused(named, asked(host=b"admin.test", connection=connection)) == "misdirected"
    connection.server_name = None
    assert refused(named, asked(host=b"admin.test", connection=connection)) == "misdirected"

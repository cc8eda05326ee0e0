"""Access lines: complete, one a request, and nothing in them that a terminal or a parser obeys."""

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import model
from proxy.config.schema.document import FACTS, SiteLog
from proxy.log import LogFile
from proxy.protocol.exchange import Exchange, PartialHead
from proxy.protocol.message import Connection, HostMatch, Request, Response
from proxy.sites.site import SiteTable
from proxy.worker.access_lines import (
    combined_line,
    common_log,
    json_line,
    rfc3339,
    text_line,
    vhost_combined_line,
)
from proxy.worker.access_log import AccessLog
from proxy.worker.chosen_facts import line_of

MOMENT = "2026-11-24T20:00:00.123Z"
ANY = st.binary(max_size=40)


def request(host: bytes = b"a.test", target: bytes = b"/x?y=1", method: bytes = b"GET") -> Request:
    connection = Connection("192.0.2.7", 4711, "192.0.2.1", 443)
    made = Request(method, target, b"1.1", host, host, [], connection)
    made.id = b"abc-1"
    return made


def answered(status: int = 200, error: str | None = None) -> Response:
    response = Response(status, [], b"", handler="upstream", error=error)
    response.backend = "http://127.0.0.1:3000"
    return response


def exchange(asked: Request, response: Response, sent: int = 0) -> Exchange:
    made = Exchange(asked.connection, asked)
    made.response, made.sent = response, sent
    return made


def test_all_that_an_operator_asks_for() -> None:
    asked = request()
    asked.connection.tls_version = "TLSv1.3"
    asked.fields += [(b"user-agent", b"Mozilla/5.0 (X)"), (b"referer", b"https://b.test/")]
    line = json.loads(json_line(MOMENT, exchange(asked, answered(), 1234)))
    assert line.pop("duration_ms") >= 0
    assert line == {
        "time": MOMENT,
        "log": "access",
        "peer": "192.0.2.7",
        "host": "a.test",
        "method": "GET",
        "target": "/x?y=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "handler": "upstream",
        "backend": "http://127.0.0.1:3000",
        "request_id": "abc-1",
        "tls": "TLSv1.3",
        "referrer": "https://b.test/",
        "user_agent": "Mozilla/5.0 (X)",
        "error": None,
    }


def test_what_never_became_a_request_has_a_line_as_well() -> None:
    connection = Connection("192.0.2.7", 4711, "192.0.2.1", 443)
    refused = Exchange(connection)
    refused.response = Response(400, [], b"", handler="error", error="malformed_request")
    line = json.loads(json_line(MOMENT, refused))
    assert (line["host"], line["method"], line["error"]) == (None, None, "malformed_request")
    text = text_line(MOMENT, refused)
    assert text.startswith(f'{MOMENT} access 192.0.2.7 - "-" 400 0 ')
    assert vhost_combined_line(MOMENT, refused).startswith("-:443 192.0.2.7 ")
    refused.partial = PartialHead(b"GET", b"/a b", b"a.test\n x")
    assert json.loads(json_line(MOMENT, refused))["host"] == "a.test\n x"
    assert vhost_combined_line(MOMENT, refused).startswith("a.test\\n\\u0020x:443 192.0.2.7 ")


@given(host=ANY, target=ANY, method=ANY, ident=ANY)
@pytest.mark.parametrize("line_of", [json_line, text_line, combined_line, vhost_combined_line])
def test_no_bytes_of_a_client_leave_their_place(
    line_of, host: bytes, target: bytes, method: bytes, ident: bytes
) -> None:
    """One line, printable ASCII, whatever comes: no CR, LF, ESC, 0x9b or quote that ends a field."""
    asked = request(host, target, method)
    asked.id = ident
    asked.fields += [(b"user-agent", target), (b"referer", host)]
    line = line_of(MOMENT, exchange(asked, answered()), "")
    assert line.endswith("\n")
    assert all(" " <= one <= "~" for one in line[:-1])
    if line_of is json_line:
        found = json.loads(line)
        assert found["target"].encode("latin-1") == target
        assert found["host"].encode("latin-1") == host
        assert found["status"] == 200


# What GoAccess, AWStats and fail2ban split a line by (Apache's documentation of mod_log_config).
COMBINED = re.compile(
    r'(?P<host>\S+) - - \[(?P<time>[^]]+)\] "(?P<asked>(?:[^"\\]|\\.)*)" (?P<status>\d{3})'
    r' (?P<bytes>\d+) "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"\n'
)


def test_the_combined_form_is_apaches() -> None:
    asked = request(target=b'/a"b\\c\xff?q=1')
    asked.fields += [(b"user-agent", b'Mozilla "5"'), (b"referer", b"https://b.test/\t")]
    line = combined_line("28/Nov/2026:20:00:00 +0000", exchange(asked, answered(404), 17))
    assert line == (
        '192.0.2.7 - - [28/Nov/2026:20:00:00 +0000] "GET /a\\"b\\\\c\\xff?q=1 HTTP/1.1" 404 17'
        ' "https://b.test/\\x09" "Mozilla \\"5\\""\n'
    )
    assert vhost_combined_line("-", exchange(asked, answered())).startswith("a.test:443 192.0.2.7")


@given(target=ANY, agent=ANY)
def test_a_combined_line_is_split_as_it_was_put_together(target: bytes, agent: bytes) -> None:
    asked = request(target=target)
    asked.fields.append((b"user-agent", agent))
    found = COMBINED.fullmatch(combined_line("t", exchange(asked, answered(), 5)))
    assert found is not None
    assert (found["host"], found["status"], found["bytes"]) == ("192.0.2.7", "200", "5")


def test_moments_of_both_forms() -> None:
    second = 1795896000  # 2026-11-28T20:00:00Z
    assert rfc3339(second, 7) == "2026-11-28T20:00:00.007Z"
    assert common_log(second, 7) == "28/Nov/2026:20:00:00 +0000"


def test_lines_for_the_journal_have_their_priority(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with path.open("wb", buffering=0) as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        log = AccessLog(LogFile(file.fileno()), "text", loop)
        for _ in range(2):
            log.add(exchange(request(), answered(), 1))
        log.flush()
    assert all(line.startswith(b"<6>20") for line in path.read_bytes().splitlines())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.mark.parametrize("style", ["json", "text", "combined", "vhost_combined"])
def test_lines_are_written_together_at_the_end_of_a_turn(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, style: str
) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = AccessLog(LogFile(fd), style, loop)
    asked = request()

    async def three() -> None:
        for _ in range(3):
            log.add(exchange(asked, answered(), 1))
        assert path.read_bytes() == b""
        await asyncio.sleep(0)

    loop.run_until_complete(three())
    assert len(path.read_bytes().splitlines()) == 3
    os.close(fd)


def test_lost_lines_are_told_seldom_and_counted(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        log = AccessLog(LogFile(full.fileno()), "json", loop)
        asked = request()
        for moment in (100.0, 100.25, 109.9, 110.0):
            log.add(exchange(asked, answered(), 1))
            log.flush()
            log.tell_losses(moment)
    assert [one.getMessage() for one in caplog.records] == [
        "1 lines of the access log are lost: No space left on device",
        "3 lines of the access log are lost: No space left on device",
    ]


def test_a_burst_is_written_before_it_grows_large(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = AccessLog(LogFile(fd), "json", loop)
    asked = request()
    for _ in range(1000):
        log.add(exchange(asked, answered(), 1))
    assert path.stat().st_size > 0
    os.close(fd)


ALL_FACTS = (*FACTS, "request:x-tenant", "response:x-cache")


def asked_by_alice() -> Exchange:
    asked = request(target=b"/x?secret=1")
    asked.fields += [(b"user-agent", b'Mozilla "5" \\'), (b"x-tenant", b'a\x1b[2J"\n b')]
    response = answered()
    response.fields = [(b"x-cache", b"HIT"), (b"x-cache", b"MISS")]
    made = exchange(asked, response, 12)
    made.user = "alice b\u00e9"
    made.match = HostMatch("a.test", b"www.a.test")
    return made


def test_a_site_chooses_what_its_lines_tell() -> None:
    facts = ("status", "path", "user", "request:x-tenant", "response:x-cache", "request:x-none")
    line = line_of("json", facts)(MOMENT, asked_by_alice(), "own")
    assert json.loads(line) == {
        "time": MOMENT, "log": "access", "status": 200, "path": "/x", "user": "alice b\u00e9",
        "request:x-tenant": 'a\x1b[2J"\n b', "response:x-cache": "HIT, MISS",
        "request:x-none": None,
    }  # fmt: skip
    text = line_of("text", ("status", "path", "user", "backend"))(MOMENT, asked_by_alice(), "own")
    assert text == (
        f'{MOMENT} access status=200 path=/x user="alice b\\u00e9" backend=http://127.0.0.1:3000\n'
    )


def test_what_a_site_leaves_out_is_a_hyphen_in_forms_with_places() -> None:
    line = line_of("combined", ("status", "method", "path", "user"))
    assert (
        line("T", asked_by_alice(), "")
        == '- - alice\\x20b\\xc3\\xa9 [T] "GET /x -" 200 - "-" "-"\n'
    )
    wide = line_of("vhost_combined", FACTS)("T", asked_by_alice(), "")
    assert wide == "a.test:443 " + combined_line("T", asked_by_alice())


@pytest.mark.parametrize("style", ["json", "text", "combined", "vhost_combined"])
@given(target=ANY, value=ANY, user=st.text(max_size=20), host=ANY)
def test_no_chosen_fact_splits_a_line(
    style: str, target: bytes, value: bytes, user: str, host: bytes
) -> None:
    made = asked_by_alice()
    assert made.request is not None
    made.request.target = made.request.path = target
    made.request.host, made.user = host, user.encode("utf-8", "replace").decode()
    made.request.fields = [(b"x-tenant", value), (b"user-agent", value), (b"referer", value)]
    line = line_of(style, ALL_FACTS)(MOMENT, made, "own")
    assert re.fullmatch(r"[ -~]+\n", line)


def test_a_site_may_have_no_lines(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sites = {"a.test": SiteLog(lines=False), "b.test": SiteLog(fields=("status",))}
    log = AccessLog(LogFile(fd), "json", loop, sites)
    for name in ("a.test", "b.test", "c.test"):
        made = asked_by_alice()
        made.match = HostMatch(name, b"")
        log.add(made)
    log.flush()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first.keys() == {"time", "log", "status"}
    assert second["target"] == "/x?secret=1"
    os.close(fd)


def refused(host: bytes | None, server_name: str | None) -> Exchange:
    """What never became a request, on a connection with this SNI."""
    connection = Connection("192.0.2.7", 4711, "192.0.2.1", 443, server_name=server_name)
    made = Exchange(connection)
    made.response = answered(400, "malformed_request")
    made.partial = None if host is None else PartialHead(b"GET", b"/x?secret=1", host)
    return made


SITES_WITH_DEFAULT = SiteTable(
    model.Site((name,), (), default=name == "default.test")
    for name in ("off.test", "few.test", "all.test", "default.test")
)


@pytest.mark.parametrize(
    ("host", "server_name", "whose"),
    [
        (b"off.test", "all.test", "off.test"),
        (b"OFF.test.:8443", None, "off.test"),
        (b"off.test/", "few.test", "few.test"),  # cannot be read
        (b"strange.test", "few.test", "few.test"),
        (None, "off.test", "off.test"),
        (None, "off.test.", "off.test"),
        (b"strange.test", "other.test", "default.test"),
        (None, None, "default.test"),
    ],
)
def test_what_was_refused_before_it_was_understood_is_its_sites(
    tmp_path: Path,
    loop: asyncio.AbstractEventLoop,
    host: bytes | None,
    server_name: str | None,
    whose: str,
) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sites = {
        "off.test": SiteLog(lines=False),
        "few.test": SiteLog(fields=("status", "path", "site")),
        "default.test": SiteLog(fields=("status",)),
    }
    log = AccessLog(LogFile(fd), "json", loop, sites, SITES_WITH_DEFAULT.find)
    log.add(refused(host, server_name))
    log.flush()
    os.close(fd)
    told = [json.loads(line) for line in path.read_text().splitlines()]
    seen = {"time", "log", "status"}
    expected = {"off.test": [], "few.test": [seen | {"path", "site"}], "default.test": [seen]}
    assert [one.keys() for one in told] == expected[whose]
    if whose == "few.test":
        assert told[0]["site"] == "few.test"
        assert told[0]["path"] == ("/x" if host else None)


def test_without_a_site_the_servers_own_form_is_taken(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    path = tmp_path / "access.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    table = SiteTable([model.Site(("off.test",), ())])
    log = AccessLog(LogFile(fd), "json", loop, {"off.test": SiteLog(lines=False)}, table.find)
    for host, server_name in ((b"all.test", None), (None, None), (None, "all.test")):
        log.add(refused(host, server_name))
    log.flush()
    os.close(fd)
    assert [json.loads(one)["status"] for one in path.read_text().splitlines()] == [400] * 3


def test_the_host_of_a_refused_head_does_not_split_a_line_of_apaches() -> None:
    line = line_of("vhost_combined", ("host", "method", "path"))
    made = refused(b"a b.test", None)
    assert line("T", made, "") == 'a\\x20b.test:443 - - - [T] "GET /x -" - - "-" "-"\n'

"""Names and passwords: who gets in, who waits, and what the application learns."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass

import bcrypt
import pytest

from proxy.config.schema.rules import BasicAuth
from proxy.config.syntax.password_hashes import NotAHash, check_hash, check_user, read_users
from proxy.errors import Fault
from proxy.protocol.exchange import Exchange
from proxy.protocol.message import Connection, Fields, Login, Request
from proxy.sites import basic_auth
from proxy.sites.basic_auth import BasicAuthentication
from proxy.sites.passwords import fits, hashed

HASH = hashed("geheim")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> BasicAuthentication:
    return BasicAuthentication(BasicAuth(realm='the "inner" room'), {"alice": HASH}, clock)


def exchange(
    user: str = "alice", password: str = "geheim", peer: str = "192.0.2.9", **more: bytes
) -> Exchange:
    value = b"Basic " + base64.b64encode(f"{user}:{password}".encode())
    return asked(
        [(b"authorization", value)] + [(k.replace("_", "-").encode(), v) for k, v in more.items()],
        peer,
    )


def asked(fields: Fields, peer: str = "192.0.2.9") -> Exchange:
    connection = Connection(peer, 4711, "192.0.2.1", 443, b"https")
    return Exchange(connection, Request(b"GET", b"/", b"1.1", b"h", b"h", fields, connection))


async def outcome(guard: BasicAuthentication, one: Exchange) -> str:
    """ "in", or the kind of the fault."""
    try:
        waiting = guard.request(one)
        if waiting is not None:
            await waiting
    except Fault as fault:
        return fault.kind
    return "in"


async def test_the_right_password_gets_in_and_the_application_is_told_who(
    guard: BasicAuthentication,
) -> None:
    one = exchange(remote_user=b"root")
    assert await outcome(guard, one) == "in"
    assert one.user == "alice"
    assert one.request is not None
    assert one.request.login == Login(b"alice", [(b"remote-user", b"alice")], password=True)
    assert one.request.fields == one.request.uncached_fields == []


@pytest.mark.parametrize("name", [b"remote-user", b"remote_user"])
@pytest.mark.parametrize("known", [False, True], ids=["verified", "remembered"])
async def test_no_spelling_of_remote_user_comes_from_the_client(
    guard: BasicAuthentication, name: bytes, known: bool
) -> None:
    if known:
        assert await outcome(guard, exchange()) == "in"
    one = exchange()
    assert one.request is not None
    one.request.fields += [(name, b"root"), (name, b"root")]
    assert await outcome(guard, one) == "in"
    assert one.request.fields == one.request.uncached_fields == []


async def test_authorization_goes_on_if_that_is_wanted(clock: Clock) -> None:
    guard = BasicAuthentication(BasicAuth(forward=True), {"alice": HASH}, clock)
    one = exchange()
    assert await outcome(guard, one) == "in"
    assert one.request is not None
    assert one.request.field(b"authorization") is not None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"authorization", b"Bearer abc")],
        [(b"authorization", b"Basic ???")],
        [(b"authorization", b"Basic " + base64.b64encode(b"alice"))],
        [(b"authorization", b"Basic " + base64.b64encode(b"alice:geheim"))] * 2,
        [(b"authorization", b"Basic " + b"QUFB" * 500)],
    ],
    ids=["none", "bearer", "nonsense", "no colon", "twice", "long"],
)
async def test_what_is_no_name_and_password_is_asked_for_them(
    guard: BasicAuthentication, fields: Fields
) -> None:
    with pytest.raises(Fault) as raised:
        guard.request(asked(fields))
    assert raised.value.kind == "unauthorized"
    assert raised.value.fields == [
        (b"www-authenticate", b'Basic realm="the \\"inner\\" room", charset="UTF-8"')
    ]


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(
    guard: BasicAuthentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str | None] = []

    def counted(line: str | None, password: bytes) -> bool:
        work.append(line)
        return fits(line, password)

    monkeypatch.setattr(basic_auth.passwords, "fits", counted)
    assert await outcome(guard, exchange("bob")) == "unauthorized"
    assert await outcome(guard, exchange(password="wrong")) == "unauthorized"
    assert work == [None, HASH]


async def test_a_right_pair_is_remembered_for_a_minute_and_a_wrong_one_is_not(
    guard: BasicAuthentication, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await outcome(guard, exchange()) == "in"
    assert guard.request(exchange()) is None  # at once
    clock.now += 59
    assert guard.request(exchange()) is None
    clock.now += 2
    assert await outcome(guard, exchange()) == "in"
    assert await outcome(guard, exchange(password="geheiM")) == "unauthorized"


async def test_an_address_that_keeps_guessing_waits_and_others_do_not(
    guard: BasicAuthentication, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basic_auth.passwords, "fits", lambda line, password: password == b"geheim")
    found = [await outcome(guard, exchange(password=str(n))) for n in range(12)]
    assert found == ["unauthorized"] * 10 + ["rate_limited"] * 2
    assert await outcome(guard, exchange()) == "rate_limited"  # the right one as well
    assert await outcome(guard, exchange(peer="192.0.2.10")) == "in"
    clock.now += 7
    assert await outcome(guard, exchange(password="x")) == "unauthorized"
    assert await outcome(guard, exchange(password="y")) == "rate_limited"


@pytest.mark.parametrize("peers", [["192.0.2.9"], ["2001:db8::1", "2001:db8::ffff:2"]])
async def test_many_guesses_at_once_are_no_way_around(
    guard: BasicAuthentication, monkeypatch: pytest.MonkeyPatch, peers: list[str]
) -> None:
    """As many streams of one HTTP/2 connection send them, or many addresses of one subscriber."""
    asked_for: list[bytes] = []

    def counted(line: str | None, password: bytes) -> bool:
        asked_for.append(password)
        return False

    monkeypatch.setattr(basic_auth.passwords, "fits", counted)
    found = await asyncio.gather(
        *(outcome(guard, exchange(password=str(n), peer=peers[n % len(peers)])) for n in range(100))
    )
    assert sorted(found) == ["rate_limited"] * 90 + ["unauthorized"] * 10
    assert len(asked_for) == 10


async def test_a_guess_counts_for_a_client_that_leaves_before_the_answer(
    guard: BasicAuthentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basic_auth.passwords, "fits", lambda line, password: False)
    for n in range(10):
        task = asyncio.ensure_future(outcome(guard, exchange(password=str(n))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await outcome(guard, exchange()) == "rate_limited"


async def test_a_page_with_many_pictures_costs_one_verification(
    guard: BasicAuthentication, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[bytes] = []

    def counted(line: str | None, password: bytes) -> bool:
        work.append(password)
        return password == b"geheim"

    monkeypatch.setattr(basic_auth.passwords, "fits", counted)
    found = await asyncio.gather(*(outcome(guard, exchange()) for _ in range(50)))
    assert found == ["in"] * 50
    assert work == [b"geheim"]
    for n in range(30):  # right ones take nothing from the bucket
        assert await outcome(guard, exchange("alice", "geheim", peer="192.0.2.9")) == "in", n


@pytest.mark.parametrize(
    "line",
    [HASH, bcrypt.hashpw(b"geheim", bcrypt.gensalt(4)).decode(),
     bcrypt.hashpw(b"geheim", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")],
    ids=["argon2id", "bcrypt", "htpasswd's bcrypt"],
)  # fmt: skip
def test_kinds_of_hashes(line: str) -> None:
    assert check_hash(line) == line
    assert fits(line, b"geheim")
    assert not fits(line, b"Geheim")
    assert not fits(None, b"geheim")


def test_yescrypt_by_the_systems_own_library() -> None:
    import ctypes

    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    line = library.crypt(b"geheim", b"$y$j9T$abcdefghijklmnop").decode()
    assert line.startswith("$y$")
    assert fits(check_hash(line), b"geheim")
    assert not fits(line, b"x")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("geheim", "no hash"),
        ("$apr1$abc$def", "broken within minutes"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "broken within minutes"),
        ("$argon2id$v=19$m=1", "not whole"),
        ("$2b$10$short", "not whole"),
    ],
)
def test_what_is_no_hash_is_refused_with_the_way_out(line: str, said: str) -> None:
    with pytest.raises(NotAHash, match=said):
        check_hash(line)


def test_files_of_users() -> None:
    assert read_users(f"# staff\nalice:{HASH}\n\n") == {"alice": HASH}
    with pytest.raises(NotAHash, match="line 2: there is no colon"):
        read_users(f"alice:{HASH}\nbob\n")
    with pytest.raises(NotAHash, match="colon or a control"):
        check_user("a:b")

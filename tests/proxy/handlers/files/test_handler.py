"""Files from a real document root: what is sent, what never is, and what changes meanwhile."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Fault
from proxy.handlers.files.conditional import evaluate, http_date
from proxy.handlers.files.document_root import DocumentRoot, Found
from proxy.handlers.files.handler import FileHandler
from proxy.handlers.files.precompressed import acceptable
from proxy.handlers.files.ranges import Unsatisfiable, parse
from proxy.protocol.message import FileBody, Response
from support.http.of_files import body, field, request


@dataclass
class Hands:
    """A clock that a test sets."""

    now: float = 1000.0
    unix: float = 2e9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "www"
    (made / "sub").mkdir(parents=True)
    (made / "index.html").write_text("index")
    (made / "sub/index.html").write_text("sub index")
    (made / "a.txt").write_text("0123456789")
    (made / "big.bin").write_bytes(bytes(range(256)) * 1024)
    (made / ".secret").write_text("secret")
    (made / ".well-known").mkdir()
    (made / ".well-known/x").write_text("known")
    (made / "in.txt").symlink_to("a.txt")
    (made / "sub/up.txt").symlink_to("../a.txt")
    (made / "abs.txt").symlink_to(made / "a.txt")
    (made / "out.txt").symlink_to("/etc/passwd")
    (made / "up.txt").symlink_to("../outside.txt")
    (made / "sneaky.txt").symlink_to(".secret")
    (made / "web").symlink_to("https://example.org/there")
    (made / "split").symlink_to("https://example.org/\r\nx: y")
    (made / "dir").symlink_to("sub")
    (tmp_path / "outside.txt").write_text("outside")
    os.mkfifo(made / "fifo")
    return made


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def static(root: Path, clock: Hands) -> Iterator[FileHandler]:
    made = FileHandler(root, clock)  # type: ignore[arg-type] # a clock whose hands are set
    yield made
    made.close()


async def ask(
    static: FileHandler, target: bytes, method: bytes = b"GET", **fields: str
) -> Response:
    return static.handle(request(target, method, **fields))


SENT = {
    b"/": b"index", b"/index.html": b"index", b"/sub/": b"sub index", b"/dir/": b"sub index",
    b"/a.txt": b"0123456789", b"/a.txt?query": b"0123456789", b"/%61.txt": b"0123456789",
    b"//a.txt": b"0123456789", b"/in.txt": b"0123456789", b"/sub/up.txt": b"0123456789",
    b"/abs.txt": b"0123456789", b"/.well-known/x": b"known", b"/big.bin": bytes(range(256)) * 1024,
}  # fmt: skip


@pytest.mark.parametrize("target", SENT)
async def test_what_is_there_is_sent(static: FileHandler, target: bytes) -> None:
    for _ in range(2):  # from the disk, and from what is kept
        response = await ask(static, target)
        assert response.status == 200
        assert body(response) == SENT[target]


@pytest.mark.parametrize(
    "target",
    [b"/nothing", b"/.secret", b"/sneaky.txt", b"/out.txt", b"/up.txt", b"/fifo", b"/split",
     b"/a.txt/", b"/sub/.secret", b"/../outside.txt", b"/%2e%2e/outside.txt", b"/sub/../a.txt",
     b"/..%2foutside.txt", b"/..%5coutside.txt", b"/a.txt%00", b"/%c0%ae%c0%ae/outside.txt",
     b"/%zz", b"\\..\\outside.txt", b"/" + b"a" * 5000],
)  # fmt: skip
async def test_what_is_not_for_sending_is_a_fault_of_one_kind(
    static: FileHandler, target: bytes
) -> None:
    with pytest.raises(Fault) as caught:
        await ask(static, target)
    assert caught.value.what.status in (400, 404)


async def test_directories_and_links_to_the_web_redirect(static: FileHandler) -> None:
    response = await ask(static, b"/sub?a=b")
    assert (response.status, field(response, "location")) == (308, "/sub/?a=b")
    assert field(await ask(static, b"//sub"), "location") == "/sub/"
    response = await ask(static, b"/web")
    assert (response.status, field(response, "location")) == (302, "https://example.org/there")


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_private_key_is_never_sent(root: Path, static: FileHandler, size: str) -> None:
    padding = "x" * (300_000 if size == "large" else 10)
    for kind in ("", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "):
        path = root / f"{kind.strip() or 'plain'}.txt"
        path.write_text(f"{padding}\n-----BEGIN {kind}PRIVATE KEY-----\nMIIE\n")
        with pytest.raises(Fault, match=r"unreadable: .* holds a private key") as caught:
            await ask(static, f"/{path.name}".encode())
        assert caught.value.what.status == 404


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"..", b".", b"%2e", b"%2E%2e", b"/", b"//", b"%2f", b"\\", b"%5c", b"%00", b"a.txt",
             b"sub", b"out.txt", b"up.txt", b"..%c0%af", b";", b"%25", b"%", b".secret", b"dir"]
        ),
        max_size=8,
    )
)  # fmt: skip
def test_no_path_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    base = tmp_path_factory.getbasetemp() / "hypothesis-root"
    if not base.exists():
        (base / "www/sub").mkdir(parents=True)
        (base / "outside.txt").write_text("outside")
        (base / "www/a.txt").write_text("inside")
        (base / "www/out.txt").symlink_to("/etc/passwd")
        (base / "www/up.txt").symlink_to("../outside.txt")
        (base / "www/dir").symlink_to("..")
        (base / "www/.secret").write_text("outside")
    found = DocumentRoot(base / "www").find(b"/".join(parts).lstrip(b"/"))
    if isinstance(found, Found):
        assert os.pread(found.fd, 100, 0) == b"inside"
        os.close(found.fd)


async def test_a_change_is_seen_within_a_second(
    root: Path, static: FileHandler, clock: Hands
) -> None:
    first = await ask(static, b"/a.txt")
    (root / "new").write_text("changed")
    (root / "new").rename(root / "a.txt")
    assert body(await ask(static, b"/a.txt")) == b"0123456789", "trusted for a second"
    clock.now += 1.1
    second = await ask(static, b"/a.txt")
    assert body(second) == b"changed"
    assert field(first, "etag") != field(second, "etag")
    (root / "a.txt").unlink()
    clock.now += 1.1
    with pytest.raises(Fault, match="not_found"):
        await ask(static, b"/a.txt")


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Meanwhile no file can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors_what_is_at_hand_is_sent(
    static: FileHandler, clock: Hands
) -> None:
    await ask(static, b"/a.txt")
    clock.now += 60
    with no_descriptors():
        kept = await ask(static, b"/a.txt")
        with pytest.raises(Fault) as caught:
            await ask(static, b"/index.html")
    assert body(kept) == b"0123456789"
    assert caught.value.kind == "no_capacity"
    assert dict(caught.value.fields)[b"retry-after"]


async def test_a_file_being_sent_stays_open_until_it_is(
    root: Path, static: FileHandler, clock: Hands
) -> None:
    sending = await ask(static, b"/big.bin")
    (root / "big.bin").unlink()
    clock.now += 1.1
    with pytest.raises(Fault):
        await ask(static, b"/big.bin")
    assert body(sending) == bytes(range(256)) * 1024


async def test_a_neighbour_is_sent_to_those_who_take_it(root: Path, static: FileHandler) -> None:
    (root / "a.txt.gz").write_bytes(b"gz")
    (root / "a.txt.br").write_bytes(b"br")
    plain = await ask(static, b"/a.txt")
    packed = await ask(static, b"/a.txt", accept_encoding="gzip, br")
    assert (body(packed), field(packed, "content-encoding")) == (b"br", "br")
    assert field(packed, "content-type") == "text/plain; charset=utf-8"
    assert field(plain, "vary") == field(packed, "vary") == "accept-encoding"
    assert field(plain, "etag") != field(packed, "etag")
    assert body(await ask(static, b"/a.txt", accept_encoding="gzip;q=1, br;q=0.5")) == b"gz"
    assert body(await ask(static, b"/a.txt", accept_encoding="br;q=0, gzip;q=0")) == b"0123456789"
    os.utime(root / "a.txt.br", (1, 1))
    assert body(await ask(static, b"/a.txt", accept_encoding="br, identity;q=0.1")) == b"0123456789"


async def test_spellings_of_one_wish_share_what_is_kept(static: FileHandler) -> None:
    shared = await ask(static, b"/a.txt", accept_encoding="gzip, br")
    for spelt in ("br,gzip", "GZIP , br;q=1.0", "br, gzip, " + "x" * 4000):
        assert await ask(static, b"/a.txt", accept_encoding=spelt) is shared
    assert await ask(static, b"/a.txt", accept_encoding="gzip, br;q=0.5") is not shared


async def test_methods(static: FileHandler) -> None:
    head = await ask(static, b"/a.txt", b"HEAD")
    assert field(head, "content-length") == "10"
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS"):
        with pytest.raises(Fault, match="method_not_allowed") as caught:
            await ask(static, b"/a.txt", method)
        assert caught.value.fields == [(b"allow", b"GET, HEAD")]


RANGES = [
    ("bytes=0-4", [(0, 5)]), ("bytes=5-", [(5, 5)]), ("bytes=-3", [(7, 3)]), ("bytes=-99", [(0, 10)]),
    ("bytes=0-99", [(0, 10)]), ("bytes=0-0,9-9", [(0, 1), (9, 1)]), ("BYTES = 1-1", [(1, 1)]),
    ("bytes=1-1, ,2-2", [(1, 1), (2, 1)]), ("bytes=5-1", None), ("bytes=a-b", None), ("lines=1-2", None),
    ("bytes=", None), ("bytes", None), ("bytes=1-2-3", None), ("bytes=+1-2", None), ("bytes=0-9,0-9", None),
    ("bytes=0-5,3-8", None), ("bytes=" + ",".join(["0-0"] * 1000), None), ("bytes=99999999999999999999-", None),
    ("bytes=10-", "416"), ("bytes=-0", "416"), ("bytes=10-20,30-40", "416"), ("bytes=10-,0-0", [(0, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("spelt", "wanted"), RANGES)
def test_ranges(spelt: str, wanted: object) -> None:
    if wanted == "416":
        with pytest.raises(Unsatisfiable):
            parse(spelt.encode(), 10)
    else:
        assert parse(spelt.encode(), 10) == wanted


@given(st.binary(max_size=60), st.integers(0, 100))
def test_ranges_lie_within_and_give_no_more_than_there_is(spelt: bytes, size: int) -> None:
    try:
        found = parse(b"bytes=" + spelt, size)
    except Unsatisfiable:
        return
    assert sum(count for _, count in found or []) <= size
    assert all(first >= 0 and count > 0 and first + count <= size for first, count in found or [])


async def test_partial_answers(static: FileHandler) -> None:
    one = await ask(static, b"/a.txt", range="bytes=2-4")
    assert (one.status, body(one)) == (206, b"234")
    assert field(one, "content-range") == "bytes 2-4/10"
    assert field(one, "content-length") == "3"
    several = await ask(static, b"/a.txt", range="bytes=0-0,8-9")
    assert several.status == 206
    assert not isinstance(several.body, bytes | FileBody)
    whole = b""
    while piece := await several.body.read():  # type: ignore[union-attr] # not a tunnel
        whole += piece
    boundary = (field(several, "content-type") or "").partition("boundary=")[2].encode()
    parts = whole.split(b"--" + boundary)
    assert parts[1].endswith(b"content-range: bytes 0-0/10\r\n\r\n0\r\n")
    assert parts[2].endswith(b"content-range: bytes 8-9/10\r\n\r\n89\r\n")
    assert parts[3] == b"--\r\n"
    assert several.body.length == len(whole)  # type: ignore[union-attr] # not a tunnel
    several.body.close(True)  # type: ignore[union-attr,call-arg] # not a tunnel
    beyond = await ask(static, b"/a.txt", range="bytes=10-")
    assert (beyond.status, field(beyond, "content-range")) == (416, "bytes */10")
    assert (await ask(static, b"/a.txt", b"HEAD", range="bytes=0-1")).status == 200


async def test_a_range_depends_on_if_range(static: FileHandler) -> None:
    etag = field(await ask(static, b"/a.txt"), "etag") or ""
    for validator, status in ((etag, 206), ('"other"', 200), ("W/" + etag, 200), ("nonsense", 200)):
        response = await ask(static, b"/a.txt", range="bytes=0-0", if_range=validator)
        assert response.status == status, validator


E = b'"tag"'
CONDITIONS = [
    ({b"if-none-match": b'"tag"'}, 304), ({b"if-none-match": b'W/"tag"'}, 304), ({b"if-none-match": b"*"}, 304),
    ({b"if-none-match": b'"x", "tag"'}, 304), ({b"if-none-match": b'"x"'}, 200), ({b"if-none-match": b"tag"}, 200),
    ({b"if-modified-since": b"Sun, 09 Sep 2001 01:46:40 GMT"}, 304),
    ({b"if-modified-since": b"Sun, 09 Sep 2001 01:46:39 GMT"}, 200),
    ({b"if-modified-since": b"Sunday, 09-Sep-01 01:46:40 GMT"}, 304),
    ({b"if-modified-since": b"Sun Sep  9 01:46:40 2001"}, 304),
    ({b"if-modified-since": b"yesterday"}, 200),
    ({b"if-none-match": b'"x"', b"if-modified-since": b"Sun, 09 Sep 2001 01:46:40 GMT"}, 200),
    ({b"if-match": b'"tag"'}, 200), ({b"if-match": b"*"}, 200), ({b"if-match": b'"x"'}, 412),
    ({b"if-match": b'W/"tag"'}, 412),
    ({b"if-unmodified-since": b"Sun, 09 Sep 2001 01:46:40 GMT"}, 200),
    ({b"if-unmodified-since": b"Sun, 09 Sep 2001 01:46:39 GMT"}, 412),
    ({b"if-match": b'"tag"', b"if-unmodified-since": b"Sun, 09 Sep 2001 01:46:39 GMT"}, 200),
    ({b"if-match": b'"tag"', b"if-none-match": b'"tag"'}, 304),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "status"), CONDITIONS)
def test_conditions_in_their_order(asked: dict[bytes, bytes], status: int) -> None:
    assert evaluate(asked, E, 1_000_000_000) == status


@given(st.binary(max_size=40))
def test_no_date_and_no_encoding_is_worse_than_unknown(value: bytes) -> None:
    http_date(value)
    acceptable(value)


@pytest.mark.parametrize(
    ("field_value", "wanted"),
    [
        (None, ()), (b"", ()), (b"gzip", (b"gzip",)), (b"gzip, zstd, br", (b"br", b"zstd", b"gzip")),
        (b"*", (b"br", b"zstd", b"gzip")), (b"gzip;q=0.5, br;q=0.4", (b"gzip", b"br")), (b"gzip;q=0", ()),
        (b"identity, gzip;q=0.5", ()), (b"*;q=0", ()), (b"br;q=2", ()), (b"GZIP", (b"gzip",)),
        (b"identity;q=0, *", (b"br", b"zstd", b"gzip")), (b"x-gzip", (b"gzip",)),
    ],
)  # fmt: skip
def test_encodings(field_value: bytes | None, wanted: tuple[bytes, ...]) -> None:
    assert acceptable(field_value) == wanted

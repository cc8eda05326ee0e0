"""What files are called, asked for in parts, and kept from being read, in the world outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import FAULTS, Fault
from proxy.handlers.files.handler import FileHandler
from proxy.handlers.files.media_types import _TABLE, content_type
from proxy.protocol.message import Connection, FileBody, Request, Response
from proxy.transport.clock import Clock

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")
NOBODY = 65534


def request(target: bytes, **fields: str) -> Request:
    given = [(name.encode(), value.encode()) for name, value in fields.items()]
    return Request(b"GET", target, b"1.1", b"a.example", b"a.example", given, PEER)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("f.m3u8", "application/vnd.apple.mpegurl"),
        ("f.ts f.m2ts f.mts", "video/mp2t"),
        ("f.mpd", "application/dash+xml"),
        ("f.m4s", "video/iso.segment"),
        ("f.mpeg f.mpg", "video/mpeg"),
        ("f.mp4 f.m4v", "video/mp4"),
        ("f.avi", "video/x-msvideo"),
        ("f.3gp", "video/3gpp"),
        ("f.flv", "video/x-flv"),
        ("f.wmv", "video/x-ms-wmv"),
        ("f.mid f.midi f.kar", "audio/midi"),
        ("f.m3u", "audio/x-mpegurl"),
        ("f.mka", "audio/matroska"),
        ("f.heic", "image/heic"),
        ("f.jpg f.jpeg f.jfif", "image/jpeg"),
        ("f.psd", "image/vnd.adobe.photoshop"),
        ("f.glb", "model/gltf-binary"),
        ("f.gltf", "model/gltf+json"),
        ("f.stl", "model/stl"),
        ("f.usdz", "model/vnd.usdz+zip"),
        ("f.eot", "application/vnd.ms-fontobject"),
        ("f.ttc", "font/collection"),
        ("f.jar f.war", "application/java-archive"),
        ("f.crt f.pem f.der", "application/x-x509-ca-cert"),
        ("f.crl", "application/pkix-crl"),
        ("f.p12", "application/x-pkcs12"),
        ("f.rpm", "application/x-rpm"),
        ("f.rar", "application/vnd.rar"),
        ("f.tar.gz f.tgz", "application/gzip"),
        ("f.apk", "application/vnd.android.package-archive"),
        ("f.torrent", "application/x-bittorrent"),
        ("f.kml", "application/vnd.google-earth.kml+xml"),
        ("f.kmz", "application/vnd.google-earth.kmz"),
        ("f.gpx", "application/gpx+xml"),
        ("f.swf", "application/x-shockwave-flash"),
        ("f.ps f.eps f.ai", "application/postscript"),
        ("f.docm", "application/vnd.ms-word.document.macroenabled.12"),
        ("f.odg", "application/vnd.oasis.opendocument.graphics"),
        ("f.mobi", "application/x-mobipocket-ebook"),
        ("f.shtml f.html f.HTM", "text/html; charset=utf-8"),
        ("f.mjs f.cjs f.js", "text/javascript; charset=utf-8"),
        ("f.tsv", "text/tab-separated-values; charset=utf-8"),
        ("f.ttl", "text/turtle; charset=utf-8"),
        ("f.xsd f.rng", "application/xml"),
        ("f.rdf f.owl", "application/rdf+xml"),
        ("f.jsonld", "application/ld+json"),
        ("f.appcache", "text/cache-manifest; charset=utf-8"),
        ("f.wasm", "application/wasm"),
        ("f f.unknown f. .ts/f f.php f.bin", "application/octet-stream"),
    ],
)
def test_a_name_tells_the_media_type(names: str, kind: str) -> None:
    for name in names.split():
        assert content_type(f"/some/dir.css/{name}".encode()) == kind.encode(), name


def test_the_table_has_several_hundred_types_in_one_form() -> None:
    assert len(_TABLE) > 800
    for extension, kind in _TABLE.items():
        assert extension == extension.lower()
        top, slash, _subtype = kind.partition(b";")[0].partition(b"/")
        assert slash
        assert (top == b"text") == kind.endswith(b"; charset=utf-8")


# Parts


@pytest.mark.parametrize(
    ("size", "asked", "status"),
    [
        (0, "bytes=0-", 200),
        (0, "bytes=-1", 200),
        (0, "bytes=0-0", 200),
        (0, "bytes=5-", 200),
        (0, "bytes=0-499,-1", 200),
        (10, "bytes=0-", 206),
        (10, "bytes=-1", 206),
        (10, "bytes=-100", 206),
        (10, "bytes=9-", 206),
        (10, "bytes=10-", 416),
        (10, "bytes=-0", 416),
        (10, "bytes=5-4", 200),
        (10, "bytes=", 200),
        (10, "items=0-", 200),
    ],
)
def test_a_range_of_a_file(tmp_path: Path, size: int, asked: str, status: int) -> None:
    (tmp_path / "f.bin").write_bytes(b"x" * size)
    files = FileHandler(tmp_path, Clock())
    response = files.handle(request(b"/f.bin", range=asked))
    assert response.status == status
    if status == 200:
        assert (b"content-length", b"%d" % size) in response.fields
    files.close()


# What is there and cannot be sent


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[Path]:
    """A document root, and file access as an unprivileged user has it."""
    if os.geteuid():
        pytest.skip("only root becomes somebody else")
    root = tmp_path / "www"
    root.mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.stat().st_uid == 0 and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o755)
    yield root
    os.seteuid(0)
    os.setegid(0)


def told(root: Path, target: bytes) -> Fault:
    files = FileHandler(root, Clock())
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(Fault) as caught:
            files.handle(request(target))
    finally:
        os.seteuid(0)
        os.setegid(0)
        files.close()
    return caught.value


@pytest.mark.parametrize(
    ("make", "target", "kind", "words"),
    [
        ("echo x > page.html; chmod 600 page.html", b"/page.html", "unreadable", "chmod a+r {root}/page.html"),
        ("echo x > index.html; chmod 600 index.html", b"/", "unreadable", "chmod a+r {root}/index.html"),
        ("mkdir d; echo x > d/a; chmod 700 d", b"/d/a", "unreadable", "chmod a+x {root}/d"),
        ("mkdir d; echo x > d/index.html; chmod 744 d", b"/d/", "unreadable", "chmod a+x {root}/d"),
        ("mkdir -p d/e; echo x > d/e/a; chmod 700 d/e", b"/d/e/a", "unreadable", "chmod a+x {root}/d/e"),
        ("echo x > 'a b.html'; chmod 0 'a b.html'", b"/a%20b.html", "unreadable", "chmod a+r '{root}/a b.html'"),
        ("echo x > x; chmod 0 x; ln -s x y", b"/y", "unreadable", "chmod a+r {root}/x"),
        ("mkdir d", b"/d/", "no_index", "{root}/d/ has no index.html"),
        ("true", b"/", "no_index", "has no index.html"),
        ("mkdir d; chmod 711 d", b"/d/", "no_index", "has no index.html"),
        ("ln -s gone here", b"/here", "unreadable", "{root}/here is a link to gone, where there is nothing"),
        ("ln -s /etc/hostname out", b"/out", "unreadable", "leads out of the document root"),
        ("mkfifo pipe", b"/pipe", "unreadable", "neither a file nor a folder"),
        ("echo '-----BEGIN PRIVATE KEY-----' > k.pem", b"/k.pem", "unreadable", "holds a private key"),
        ("true", b"/typo.html", "not_found", ""),
        ("true", b"/nowhere/", "not_found", ""),
        ("echo x > .env", b"/.env", "not_found", ""),
        ("mkdir .git; echo x > .git/config", b"/.git/config", "not_found", ""),
        ("echo x > .env; ln -s .env env", b"/env", "not_found", ""),
        ("echo x > a", b"/a/", "not_found", ""),
        ("echo x > a", b"/a/b", "not_found", ""),
    ],
)  # fmt: skip
def test_what_is_there_and_cannot_be_sent_is_told_with_what_mends_it(
    as_nobody: Path, make: str, target: bytes, kind: str, words: str
) -> None:
    os.system(f"cd {as_nobody} && {make}")
    fault = told(as_nobody, target)
    assert (fault.kind, fault.what.status) == (kind, 404)
    assert words.format(root=as_nobody) in fault.detail
    assert fault.what.text == FAULTS["not_found"].text  # nobody outside learns which


@pytest.mark.parametrize("mode", [0o711, 0o755])
def test_a_folder_that_may_be_entered_is_found_without_its_slash(
    as_nobody: Path, mode: int
) -> None:
    (as_nobody / "d").mkdir(mode=mode)
    files = FileHandler(as_nobody, Clock())
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    response = files.handle(request(b"/d"))
    assert isinstance(response, Response)
    assert not isinstance(response.body, FileBody)
    assert (response.status, response.fields) == (308, [(b"location", b"/d/")])
    files.close()


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ("rm -r {root}", b"/a"),
        ("mv {root} {root}.old; mkdir {root}; echo new > {root}/b", b"/b"),
        ("mv {root} {root}.old", b"/b"),
        ("ln -sfn {other} {link}", b"/b"),  # the next release
    ],
)
def test_a_document_root_that_was_replaced_is_told(
    tmp_path: Path, change: str, target: bytes
) -> None:
    root, other, link = tmp_path / "www", tmp_path / "next", tmp_path / "current"
    for folder in (root, other):
        folder.mkdir()
        (folder / "a").write_text("a")
    link.symlink_to(root)
    (other / "b").write_text("b")
    files = FileHandler(link, Clock())
    assert files.handle(request(b"/a")).status == 200
    with pytest.raises(Fault, match="not_found"):
        files.handle(request(b"/typo"))
    files.close()
    files = FileHandler(link if "link" in change else root, Clock())
    os.system(change.format(root=root, other=other, link=link))
    with pytest.raises(Fault, match="was removed or replaced since the start: reload") as caught:
        files.handle(request(target))
    assert caught.value.what.status == 404
    files.close()

"""What is asked of the servers. Heads are like a browser's; URLs and cookies vary."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from .peers import PYTHON, Peer

SIZES = {"100.txt": 100, "10k.txt": 10 * 1024, "1m.bin": 1024**2, "100m.bin": 100 * 1024**2}
_VARIANTS = 200  # URLs of each small size


@dataclass(frozen=True, slots=True)
class Scenario:
    """``unit``: what is counted per server CPU second: "request", or "mib" for large bodies.
    ``streams``: over HTTP/2, with so many at a time on each connection; 0: over HTTP/1.1.
    ``accepted`` is Accept-Encoding, ``more`` are further lines of the head; ``only`` names the
    peers that have it, where not all do."""

    name: str
    path: str
    connections: int = 40
    unit: str = "request"
    proxied: bool = False
    method: str = "GET"
    conditional: bool = False
    every_peer: bool = False
    streams: int = 0
    new_cookie_every: int = 0  # by `h2_client` and not h2load
    upload: bool = False  # of 1 MiB each; the unit is what is sent
    accepted: str = "gzip, deflate, br, zstd"
    more: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def asked_of(self, peer: Peer) -> bool:
        if self.only and peer.name not in self.only:
            return False
        if self.streams and not peer.http2:
            return False
        if self.proxied:
            return peer.proxied
        return peer.static and (self.every_peer or peer.name not in PYTHON)


_RULED = ("treehouse-proxy", "nginx", "caddy")
# alice:bench, whose line every peer has.
_LOGIN = "Authorization: Basic YWxpY2U6YmVuY2g="

SCENARIOS = (
    Scenario("static 100 B", "/100.txt", every_peer=True),
    Scenario("static 10 KiB", "/10k.txt", every_peer=True),
    Scenario("static 1 MiB", "/1m.bin", 8, "mib"),
    Scenario("static 100 MiB", "/100m.bin", 4, "mib"),
    Scenario("browser mix, a third conditional", "/v/", conditional=True),
    Scenario("proxied 100 B", "/proxied/100.txt", proxied=True),
    Scenario("proxied 10 KiB", "/proxied/10k.txt", proxied=True),
    Scenario("proxied 1 MiB", "/proxied/1m.bin", 8, "mib", proxied=True),
    Scenario("proxied 100 MiB", "/proxied/100m.bin", 4, "mib", proxied=True),
    Scenario("POST 10 KiB proxied", "/proxied/post", proxied=True, method="POST"),
    Scenario("chunked 64 KiB proxied", "/proxied/stream/64k.html", 16, proxied=True),
    Scenario("filters: static 100 B with headers and HSTS", "/headed/100.txt", only=_RULED),
    Scenario("filters: proxied 100 B with header rules", "/proxied-headed/100.txt", only=_RULED),
    Scenario(
        "filters: static 100 B with basic auth, remembered",
        "/login/100.txt",
        only=_RULED,
        more=(_LOGIN,),
    ),
    Scenario("filters: static 100 B with forward auth, cached", "/sso/100.txt", only=_RULED),
    Scenario(
        "filters: JSON 100 KiB from a backend, gzip",
        "/json/100k.json",
        16,
        only=_RULED,
        accepted="gzip",
    ),
    Scenario(
        "filters: JSON 100 KiB from a backend, zstd",
        "/json/100k.json",
        16,
        accepted="zstd",
        only=("treehouse-proxy", "caddy"),
    ),
    Scenario("filters: listing of 200 files", "/listing/", 16, only=_RULED),
    Scenario("filters: FastCGI hello", "/script/hello.php", 16, only=_RULED),
    Scenario("HTTP/2: static 100 B, 1 x 100", "/100.txt", 1, streams=100, every_peer=True),
    Scenario("HTTP/2: static 100 B, 32 x 10", "/100.txt", 32, streams=10, every_peer=True),
    Scenario("HTTP/2: static 100 B, 32 x 1", "/100.txt", 32, streams=1),
    Scenario(
        "HTTP/2: static 100 B, 32 x 10, by itself, a new cookie every 10th",
        "/100.txt",
        32,
        streams=10,
        new_cookie_every=10,
    ),
    Scenario(
        "HTTP/2: static 100 B, 32 x 10, by itself, always a new cookie",
        "/100.txt",
        32,
        streams=10,
        new_cookie_every=1,
    ),
    Scenario("HTTP/2: static 10 KiB, 1 x 100", "/10k.txt", 1, streams=100),
    Scenario("HTTP/2: static 10 KiB, 32 x 10", "/10k.txt", 32, streams=10),
    Scenario("HTTP/2: static 100 MiB, 4 x 1", "/100m.bin", 4, "mib", streams=1),
    Scenario("HTTP/2: proxied 100 B, 1 x 100", "/proxied/100.txt", 1, proxied=True, streams=100),
    Scenario("HTTP/2: proxied 100 B, 32 x 10", "/proxied/100.txt", 32, proxied=True, streams=10),
    Scenario(
        "HTTP/2: proxied 100 B, 32 x 10, by itself, a new cookie every 10th",
        "/proxied/100.txt",
        32,
        proxied=True,
        streams=10,
        new_cookie_every=10,
    ),
    Scenario("HTTP/2: proxied 1 MiB, 4 x 4", "/proxied/1m.bin", 4, "mib", proxied=True, streams=4),
    Scenario(
        "HTTP/2: uploads of 1 MiB proxied, 10 x 10",
        "/proxied/post",
        10,
        "mib",
        proxied=True,
        streams=10,
        upload=True,
    ),
)

# A browser's, so that header compression has what it is for.
BROWSER_FIELDS = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.5",
    "accept-encoding: gzip, deflate, br, zstd",
    "cookie: session=184467440; theme=dark; visits=7",
    "upgrade-insecure-requests: 1",
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "sec-fetch-site: same-origin",
    "priority: u=0, i",
)


def make_files(root: Path, backend_root: Path) -> None:
    """The same files for the servers and for the backend; sparse content is not compressed by
    anybody here, so that its bytes do not matter."""
    for folder in (root, backend_root / "proxied"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, size in SIZES.items():
            path = folder / name
            if not path.exists() or path.stat().st_size != size:
                path.write_bytes(b"x" * size)
    scripts = root / "script"
    scripts.mkdir(exist_ok=True)
    (scripts / "hello.php").write_text('<?php header("Content-Type: text/plain"); echo "hello\\n";')
    varied = root / "v"
    varied.mkdir(exist_ok=True)
    for number in range(_VARIANTS):
        (varied / f"{number}.css").write_bytes(b"y" * (500 + 37 * number))
    for folder in ("proxied-headed", "json"):
        (backend_root / folder).mkdir(exist_ok=True)
    (backend_root / "proxied-headed" / "100.txt").write_bytes(b"x" * 100)
    (backend_root / "json" / "100k.json").write_text(_json(100 * 1024))
    stream = backend_root / "proxied" / "stream"
    stream.mkdir(exist_ok=True)
    (stream / "64k.html").write_bytes(b"z" * 65536)  # served chunked, because SSI may change it


def _json(size: int) -> str:
    """An answer of an interface: objects alike, with what differs between things."""
    some = random.Random(7)
    rows: list[str] = []
    while sum(map(len, rows)) < size:
        rows.append(
            f'{{"id":{some.randrange(10**6)},"name":"thing {some.randrange(10**4)}","price":'
            f'{some.random() * 100:.2f},"tags":["t{some.randrange(50)}","t{some.randrange(50)}"],'
            f'"href":"https://example.org/things/{some.getrandbits(40):x}","stock":true}}'
        )
    return "[" + ",".join(rows) + "]"


_BROWSER = """
local requests = {}
function init(args)
  math.randomseed(%(seed)d)
  for n = 1, 500 do
    local path = %(path)s
    local lines = {
      "%(method)s " .. path .. " HTTP/1.1",
      "Host: localhost",
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
      "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
      "Accept-Language: en-GB,en;q=0.5",
      "Accept-Encoding: %(accepted)s",
      "Connection: keep-alive",
      "Cookie: session=" .. math.random(1, 1e9) .. "; theme=dark; visits=" .. n,
      "Upgrade-Insecure-Requests: 1",
      "Sec-Fetch-Dest: document",
      "Sec-Fetch-Mode: navigate",
      "Sec-Fetch-Site: same-origin",
      "Priority: u=0, i",
    }
    for _, line in ipairs({%(more)s}) do table.insert(lines, line) end
    if %(conditional)s and n %% 3 == 0 then
      table.insert(lines, "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT")
    end
    local body = %(body)s
    if body ~= "" then table.insert(lines, "Content-Length: " .. #body) end
    requests[n] = table.concat(lines, "\\r\\n") .. "\\r\\n\\r\\n" .. body
  end
end
local at = 0
function request()
  at = at %% 500 + 1
  return requests[at]
end
"""


def script(scenario: Scenario, folder: Path) -> Path:
    """The wrk script that makes the scenario's requests."""
    path = folder / f"{scenario.name.replace(' ', '-').replace(',', '')}.lua"
    if scenario.conditional:
        target = f'"{scenario.path}" .. ((n * 7) % {_VARIANTS}) .. ".css"'
    else:
        target = f'"{scenario.path}?q=" .. n'
    values = {
        "seed": random.Random(scenario.name).randrange(10**6),
        "path": target,
        "conditional": "true" if scenario.conditional else "false",
        "method": scenario.method,
        "accepted": scenario.accepted,
        "more": ", ".join(f'"{line}"' for line in scenario.more),
        "body": 'string.rep("b", 10240)' if scenario.method == "POST" else '""',
    }
    path.write_text(_BROWSER % values)
    return path

"""The servers that are compared, each given the same work on the same terms.

The same certificate and key (ECDSA P-256), TLS 1.3 only, HTTP/1.1 only, an access log with the
usual facts to a file, one worker (or thread) on one core; or two on both. What a server does better
by default (nginx's open_file_cache is off) is switched on where its manual recommends it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_HSTS = 'Strict-Transport-Security: "max-age=5184000"'
_BCRYPT = "$2b$10$XE9NDQWmdSIcOK1/DS3LN.zfLRxsoBH/4SUnTZGeX0YfcL6qWXrKi"

REPOSITORY = Path(__file__).resolve().parent.parent
BACKEND_PORT = 18900
# They serve an application of two files, and are asked for those alone.
PYTHON = ("uvicorn", "hypercorn", "granian")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens. ``root`` holds the files, ``chain`` and ``key`` the certificate."""

    work: Path
    root: Path
    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """``static`` and ``proxied`` say which of the two it is asked to do, ``http2`` whether over
    HTTP/2 as well."""

    name: str
    port: int
    static: bool = True
    proxied: bool = True
    http2: bool = True

    @property
    def probe(self) -> bytes:
        """A path that yields 100 bytes."""
        return b"/100.txt" if self.static else b"/proxied/100.txt"

    def command(self, place: Place, workers: int) -> list[str]:
        """Write the configuration, and how to start the server in the foreground."""
        folder = place.work / self.name
        folder.mkdir(exist_ok=True)
        return _COMMANDS[self.name](self, place, folder, workers)

    def log(self, place: Place) -> Path:
        return place.work / self.name / "output.log"


def version(name: str) -> str:
    """What the server says of itself."""
    words = {
        "treehouse-proxy": [sys.executable, "-m", "proxy", "--version"],
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "caddy": [caddy(), "version"],
        "uvicorn": [sys.executable, "-m", "uvicorn", "--version"],
        "granian": [sys.executable, "-m", "granian", "--version"],
        "hypercorn": [sys.executable, "-c", "import importlib.metadata as m;print(m.version('hypercorn'))"],
    }[name]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def commit() -> str:
    """The commit that is measured; "unknown" without git."""
    if not shutil.which("git"):
        return "unknown"
    words = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def caddy() -> str:
    return str(Path(sys.executable).parent / "caddy")


def _treehouse(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    config = folder / "config.yaml"
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{peer.port + 1}"], https: ["127.0.0.1:{peer.port}"]}}
workers: {workers}
state: {folder / "state"}
tls: {{min_version: "1.3"}}
log: {{format: text, level: warning, access: {folder / "access.log"}}}
limits: {{connections_per_address: 10000, requests_per_connection: 1000000000}}
compress: false  # as the others by default: the same bytes for all
sites:
  - names: [localhost]
    certificate: {{chain: {place.chain}, key: {place.key}}}
    routes:
      - {{path: /proxied/*, backend: "http://127.0.0.1:{BACKEND_PORT}"}}
      - path: /proxied-headed/*
        backend: http://127.0.0.1:{BACKEND_PORT}
        headers: {{set: {{X-Frame-Options: DENY, {_HSTS}}}, remove: [Server]}}
        request_headers: {{set: {{X-Client: "{{client}}"}}, remove: [X-Real-IP]}}
      - path: /headed/*
        root: {place.root}
        headers: {{set: {{X-Frame-Options: DENY, X-Content-Type-Options: nosniff, {_HSTS}}}}}
      - {{path: /login/*, root: {place.root}, basic_auth: {{users: {{alice: "{_BCRYPT}"}}}}}}
      - path: /sso/*
        root: {place.root}
        forward_auth: {{url: "http://127.0.0.1:{BACKEND_PORT}/auth", copy: [Remote-User], cache: 1h}}
      - {{path: /json/*, backend: "http://127.0.0.1:{BACKEND_PORT}", compress: true}}
      - {{path: /listing/*, root: {place.root / "v"}, listing: true}}
      - {{path: /script/*, root: {place.root / "script"}, fastcgi: "unix:{place.work}/fpm.sock"}}
      - {{path: /*, root: {place.root}}}
"""
    )
    return [sys.executable, "-m", "proxy", "--config", str(config)]


def _nginx(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    config = folder / "nginx.conf"
    # nginx verifies each request anew, for which bcrypt would be no comparison: SHA-1 (RFC 2307).
    digest = base64.b64encode(hashlib.sha1(b"bench").digest()).decode()
    (folder / "htpasswd").write_text(f"alice:{{SHA}}{digest}\n")
    config.write_text(
        f"""
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log {folder}/access.log;
    include /etc/nginx/mime.types;
    sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 75s;
    client_max_body_size 100m;
    open_file_cache max=1000 inactive=60s; open_file_cache_valid 1s;
    client_body_temp_path {folder}; proxy_temp_path {folder};
    fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    proxy_cache_path {folder}/cache keys_zone=auth:10m;
    upstream fpm {{ server unix:{place.work}/fpm.sock; keepalive 16; }}
    upstream backend {{ server 127.0.0.1:{BACKEND_PORT}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{peer.port} ssl http2;
        server_name localhost;
        ssl_certificate {place.chain}; ssl_certificate_key {place.key};
        ssl_protocols TLSv1.3; ssl_session_cache shared:s:10m;
        root {place.root};
        proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        location /proxied/ {{ proxy_pass http://backend; }}
        location /proxied-headed/ {{
            proxy_pass http://backend;
            proxy_set_header Connection ""; proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Client $remote_addr;
            proxy_hide_header Server; add_header X-Frame-Options DENY always;
            add_header Strict-Transport-Security "max-age=5184000" always;
        }}
        location /headed/ {{
            alias {place.root}/;
            add_header X-Frame-Options DENY always; add_header X-Content-Type-Options nosniff always;
            add_header Strict-Transport-Security "max-age=5184000" always;
        }}
        location /login/ {{
            alias {place.root}/;
            auth_basic restricted; auth_basic_user_file {folder}/htpasswd;
        }}
        location /sso/ {{ alias {place.root}/; auth_request /auth; }}
        location = /auth {{
            internal; proxy_pass http://backend; proxy_cache auth; proxy_cache_valid 200 1h;
            proxy_cache_key $request_uri$http_cookie$http_authorization;
            proxy_pass_request_body off; proxy_set_header Content-Length "";
        }}
        location /json/ {{
            proxy_pass http://backend; gzip on; gzip_proxied any; gzip_types application/json;
            gzip_comp_level 5; gzip_min_length 1024;
        }}
        location /script/ {{
            fastcgi_pass fpm; fastcgi_keep_conn on;
            fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
            include /etc/nginx/fastcgi_params;
        }}
        location /listing/ {{ alias {place.root}/v/; autoindex on; }}
    }}
}}
"""
    )
    return ["nginx", "-c", str(config), "-p", str(folder)]


def _haproxy(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    config = folder / "haproxy.cfg"
    pem = folder / "both.pem"
    pem.write_bytes(place.chain.read_bytes() + place.key.read_bytes())
    config.write_text(
        f"""
global
    log stdout format raw local0
    nbthread {workers}
    maxconn 8192
defaults
    mode http
    log global
    option httplog
    timeout client 75s
    timeout server 60s
    timeout connect 5s
    http-reuse always
frontend front
    bind 127.0.0.1:{peer.port} ssl crt {pem} ssl-min-ver TLSv1.3 alpn h2,http/1.1
    option forwardfor
    default_backend back
backend back
    server one 127.0.0.1:{BACKEND_PORT} maxconn 1024
"""
    )
    return ["haproxy", "-db", "-f", str(config)]


def _caddyfile(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    config = folder / "Caddyfile"
    config.write_text(
        f"""
{{
    admin off
    auto_https off
    persist_config off
    servers {{
        protocols h1 h2
    }}
}}
https://localhost:{peer.port} {{
    bind 127.0.0.1
    tls {place.chain} {place.key} {{
        protocols tls1.3
    }}
    log {{
        output file {folder}/access.log
    }}
    handle /proxied/* {{
        reverse_proxy 127.0.0.1:{BACKEND_PORT} {{
            transport http {{
                keepalive_idle_conns_per_host 256
            }}
        }}
    }}
    handle /proxied-headed/* {{
        header {{
            X-Frame-Options DENY
            Strict-Transport-Security "max-age=5184000"
            -Server
        }}
        reverse_proxy 127.0.0.1:{BACKEND_PORT} {{
            header_up X-Client {{remote_host}}
            transport http {{
                keepalive_idle_conns_per_host 256
            }}
        }}
    }}
    handle_path /headed/* {{
        root * {place.root}
        header {{
            X-Frame-Options DENY
            X-Content-Type-Options nosniff
            Strict-Transport-Security "max-age=5184000"
        }}
        file_server
    }}
    handle_path /login/* {{
        root * {place.root}
        basic_auth {{
            alice {_BCRYPT}
        }}
        file_server
    }}
    handle_path /sso/* {{
        root * {place.root}
        forward_auth 127.0.0.1:{BACKEND_PORT} {{
            uri /auth
            copy_headers Remote-User
        }}
        file_server
    }}
    handle /json/* {{
        encode zstd gzip
        reverse_proxy 127.0.0.1:{BACKEND_PORT} {{
            header_up -Accept-Encoding
            transport http {{
                keepalive_idle_conns_per_host 256
            }}
        }}
    }}
    handle /script/* {{
        root * {place.root}
        php_fastcgi unix/{place.work}/fpm.sock
    }}
    handle_path /listing/* {{
        root * {place.root}/v
        file_server browse
    }}
    handle {{
        root * {place.root}
        file_server
    }}
}}
"""
    )
    return ["env", f"GOMAXPROCS={workers}", f"HOME={folder}", caddy(), "run", "--config", str(config), "--adapter", "caddyfile"]  # fmt: skip


def _uvicorn(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "benchmarks.asgi:app", "--app-dir", str(REPOSITORY),
        "--host", "127.0.0.1", "--port", str(peer.port), "--workers", str(workers),
        "--ssl-certfile", str(place.chain), "--ssl-keyfile", str(place.key),
    ]  # fmt: skip


def _hypercorn(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    return [
        sys.executable, "-m", "hypercorn", "benchmarks.asgi:app",
        "--bind", f"127.0.0.1:{peer.port}", "--workers", str(workers), "--worker-class", "uvloop",
        "--certfile", str(place.chain), "--keyfile", str(place.key),
        "--access-logfile", str(folder / "access.log"),
    ]  # fmt: skip


def _granian(peer: Peer, place: Place, folder: Path, workers: int) -> list[str]:
    key = folder / "key.pem"  # PKCS #8, which is all that it reads
    words = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", str(place.key), "-out", str(key)]
    subprocess.run(words, check=True)
    return [
        sys.executable, "-m", "granian", "--interface", "asgi", "benchmarks.asgi:app",
        "--host", "127.0.0.1", "--port", str(peer.port), "--workers", str(workers),
        "--loop", "uvloop", "--access-log", "--no-ws",
        "--ssl-certificate", str(place.chain), "--ssl-keyfile", str(key),
    ]  # fmt: skip


_COMMANDS = {
    "treehouse-proxy": _treehouse,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddyfile,
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
}

PEERS = (
    Peer("treehouse-proxy", 18443),
    Peer("nginx", 18453),
    Peer("caddy", 18463),
    Peer("haproxy", 18473, static=False),
    Peer("uvicorn", 18483, proxied=False, http2=False),
    Peer("hypercorn", 18493, proxied=False),
    Peer("granian", 18503, proxied=False),
)


def backend(work: Path) -> list[str]:
    """The application behind all proxies: nginx, because it is the one that costs least."""
    folder = work / "backend"
    folder.mkdir(exist_ok=True)
    (folder / "files" / "proxied").mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(
        f"""
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on; tcp_nopush on; keepalive_requests 10000000; client_max_body_size 100m;
    open_file_cache max=100; client_body_temp_path {folder}; proxy_temp_path {folder};
    client_body_in_single_buffer on; client_body_buffer_size 64k;
    fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{BACKEND_PORT} backlog=4096;
        root {folder}/files;
        location /proxied/post {{ proxy_pass http://127.0.0.1:{BACKEND_PORT}/taken; }}
        location /taken {{ return 200 "taken\\n"; }}
        location /auth {{ add_header Remote-User alice; return 200 ""; }}
        location /json/ {{ types {{ application/json json; }} }}
        # tcp_nopush would hold the last piece until a delayed ACK 40 ms later.
        location /proxied/stream {{ ssi on; ssi_types *; tcp_nopush off; }}
    }}
}}
"""
    )
    return ["nginx", "-c", str(config), "-p", str(folder)]


def php_fpm(work: Path) -> list[str]:
    """Who runs the scripts of all servers: PHP-FPM, from Debian."""
    folder = work / "fpm"
    folder.mkdir(exist_ok=True)
    config = folder / "fpm.conf"
    config.write_text(
        f"""
[global]
error_log = {folder}/error.log
daemonize = no
[www]
user = nobody
group = nogroup
listen = {work}/fpm.sock
listen.mode = 0666
pm = static
pm.max_children = 8
"""
    )
    return [str(_newest_fpm()), "-y", str(config), "-F", "-R"]


def _newest_fpm() -> Path:
    return max(Path("/usr/sbin").glob("php-fpm[0-9]*"))


def describe() -> str:
    return json.dumps({peer.name: version(peer.name) for peer in PEERS}, indent=2)

"""Applications as people run them, behind the real program: what a client gets through it is what it
gets without it."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.http.client import Answer, context, https
from support.program.ports import free_ports
from support.program.server import Server

ROWS = 20_000
ROW = "12345678901\n"  # with its line end, a chunk of twelve bytes

WSGI = f"""
from flask import Flask, Response, request

app = Flask(__name__)

@app.get("/rows")
def rows():
    return Response(({ROW!r} for _ in range({ROWS})), mimetype="text/csv")

@app.get("/characters")
def characters():
    return Response(iter("x" * 13_000), mimetype="text/plain")

@app.post("/length")
def length():
    return request.headers.get("Content-Length", "none")
"""
CHERRYPY = """
import sys
import cherrypy

class Root:
    @cherrypy.expose
    def default(self, *_):
        return "length " + cherrypy.request.headers.get("Content-Length", "none")

cherrypy.quickstart(Root(), "/", {"global": {
    "server.socket_host": "127.0.0.1", "server.socket_port": int(sys.argv[1]),
    "log.screen": False, "engine.autoreload.on": False, "checker.on": False}})
"""
NGINX = """
daemon off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
  uwsgi_temp_path t4; scgi_temp_path t5; gzip on; gzip_min_length 100; gzip_types text/css;
  types {{ text/css css; }}
  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}
"""


@dataclass
class Apps:
    server: Server
    https: int
    context: ssl.SSLContext
    ports: dict[str, int]

    def through(self, app: str, target: str, method: str = "GET", fields: str = "") -> Answer:
        with https(self.https, f"{app}.test", None, using=self.context) as talk:
            return talk.asks(target, f"{app}.test", method, fields)

    def directly(self, app: str, target: str, **fields: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[app])
        connection.request("GET", target, headers=fields)
        body = connection.getresponse().read()
        connection.close()
        return body


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))  # nobody may enter pytest's own
    folder.chmod(0o755)
    (folder / "app.py").write_text(WSGI)
    (folder / "cherry.py").write_text(CHERRYPY)
    (folder / "style.css").write_text("a { color: red }\n" * 5000)
    names = ["gunicorn", "waitress", "cherrypy", "nginx"]
    *numbers, plain, secure = free_ports(len(names) + 2)
    ports = dict(zip(names, numbers, strict=True))
    (folder / "nginx.conf").write_text(NGINX.format(port=ports["nginx"], folder=folder))
    python = sys.executable
    commands = {
        "gunicorn": [python, "-m", "gunicorn", "-b", f"127.0.0.1:{ports['gunicorn']}", "app:app",
                     "--worker-class", "gthread", "--threads", "4", "--worker-tmp-dir", "/dev/shm"],
        "waitress": [python, "-m", "waitress", "--listen", f"127.0.0.1:{ports['waitress']}", "app:app"],
        "cherrypy": [python, "cherry.py", str(ports["cherrypy"])],
        "nginx": ["nginx", "-p", str(folder), "-c", "nginx.conf"],
    }  # fmt: skip
    if shutil.which("nginx") is None:
        del commands["nginx"], ports["nginx"]
    config = folder / "config.yaml"
    sites = "".join(
        f'  - {{names: [{name}.test], backend: "http://127.0.0.1:{port}"}}\n'
        for name, port in ports.items()
    )
    config.write_text(
        f"""
listen: {{http: ["127.0.0.1:{plain}"], https: ["127.0.0.1:{secure}"]}}
workers: 1
state: {folder / "state"}
sites:
{sites}"""
    )
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for command in commands.values():
            process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        for port in ports.values():
            await_readiness(port)
        with Server(["--config", str(config)], folder) as server:
            for name in ports:
                server.await_log(
                    f"{name}.test.*certificate obtained|certificate obtained.*{name}.test"
                )
            using = context(folder / "state/internal-ca/root.pem")
            yield Apps(server, secure, using, ports)
            assert server.stop() == 0
            assert "Traceback" not in server.text()


def await_readiness(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        assert time.monotonic() < end, "an application does not start"
        time.sleep(0.05)


@pytest.mark.parametrize("app", ["gunicorn", "waitress"])
def test_rows_that_are_streamed_one_by_one_arrive_whole(apps: Apps, app: str) -> None:
    answer = apps.through(app, "/rows")
    assert answer.status == 200
    assert answer.body == ROW.encode() * ROWS == apps.directly(app, "/rows")
    assert apps.through(app, "/characters").body == b"x" * 13_000


@pytest.mark.parametrize(("app", "target"), [("cherrypy", "/"), ("gunicorn", "/length")])
@pytest.mark.parametrize("fields", ["", "Content-Length: 0\r\n"])
def test_an_empty_post_has_a_length(apps: Apps, app: str, target: str, fields: str) -> None:
    answer = apps.through(app, target, "POST", fields)
    assert answer.status == 200, "CherryPy answers 411 without one"
    assert answer.body.split()[-1] == b"0"


def test_nginx_compresses_as_much_behind_us_as_without_us(apps: Apps) -> None:
    if "nginx" not in apps.ports:
        pytest.skip("needs nginx")
    answer = apps.through("nginx", "/style.css", fields="Accept-Encoding: gzip\r\n")
    direct = apps.directly("nginx", "/style.css", **{"Accept-Encoding": "gzip"})
    assert answer["content-encoding"] == "gzip"
    assert len(answer.body) == len(direct) < 1000
    assert gzip.decompress(answer.body) == gzip.decompress(direct)

"""Engines of containers for tests: a real Podman where it runs here, and a server that speaks the
Docker API by its documentation. Both do the same things, so that one suite tries both.

    with engine() as docker:
        docker.run("web", {"treehouse.domain": "web.localhost"}, "hello from web")
        docker.url                     # for providers: {docker: …}

A container answers every request on its port 8080 with its text.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from .ports import free_address

PORT = 8080
GROUP = 65533  # of the socket, which nobody else has


class Engine(Protocol):
    """Containers by name. ``replicas_of`` makes it one of a compose service."""

    url: str

    def run(
        self, name: str, labels: Mapping[str, str], text: str, *, service: str | None = None
    ) -> None: ...

    def stop(self, name: str) -> None: ...

    def start(self, name: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def set_health(self, name: str, *, healthy: bool) -> None: ...

    def go_away(self) -> None: ...

    def come_back(self) -> None: ...


def _compose(service: str | None) -> dict[str, str]:
    if service is None:
        return {}
    return {"com.docker.compose.project": "p", "com.docker.compose.service": service}


# By its documentation


class _Text(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        super().__init__((free_address(PORT), PORT), _TextHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _TextHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Text)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.text)))
        self.end_headers()
        self.wfile.write(self.server.text)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class _Container:
    key: str
    name: str
    labels: dict[str, str]
    text: str
    created: str
    server: _Text | None = None
    health: str = ""

    def inspected(self) -> dict[str, Any]:
        """ContainerInspect, as far as it matters and some more."""
        running = self.server is not None
        address = self.server.server_address[0] if self.server else ""
        state: dict[str, Any] = {
            "Status": "running" if running else "exited", "Running": running, "Paused": False,
            "Restarting": False, "OOMKilled": False, "Dead": False, "Pid": 1, "ExitCode": 0,
        }  # fmt: skip
        if self.health:
            state["Health"] = {"Status": self.health, "FailingStreak": 0, "Log": []}
        network = {
            "IPAMConfig": None, "Links": None, "Aliases": [self.name], "NetworkID": "n",
            "Gateway": "127.0.0.1", "IPAddress": address, "IPPrefixLen": 8 if running else 0,
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
        }  # fmt: skip
        return {
            "Id": self.key, "Created": self.created, "Name": f"/{self.name}",
            "Image": "sha256:image", "State": state,
            "Config": {"Labels": self.labels, "ExposedPorts": {f"{PORT}/tcp": {}}},
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Ports": {f"{PORT}/tcp": None}, "Networks": {"bridge": network}},
        }  # fmt: skip


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    engine: FakeDocker


class _ApiHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        assert isinstance(self.server, _UnixServer)
        engine, url = self.server.engine, urlsplit(self.path)
        match url.path.strip("/").split("/"):
            case ["containers", "json"]:
                self._say(200, engine.listed())
            case ["containers", key, "json"]:
                found = next((one for one in engine.containers.values() if one.key == key), None)
                self._say(200, found.inspected()) if found else self._say(404, {"message": "no"})
            case ["images", _, "json"]:
                self._say(200, {"Id": "sha256:image", "Config": {"Labels": engine.image_labels}})
            case ["events"]:
                self._events(engine, parse_qs(url.query))
            case _:
                self._say(404, {"message": "page not found"})

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _events(self, engine: FakeDocker, query: Mapping[str, list[str]]) -> None:
        filters = json.loads(query["filters"][0])
        assert set(filters["type"]) <= {"container", "network", "image", "volume"}
        heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        engine.listeners.append(heard)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        with contextlib.suppress(OSError):
            while (event := heard.get()) is not None:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class FakeDocker:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "docker.sock"
        self.url = f"unix:{self.path}"
        self.containers: dict[str, _Container] = {}
        self.image_labels: dict[str, str] = {}
        self.listeners: list[queue.SimpleQueue[dict[str, Any] | None]] = []
        self._made = 0
        self._server: _UnixServer | None = None
        self._open: list[socket.socket] = []
        self.come_back()

    def listed(self) -> list[dict[str, Any]]:
        return [
            {"Id": one.key, "Names": [f"/{one.name}"], "Labels": one.labels, "State": "running"}
            for one in list(self.containers.values())
            if one.server is not None
        ]

    def _tell(self, action: str, one: _Container) -> None:
        event = {
            "status": action, "id": one.key, "Type": "container", "Action": action,
            "Actor": {"ID": one.key, "Attributes": {"name": one.name, **one.labels}},
            "scope": "local", "time": int(time.time()),
        }  # fmt: skip
        for listener in self.listeners:
            listener.put(event)

    def run(
        self, name: str, labels: Mapping[str, str], text: str, *, service: str | None = None
    ) -> None:
        self._made += 1
        created = f"2026-01-01T00:00:00.{self._made:06}Z"
        made = {**self.image_labels, **labels, **_compose(service)}
        self.containers[name] = _Container(f"{self._made:064x}", name, made, text, created)
        self.start(name)

    def start(self, name: str) -> None:
        one = self.containers[name]
        one.server = _Text(one.text)
        self._tell("start", one)

    def stop(self, name: str) -> None:
        one = self.containers[name]
        server, one.server = one.server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self._tell("die", one)

    def remove(self, name: str) -> None:
        self.stop(name)
        self._tell("destroy", self.containers.pop(name))

    def set_health(self, name: str, *, healthy: bool) -> None:
        one = self.containers[name]
        one.health = "healthy" if healthy else "unhealthy"
        self._tell(f"health_status: {one.health}", one)

    def go_away(self) -> None:
        if self._server is None:
            return
        for listener in self.listeners:
            listener.put(None)
        self.listeners.clear()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        self.path.unlink()

    def come_back(self) -> None:
        self._server = _UnixServer(str(self.path), _ApiHandler)
        self._server.engine = self
        os.chown(self.path, 0, GROUP)
        self.path.chmod(0o660)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.go_away()
        for one in self.containers.values():
            if one.server is not None:
                one.server.shutdown()
                one.server.server_close()


# The real one


class Podman:
    """Debian's podman with its own store; its containers run busybox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "podman.sock"
        self.url = f"unix:{self.path}"
        self._service: subprocess.Popen[bytes] | None = None
        runtime = folder / "bin/crun"
        runtime.parent.mkdir()
        shutil.copy(Path(__file__).with_name("oci_runtime.py"), runtime)
        runtime.write_text(f"#!{sys.executable}\n" + runtime.read_text().partition("\n")[2])
        runtime.chmod(0o755)
        self._command = [
            "podman", "--storage-driver", "vfs", "--root", f"{folder}/root",
            "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp",
            "--cgroup-manager", "cgroupfs", "--events-backend", "file",
            "--runtime", str(runtime), "--network-config-dir", f"{folder}/networks",
        ]  # fmt: skip
        self._image()
        self.come_back()

    def do(self, *words: str, within: float = 60) -> str:
        """What podman prints. Raises OSError with its words."""
        done = subprocess.run(
            [*self._command, *words], capture_output=True, text=True, timeout=within, check=False
        )
        if done.returncode:
            raise OSError(f"podman {words[0]}: {done.stderr}")
        return done.stdout

    def _image(self) -> None:
        image = self.folder / "image"
        for name in ("bin", "www", "tmp"):
            (image / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", image / "bin/busybox")
        (image / "bin/sh").symlink_to("busybox")  # health checks are lines of a shell
        archive = self.folder / "image.tar"
        subprocess.run(["tar", "-C", str(image), "-cf", str(archive), "."], check=True)
        self.do("import", str(archive), "treehouse:test")

    def run(
        self, name: str, labels: Mapping[str, str], text: str, *, service: str | None = None
    ) -> None:
        all_labels = {**labels, **_compose(service)}
        words = [f"--label={name_}={value}" for name_, value in all_labels.items()]
        answer = f"echo '{text}' > /www/index.html; exec /bin/busybox httpd -f -p {PORT} -h /www"
        self.do(
            "run", "-d", "--name", name, "--cgroups=disabled", f"--expose={PORT}",
            "--health-cmd", "/bin/busybox test ! -e /tmp/ill", "--health-interval=disable",
            "--health-retries=1", *words, "treehouse:test", "/bin/busybox", "sh", "-c", answer,
        )  # fmt: skip

    def stop(self, name: str) -> None:
        self.do("stop", "-t", "0", name)

    def start(self, name: str) -> None:
        self.do("start", name)

    def remove(self, name: str) -> None:
        self.do("rm", "-f", "-t", "0", name)

    def set_health(self, name: str, *, healthy: bool) -> None:
        verb = "rm -f" if healthy else "touch"
        self.do("exec", name, "/bin/busybox", "sh", "-c", f"/bin/busybox {verb} /tmp/ill")
        with contextlib.suppress(OSError):
            self.do("healthcheck", "run", name)

    def go_away(self) -> None:
        if self._service is not None:
            os.killpg(self._service.pid, signal.SIGKILL)
            self._service.wait()
            self._service = None
            self.path.unlink(missing_ok=True)

    def come_back(self) -> None:
        self._service = subprocess.Popen(
            [*self._command, "system", "service", "--time", "0", self.url.replace(":", "://")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self.path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.chown(self.path, 0, GROUP)
        self.path.chmod(0o660)

    def close(self) -> None:
        self.go_away()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.do("rm", "-f", "-a", "-t", "0")


@contextlib.contextmanager
def engine(kind: str) -> Iterator[Engine]:
    """One of the two; skips where Podman does not run."""
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/var/tmp"))
    folder.chmod(0o755)
    made: FakeDocker | Podman | None = None
    try:
        if kind == "podman":
            needed = ("podman", "/usr/sbin/runc", "/bin/busybox")
            if os.geteuid() != 0 or not all(map(shutil.which, needed)):
                pytest.skip("needs root and Debian's podman, runc and busybox-static")
            try:
                made = Podman(folder)
                made.run("trial", {}, "trial")
                made.remove("trial")
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"podman does not run here: {error}")
        else:
            made = FakeDocker(folder)
        yield made
    finally:
        if made is not None:
            made.close()
        subprocess.run(["umount", "-R", "-l", f"{folder}/root"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)

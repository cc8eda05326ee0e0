"""Chromium without a window, driven by its DevTools protocol.

    with Chromium(folder, port, [root]) as browser:
        browser.visit("https://a.test/")
        browser.does("(await fetch('/x')).text()")

All names lead to 127.0.0.1 and one port; certificates are verified against the roots. ``answers``
are what came over the network, as the browser tells it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

_WITHIN = 60.0


class Chromium:
    def __init__(self, folder: Path, port: int, roots: list[Path]) -> None:
        self.answers: list[dict[str, Any]] = []
        self._stack = contextlib.ExitStack()
        self._session: str | None = None
        self._numbers = itertools.count(1)
        self._events: collections.deque[dict[str, Any]] = collections.deque()
        home = folder / "browser"
        database = home / ".pki/nssdb"
        database.mkdir(parents=True)
        self.log = home / "output.log"
        self._net_log = home / "net-export.json"
        does = ["certutil", "-d", f"sql:{database}"]
        subprocess.run([*does, "-N", "--empty-password"], check=True, timeout=60)
        for root in roots:
            words = ["-A", "-t", "C,,", "-n", str(root), "-i", str(root)]
            subprocess.run([*does, *words], check=True, timeout=60)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync",
                    "--disable-component-update", "--disable-features=DialMediaRouteProvider",
                    f"--host-resolver-rules=MAP * 127.0.0.1:{port}", "--remote-debugging-port=0",
                    f"--user-data-dir={home / 'profile'}", f"--log-net-log={self._net_log}",
                    "about:blank",
                ],
                env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            url = self._url(home / "profile/DevToolsActivePort")
            self._socket = self._stack.enter_context(
                connect(url, max_size=None, ping_interval=None)
            )
            target = next(
                one["targetId"]
                for one in self.calls("Target.getTargets")["targetInfos"]
                if one["type"] == "page"
            )
            attached = self.calls("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Network", "Page", "Runtime"):
                self.calls(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)

    def _url(self, path: Path) -> str:
        deadline = time.monotonic() + _WITHIN
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def calls(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            heard = json.loads(self._socket.recv(timeout=_WITHIN))
            if heard.get("id") == number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result
            self._note(heard)

    def _note(self, heard: dict[str, Any]) -> None:
        if heard.get("method") == "Network.responseReceived":
            self.answers.append(heard["params"]["response"])
        self._events.append(heard)

    def visit(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._events.clear()
        went = self.calls("Page.navigate", url=url)
        assert "errorText" not in went, (went, self.log.read_text()[-2000:])
        deadline = time.monotonic() + _WITHIN
        while not any(one.get("method") == "Page.loadEventFired" for one in self._events):
            self._note(json.loads(self._socket.recv(timeout=deadline - time.monotonic())))

    def does(self, script: str) -> Any:
        """What an expression of JavaScript, which may await, comes to."""
        given = self.calls(
            "Runtime.evaluate",
            expression=f"(async () => {script})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in given, given["exceptionDetails"]
        return given["result"].get("value")

    def answer(self, end: str) -> dict[str, Any]:
        """The last answer whose URL ends so."""
        return [one for one in self.answers if one["url"].endswith(end)][-1]

    def net_log(self, kind: str) -> list[dict[str, Any]]:
        """The parameters of all events of this kind in what the browser's net-export has by now."""
        head, *events = self._net_log.read_text().splitlines() or ["{},"]
        number = (
            json.loads(head.rstrip(",") + "}").get("constants", {}).get("logEventTypes", {})[kind]
        )
        found = []
        for line in events:
            with contextlib.suppress(ValueError):  # what stands around the events; one half written
                event = json.loads(line.rstrip(","))
                if event["type"] == number and "params" in event:
                    found.append(event["params"])
        return found

    def await_net_log(self, kind: str) -> dict[str, Any]:
        """The first event of this kind. The browser writes them some at a time."""
        deadline = time.monotonic() + _WITHIN
        while not (found := self.net_log(kind)):
            assert time.monotonic() < deadline, kind
            self.does("await fetch(location.href)")
        return found[0]

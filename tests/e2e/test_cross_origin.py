"""`cors` in a real browser: scripts of one site ask another one, which wants a login."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import ClassVar

from proxy.sites.passwords import hashed
from support.http.backend_app import Application, serving
from support.http.chromium import Chromium
from support.program.server import Server

CONFIG = """\
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
state: {state}
sites:
  - {{names: [app.test], root: {root}}}
  - {{names: [evil.test], root: {root}}}
  - names: [api.test]
    backend: http://127.0.0.1:{port}
    basic_auth: {{users: {{alice: "{hash}"}}}}
    cors: {{origins: ["https://app.test"], methods: [GET, PUT], headers: [Authorization, Content-Type],
           expose: [X-Count], max_age: 0s}}
"""
RIGHT = "Basic " + base64.b64encode(b"alice:geheim").decode()


class Api(Application):
    """Allows everybody everything, which is not for it to say."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.command)
        count = str(len(self.asked))
        self.answers(b"done", Access_Control_Allow_Origin="*", X_Count=count, X_Hidden="yes")

    do_PUT = do_OPTIONS = do_DELETE = do_GET


def script(method: str, fields: dict[str, str]) -> str:
    """What a page does, and what its script gets to see."""
    asked = json.dumps({"method": method, "headers": fields})
    return (
        f"{{ try {{ const r = await fetch('https://api.test/thing', {asked});"
        " return [r.status, r.headers.get('x-count') !== null, r.headers.get('x-hidden'),"
        " await r.text()]; } catch (e) { return 'blocked'; } }"
    )


def test_scripts_of_the_listed_origin_get_through_and_no_others(
    folder: Path, ports: tuple[int, int]
) -> None:
    root = folder / "www"
    root.mkdir()
    (root / "index.html").write_text("<!doctype html><title>page</title>")
    (one, two), state = ports, folder / "state"
    config = folder / "config.yaml"
    with serving(Api) as port:
        config.write_text(
            CONFIG.format(
                one=one, two=two, state=state, root=root, port=port, hash=hashed("geheim")
            )
        )
        with Server(["--config", str(config)], folder) as server:
            for name in ("app.test", "evil.test", "api.test"):
                server.await_log(f"{name}: certificate obtained")
            with Chromium(folder, two, [state / "internal-ca/root.pem"]) as browser:
                browser.visit("https://app.test/")
                put = script("PUT", {"Authorization": RIGHT, "Content-Type": "application/json"})
                assert browser.does(put) == [200, True, None, "done"]
                assert Api.asked == ["PUT"]  # the preflight ended here
                # A login that is missing is an answer that the script may read.
                assert browser.does(script("GET", {}))[0] == 401
                assert browser.does(script("DELETE", {"Authorization": RIGHT})) == "blocked"
                assert browser.does(script("GET", {"X-Other": "1"})) == "blocked"
                browser.visit("https://evil.test/")
                assert browser.does(put) == "blocked"
                assert browser.does(script("GET", {})) == "blocked"
                assert Api.asked == ["PUT"]

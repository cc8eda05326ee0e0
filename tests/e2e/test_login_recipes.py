"""The cookbook's login services, with the very configuration that stands there, and services that behave
by their documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support import cookbook
from support.http.backend_app import Application, serving
from support.http.client import https
from support.http.login_services import LoginServices, leads_back_to
from support.program.server import Server

NAME = "app.example.org"
# A recipe: the port of the service, and the field that tells the app who it is.
RECIPES = {
    "Authelia": ("9091", "remote-user"),
    "authentik": ("9000", "x-authentik-username"),
    "oauth2-proxy": ("4180", "x-auth-request-user"),
    "tinyauth": ("3100", "remote-user"),
}


class App(Application):
    """Answers with the fields that it was sent."""

    def do_GET(self) -> None:
        text = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.answers(text)


@pytest.mark.parametrize("title", RECIPES)
def test_a_visitor_logs_in_and_the_app_learns_who_it_is(
    folder: Path, ports: tuple[int, int], title: str
) -> None:
    asked_at, field = RECIPES[title]
    config = folder / "config.yaml"
    with serving(App) as port, LoginServices() as services:
        config.write_text(
            f"listen: {{http: ['127.0.0.1:{ports[0]}'], https: ['127.0.0.1:{ports[1]}']}}\n"
            f"state: {folder / 'state'}\nacme: {{directory: internal}}\n"
            + cookbook.first_yaml(title).replace(f":{asked_at}", f":{services.port}")
            .replace(":3000", f":{port}")
        )  # fmt: skip
        with Server(["--config", str(config)], folder) as server:
            server.await_log(f"{NAME}: certificate obtained")
            ca = folder / "state/internal-ca/root.pem"
            with https(ports[1], NAME, ca) as talk:
                page = f"Accept: text/html\r\n{field}: root\r\n"
                stranger = talk.asks("/notes?id=1", NAME, fields=page)
                assert stranger.status in (302, 307)
                back = leads_back_to(stranger["location"])
                assert back in (f"https://{NAME}/notes?id=1", "/notes?id=1")
                user = talk.asks("/notes?id=1", NAME, fields=page + "Cookie: session=alice\r\n")
                assert user.status == 200
                told = [value for name, value in json.loads(user.body) if name == field]
                assert told == ["alice"]
                # What the service serves itself is open to strangers.
                for path in re.findall(r"path: (/\S+)\*, backend", cookbook.first_yaml(title))[:-1]:
                    assert talk.asks(f"{path}start", NAME, fields=page).status == 404
                    assert services.asked[-1].target == f"{path}start"

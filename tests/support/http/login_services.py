"""Login services as their documentation describes them, in one server: Authelia (4.39, "Proxy
Authorization"), authentik (2026.8, proxy provider), oauth2-proxy (7.14, "Integration") and tinyauth
(4). Each understands its own fields only, and refuses a question that lacks them.

    with LoginServices() as services:
        services.port        # asked at /api/authz/forward-auth and so on
        services.asked       # the questions, newest last

A visitor with the cookie ``session=alice`` is alice.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from .backend_app import Application, Served


@dataclass
class Asked:
    """A question: the request as the service got it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def one(self, name: str) -> str:
        found = self.all(name)
        return found[0] if len(found) == 1 else f"{len(found)} times"


@dataclass
class Verdict:
    status: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


class LoginServices(Served):
    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[str, Verdict] = {}  # by path: what a test wants to hear
        self.hang = threading.Event()
        services = self

        class Handler(Application):
            def do_GET(self) -> None:
                asked = Asked(
                    self.command, self.path,
                    [(name.lower(), value) for name, value in self.headers.items()],
                )  # fmt: skip
                services.asked.append(asked)
                verdict = services.verdict(asked)
                self.send_response(verdict.status)
                for name, value in verdict.fields:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(verdict.body)))
                self.end_headers()
                self.wfile.write(verdict.body)

            do_POST = do_HEAD = do_PUT = do_OPTIONS = do_GET

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))

    def __exit__(self, *_: object) -> None:
        self.hang.set()
        super().__exit__(*_)

    # What each answers

    FORMS: ClassVar = {
        "/api/authz/forward-auth": "_authelia",
        "/api/authz/auth-request": "_authelia_for_nginx",
        "/outpost.goauthentik.io/auth/caddy": "_authentik",
        "/outpost.goauthentik.io/auth/nginx": "_authentik_for_nginx",
        "/oauth2/auth": "_oauth2_proxy",
        "/": "_oauth2_proxy_static",
        "/api/auth/caddy": "_tinyauth",
        "/slow": "_slow",
        "/echo": "_echo",
    }

    def verdict(self, asked: Asked) -> Verdict:
        path = urlsplit(asked.target).path
        if path in self.answers:
            return self.answers[path]
        if asked.method != "GET" or path not in self.FORMS:
            return Verdict(404, body=b"no such page")
        found: Verdict = getattr(self, self.FORMS[path])(asked)
        return found

    @staticmethod
    def _user(asked: Asked) -> str | None:
        for cookie in "; ".join(asked.all("cookie")).split("; "):
            name, _, value = cookie.partition("=")
            if name == "session":
                return value
        return None

    def _slow(self, _asked: Asked) -> Verdict:
        self.hang.wait(60)
        return Verdict(200)

    @staticmethod
    def _echo(_asked: Asked) -> Verdict:
        return Verdict(200, [("Remote-User", "alice"), ("X-Time", str(time.time_ns()))])

    def _authelia(self, asked: Asked) -> Verdict:
        scheme, host, target, method = (
            asked.one(f"x-forwarded-{part}") for part in ("proto", "host", "uri", "method")
        )
        return self._of_authelia(asked, f"{scheme}://{host}{target}", method, for_nginx=False)

    def _authelia_for_nginx(self, asked: Asked) -> Verdict:
        url, method = asked.one("x-original-url"), asked.one("x-original-method")
        return self._of_authelia(asked, url, method, for_nginx=True)

    def _of_authelia(self, asked: Asked, url: str, method: str, *, for_nginx: bool) -> Verdict:
        if not url.startswith("https://") or " times" in method or not asked.all("x-forwarded-for"):
            return Verdict(400, body=b"the target URL cannot be told")
        user = self._user(asked)
        if user is not None:
            if "/forbidden" in urlsplit(url).path:
                return Verdict(403, body=b"403 Forbidden")
            return Verdict(
                200,
                [("Remote-User", user), ("Remote-Groups", "admins,dev"), ("Remote-Name", "Alice A"),
                 ("Remote-Email", f"{user}@example.com")],
            )  # fmt: skip
        html = "text/html" in ",".join(asked.all("accept"))
        if for_nginx or not html or asked.one("x-requested-with") == "XMLHttpRequest":
            status = 401
        else:
            status = 302 if method in ("GET", "HEAD", "OPTIONS") else 303
        where = f"https://auth.example.com/?rd={quote(url, safe='')}&rm={method}"
        return Verdict(status, [("Location", where)], f'<a href="{where}">{status}</a>'.encode())

    def _authentik(self, asked: Asked) -> Verdict:
        scheme, host, target = (
            asked.one(f"x-forwarded-{part}") for part in ("proto", "host", "uri")
        )
        return self._of_authentik(asked, f"{scheme}://{host}{target}", 302)

    def _authentik_for_nginx(self, asked: Asked) -> Verdict:
        return self._of_authentik(asked, asked.one("x-original-url"), 401)

    def _of_authentik(self, asked: Asked, url: str, status: int) -> Verdict:
        parts = urlsplit(url)
        if parts.netloc != asked.one("host"):  # the outpost finds its provider by Host
            return Verdict(404, body=b"no provider for this host")
        user = self._user(asked)
        if user is not None:
            return Verdict(
                200,
                [("X-authentik-username", user), ("X-authentik-groups", "admins|dev"),
                 ("X-authentik-email", f"{user}@example.com"), ("X-authentik-uid", "0123abcd")],
            )  # fmt: skip
        start = f"https://{parts.netloc}/outpost.goauthentik.io/start?rd={quote(url, safe='')}"
        return Verdict(
            status, [("Location", start), ("Set-Cookie", "authentik_proxy_1=new; Path=/; HttpOnly")]
        )

    def _oauth2_proxy(self, asked: Asked) -> Verdict:
        """With --reverse-proxy and --set-xauthrequest."""
        user = self._user(asked)
        if user is None:
            return Verdict(401, body=b"Unauthorized")
        fields = [("X-Auth-Request-User", user), ("X-Auth-Request-Email", f"{user}@example.com")]
        if "refresh=1" in ",".join(asked.all("cookie")):
            fields += [
                ("Set-Cookie", "_oauth2_proxy_0=a; Path=/"),
                ("Set-Cookie", "_oauth2_proxy_1=b"),
            ]
        return Verdict(202, fields)

    def _oauth2_proxy_static(self, asked: Asked) -> Verdict:
        """With --upstream=static://202 and --skip-provider-button."""
        if self._user(asked) is not None:
            return self._oauth2_proxy(asked)
        target = asked.one("x-forwarded-uri")
        where = f"https://idp.example.com/auth?client_id=x&state=nonce%3A{quote(target, safe='')}"
        cookie = ("Set-Cookie", "_oauth2_proxy_csrf=c; Path=/; HttpOnly")
        return Verdict(302, [("Location", where), cookie])

    def _tinyauth(self, asked: Asked) -> Verdict:
        scheme, host, target = (
            asked.one(f"x-forwarded-{part}") for part in ("proto", "host", "uri")
        )
        user = self._user(asked)
        if user is not None:
            return Verdict(200, [("Remote-User", user), ("Remote-Email", f"{user}@example.com")])
        if "text/html" not in ",".join(asked.all("accept")):
            return Verdict(401, body=b'{"status":401,"message":"Unauthorized"}')
        back = quote(f"{scheme}://{host}{target}", safe="")
        return Verdict(
            307, [("Location", f"https://tinyauth.example.com/login?redirect_uri={back}")]
        )


def leads_back_to(location: str) -> str:
    """The address that a redirect to a login carries along."""
    query = parse_qs(urlsplit(location).query)
    for name in ("rd", "redirect_uri"):
        if name in query:
            return query[name][0]
    return query["state"][0].partition(":")[2]

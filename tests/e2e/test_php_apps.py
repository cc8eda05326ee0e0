"""PHP applications as people run them, with the cookbook's recipes: WordPress, Adminer, and a front
controller in a public folder as Laravel and Symfony have it."""

from __future__ import annotations

import re
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from support import cookbook
from support.http.client import context
from support.program.php_fpm import PhpFpm, program
from support.program.ports import free_ports
from support.program.server import Server

pytestmark = pytest.mark.skipif(not program(), reason="needs php-fpm")

WORDPRESS, ADMINER = Path("/usr/share/wordpress"), Path("/etc/adminer")
# As `laravel new` and `symfony new` make them, as far as the server sees it: everything that is no
# file goes to public/index.php, and what lies beside public is out of reach.
FRAMEWORK = {
    "public/index.php": "<?php require __DIR__ . '/../vendor/app.php';",
    "public/robots.txt": "User-agent: *\n",
    "public/build/app.js": "console.log(1)\n",
    "vendor/app.php": "<?php header('Content-Type: application/json');"
    "$path = rawurldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));"
    "http_response_code($path === '/missing' ? 404 : 200);"
    "echo json_encode(['path' => $path, 'method' => $_SERVER['REQUEST_METHOD'],"
    " 'secure' => ($_SERVER['HTTPS'] ?? '') === 'on', 'env' => $_SERVER['APP_ENV'] ?? '',"
    " 'query' => $_GET, 'info' => $_SERVER['PATH_INFO'] ?? '', 'client' => $_SERVER['REMOTE_ADDR']]);",
    ".env": "SECRET=1",
}


@dataclass
class Place:
    folder: Path
    port: int

    def client(self, name: str, http2: bool = False) -> httpx.Client:
        using: ssl.SSLContext = context(self.folder / "state/internal-ca/root.pem")
        transport = httpx.HTTPTransport(verify=using, http1=not http2, http2=http2)

        def at_home(request: httpx.Request) -> None:
            request.extensions = {**request.extensions, "sni_hostname": name}

        return httpx.Client(
            transport=transport, base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": f"{name}:{self.port}"}, timeout=60, event_hooks={"request": [at_home]},
        )  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    for name, text in FRAMEWORK.items():
        (folder / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "app" / name).write_text(text)
    roots = {"/srv/wordpress": folder / "wordpress", "/srv/app/public": folder / "app/public",
             "/srv/adminer": folder / "adminer"}  # fmt: skip
    roots["/srv/wordpress"].mkdir()
    roots["/srv/adminer"].mkdir()
    if WORDPRESS.is_dir():
        shutil.rmtree(roots["/srv/wordpress"])
        shutil.copytree(WORDPRESS, roots["/srv/wordpress"])  # links followed, as a download has it
        (roots["/srv/wordpress"] / "wp-config.php").unlink()
        (roots["/srv/wordpress"] / "wp-content/uploads").mkdir()
        evil = roots["/srv/wordpress"] / "wp-content/uploads/evil.php"
        evil.write_text("<?php echo 'ran';")
        (roots["/srv/wordpress"] / "wp-content/uploads/cat.jpg").write_text("<?php echo 'ran';")
    if ADMINER.is_dir():
        shutil.copy("/usr/share/adminer/adminer.php", roots["/srv/adminer"] / "index.php")
    (folder / "sessions").mkdir()
    (folder / "sessions").chmod(0o1777)
    fpm = PhpFpm(folder, more=f"php_admin_value[session.save_path] = {folder}/sessions")
    fpm.start()
    one, two = free_ports(2)
    text = "\n".join(
        cookbook.first_yaml(title).removeprefix("sites:\n")
        for title in ("WordPress", "Laravel, Symfony", "Adminer, phpMyAdmin")
    )
    for theirs, ours in roots.items():
        text = text.replace(theirs, str(ours))
    text = text.replace("/run/php/php-fpm.sock", str(fpm.socket))
    config = folder / "config.yaml"
    config.write_text(
        f"state: {folder}/state\nacme: {{directory: internal}}\n"
        f"listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}\nsites:\n{text}"
    )
    try:
        with Server(["--config", str(config)], folder) as server:
            server.await_status(
                folder / "state",
                lambda document: (
                    len(document["certificates"]) == 3
                    and all(entry["served"] for entry in document["certificates"])
                ),
            )
            yield Place(folder, two)
    finally:
        fpm.stop()
        shutil.rmtree(folder)


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.skipif(not WORDPRESS.is_dir(), reason="needs Debian's package wordpress")
def test_the_installer_of_wordpress(place: Place, http2: bool) -> None:
    with place.client("blog.example.org", http2) as client:
        first = client.get("/a-permalink/of-a-post/?x=y")
        assert first.status_code == 302
        there = urlsplit(first.headers["location"])
        assert (there.scheme, there.path) == ("https", "/wp-admin/setup-config.php")
        page = client.get(there.path)
        assert page.status_code == 200
        assert "WordPress" in page.text
        form = client.get("/wp-admin/setup-config.php?step=1")
        assert 'name="dbname"' in form.text
        sheets = re.findall(r"href=['\"](/wp-[^'\"]+\.css[^'\"]*)", form.text) or re.findall(
            r"href=['\"]https?://[^/]+(/wp-[^'\"]+\.css[^'\"]*)", form.text
        )
        assert sheets
        for sheet in sheets:
            found = client.get(sheet.replace("&#038;", "&"))
            assert (found.status_code, found.headers["content-type"][:8]) == (200, "text/css")
        done = client.post(
            "/wp-admin/setup-config.php?step=2",
            data={"dbname": "x", "uname": "x", "pwd": "x", "dbhost": "127.0.0.1", "prefix": "wp_",
                  "language": "", "submit": "Submit"},
        )  # fmt: skip
        assert "database" in done.text  # which there is none of


@pytest.mark.skipif(not WORDPRESS.is_dir(), reason="needs Debian's package wordpress")
def test_what_is_uploaded_to_wordpress_never_runs(place: Place) -> None:
    with place.client("blog.example.org") as client:
        for path in (
            "/wp-content/uploads/evil.php", "/wp-content/uploads/evil.php/x",
            "/wp-content/uploads/cat.jpg/x.php", "/wp-content/uploads/../uploads/evil.php",
            "/wp-content//uploads/evil.php", "/wp-content/%75ploads/evil.php",
            "/wp-content/./uploads/evil.php", "/wp-content/uploads/evil.php?x=.php",
        ):  # fmt: skip
            answer = client.get("/", extensions={"target": path.encode()})
            assert answer.text != "ran", path


@pytest.mark.skipif(not ADMINER.is_dir(), reason="needs Debian's package adminer")
def test_adminer(place: Place) -> None:
    with place.client("db.example.org") as client:
        assert client.get("/").status_code == 401
        client.auth = ("alice", "geheim")
        page = client.get("/")
        assert (page.status_code, "Adminer" in page.text) == (200, True)
        assert "auth[driver]" in page.text, page.text
        sheets = re.findall(r"(?:href|src)=['\"]?[^'\" ]*(\?file=[^'\" >]+)", page.text)
        assert sheets, page.text
        for sheet in sheets:
            assert client.get(f"/{sheet}".replace("&amp;", "&")).status_code == 200
        token = client.post("/", data={"auth[driver]": "sqlite", "auth[server]": "",
                                       "auth[username]": "", "auth[password]": "",
                                       "auth[db]": "x.db"})  # fmt: skip
        assert token.status_code == 302
        assert "sqlite=" in token.headers["location"]
        assert client.cookies  # the session


def test_a_public_folder(place: Place) -> None:
    with place.client("app.example.org") as client:
        for path in ("/", "/posts/1", "/posts/1.json", "/index.php/posts", "/a%20b/%C3%A4"):
            told = client.get(path, params={"q": "1"}).json()
            assert told["secure"] is True
            assert told["env"] == "production"
            assert told["query"] == {"q": "1"}
            assert told["client"] == "127.0.0.1"
        assert client.get("/a%20b/%C3%A4").json()["path"] == "/a b/ä"
        assert client.delete("/posts/1").json()["method"] == "DELETE"
        assert client.get("/missing").status_code == 404
        assert client.get("/robots.txt").text == "User-agent: *\n"
        built = client.get("/build/app.js")
        assert built.headers["cache-control"] == "public, max-age=31536000, immutable"
        for path in ("/.env", "/../.env", "/..%2f.env", "/vendor/app.php", "/../vendor/app.php"):
            answer = client.get("/", extensions={"target": path.encode()})
            assert "SECRET" not in answer.text
            assert "<?php" not in answer.text

"""The whole of WordPress behind the program: installed, logged in to, written with, over HTTP/1.1 and
HTTP/2. Where there is a MariaDB; the suite installs none, for it would stay on the machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.http.client import context
from support.program.php_fpm import php_fpm, program
from support.program.ports import free_ports
from support.program.server import Server

WORDPRESS = Path("/usr/share/wordpress")
pytestmark = pytest.mark.skipif(
    not program()
    or shutil.which("mariadbd") is None
    or not (WORDPRESS / "wp-content/themes/twentytwentythree").is_dir(),
    reason="needs php-fpm, mariadb-server, wordpress and wordpress-theme-twentytwentythree",
)
NAME, PASSWORD = "blog.example.org", "a Long one, 4 admin"
CONFIG = """\
state: {folder}/state
acme: {{directory: internal}}
listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}
sites:
  - names: [blog.example.org]
    routes:
      - {{path: /wp-content/uploads/*, root: {folder}/wp/wp-content/uploads}}
      - {{path: /*, root: {folder}/wp, fastcgi: "unix:{socket}", body_size: 64MiB}}
"""
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f"
    "0005fe02fea735819d0000000049454e44ae426082"
)


@dataclass
class Place:
    server: Server
    folder: Path
    port: int
    database: int

    def client(self, http2: bool) -> httpx.Client:
        def at_home(request: httpx.Request) -> None:
            request.extensions = {**request.extensions, "sni_hostname": NAME}

        return httpx.Client(
            verify=context(self.folder / "state/internal-ca/root.pem"), http1=not http2,
            http2=http2, base_url=f"https://127.0.0.1:{self.port}", timeout=60,
            headers={"Host": f"{NAME}:{self.port}"}, event_hooks={"request": [at_home]},
        )  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/var/tmp"))
    folder.chmod(0o755)
    shutil.copytree(WORDPRESS, folder / "wp")
    (folder / "wp/wp-config.php").unlink()
    (folder / "wp/wp-content/uploads").mkdir(exist_ok=True)
    subprocess.run(["chown", "-R", "nobody:nogroup", folder / "wp"], check=True)
    one, two, three = free_ports(3)
    database = _database(folder, three)
    try:
        with php_fpm(folder) as fpm:
            config = folder / "config.yaml"
            config.write_text(CONFIG.format(folder=folder, one=one, two=two, socket=fpm.socket))
            with Server(["--config", str(config)], folder) as server:
                server.await_log("certificate obtained")
                yield Place(server, folder, two, three)
    finally:
        database.terminate()
        database.wait(60)
        shutil.rmtree(folder)


def _database(folder: Path, port: int) -> subprocess.Popen[bytes]:
    data = folder / "db"
    data.mkdir()
    subprocess.run(["chown", "mysql", data], check=True)
    subprocess.run(
        ["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--skip-test-db",
         "--auth-root-authentication-method=normal"], capture_output=True, check=True,
    )  # fmt: skip
    started = subprocess.Popen(
        ["mariadbd", "--user=mysql", f"--datadir={data}", f"--socket={data}/sock", f"--port={port}",
         "--bind-address=127.0.0.1", f"--pid-file={data}/pid"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    made = "; ".join(
        f"create user wp@{host} identified by 'x'; grant all on wp.* to wp@{host}"
        for host in ("'127.0.0.1'", "localhost")
    )
    deadline = time.monotonic() + 60
    while subprocess.run(
        ["mariadb", f"--socket={data}/sock", "-uroot", "-e", f"create database wp; {made}"],
        capture_output=True, check=False,
    ).returncode:  # fmt: skip
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return started


def test_it_is_installed(place: Place) -> None:
    with place.client(False) as client:
        written = client.post(
            "/wp-admin/setup-config.php?step=2",
            data={"dbname": "wp", "uname": "wp", "pwd": "x", "prefix": "wp_", "language": "",
                  "dbhost": f"127.0.0.1:{place.database}"},
        )  # fmt: skip
        assert (written.status_code, (place.folder / "wp/wp-config.php").exists()) == (200, True)
        installed = client.post(
            "/wp-admin/install.php?step=2",
            data={"weblog_title": "The title", "user_name": "admin", "admin_password": PASSWORD,
                  "admin_password2": PASSWORD, "admin_email": "a@example.org"},
        )  # fmt: skip
        assert installed.status_code == 200
        assert "<title>The title</title>" in client.get("/").text


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_it_is_used(place: Place, http2: bool) -> None:
    with place.client(http2) as client:
        entered = client.post(
            "/wp-login.php",
            data={"log": "admin", "pwd": PASSWORD, "wp-submit": "Log In", "testcookie": "1"},
            headers={"Cookie": "wordpress_test_cookie=WP+Cookie+check"},
        )
        assert entered.status_code == 302
        assert entered.headers["location"] == f"https://{NAME}:{place.port}/wp-admin/"
        given = [one.partition(";")[0] for one in entered.headers.get_list("set-cookie")]
        client.cookies.clear()
        client.headers["Cookie"] = "; ".join(given)
        assert "Dashboard" in client.get("/wp-admin/").text
        form = client.get("/wp-admin/options-permalink.php").text
        saved = client.post(
            "/wp-admin/options-permalink.php",
            data={"_wpnonce": _nonce(form), "selection": "/%postname%/", "submit": "Save",
                  "permalink_structure": "/%postname%/"},
        )  # fmt: skip
        assert saved.status_code in (200, 302)
        assert "Hello world!" in client.get("/hello-world/").text
        assert client.get("/wp-json/wp/v2/posts").json()[0]["slug"] == "hello-world"
        assert client.get("/feed/").headers["content-type"].startswith("application/rss+xml")
        assert client.get("/nothing-here/").status_code == 404
        sheet = client.get("/wp-content/themes/twentytwentythree/style.css")
        assert sheet.headers["content-type"].startswith("text/css")
        media = client.get("/wp-admin/media-new.php").text
        sent = client.post(
            "/wp-admin/async-upload.php",
            data={"name": "p.png", "action": "upload-attachment", "_wpnonce": _nonce(media)},
            files={"async-upload": ("p.png", PICTURE, "image/png")},
        )
        picture = re.sub(r"^https?://[^/]+", "", sent.json()["data"]["url"])
        assert client.get(picture).content == PICTURE


def _nonce(page: str) -> str:
    found = re.search(r'"_wpnonce":"(\w+)"|name="_wpnonce" value="(\w+)"', page)
    assert found is not None
    return found[1] or found[2]

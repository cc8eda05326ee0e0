"""The real PHP-FPM, with a pool of its own, as root starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """\
[global]
error_log = {folder}/fpm.log
daemonize = no
[www]
user = {user}
group = nogroup
listen = {listen}
listen.mode = 0666
pm = static
pm.max_children = {children}
ping.path = /ping
clear_env = no
php_admin_value[upload_max_filesize] = 64M
php_admin_value[post_max_size] = 64M
{more}
"""


def program() -> str:
    """The newest PHP-FPM of this machine, or "" where there is none."""
    found = sorted(Path("/usr/sbin").glob("php-fpm[0-9]*"))
    return str(found[-1]) if found else shutil.which("php-fpm") or ""


class PhpFpm:
    """Listens on ``socket`` from `start` to `stop`."""

    def __init__(
        self, folder: Path, children: int = 4, user: str = "nobody", more: str = ""
    ) -> None:
        self.socket = folder / "php.sock"
        tcp = re.search(r"^listen = (.+):(\d+)$", more, re.MULTILINE)
        self._address: str | tuple[str, int] = (
            (tcp[1], int(tcp[2])) if tcp is not None else str(self.socket)
        )
        self._config = folder / "fpm.conf"
        self._config.write_text(
            CONFIG.format(
                folder=folder, listen=self.socket, children=children, user=user, more=more
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [program(), "-y", str(self._config), "-F", "-R"], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, "PHP-FPM ended"
            family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
            with socket.socket(family) as sock:
                try:
                    sock.connect(self._address)
                    return
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(60)
            self._process = None
            self.socket.unlink(missing_ok=True)


@contextmanager
def php_fpm(
    folder: Path, children: int = 4, user: str = "nobody", more: str = ""
) -> Iterator[PhpFpm]:
    server = PhpFpm(folder, children, user, more)
    server.start()
    try:
        yield server
    finally:
        server.stop()

"""What the doctor finds out of this machine."""

from __future__ import annotations

from pathlib import Path

from proxy.doctor.probes.machine import others_of


def test_processes_of_the_servers_user_that_are_other_programs(tmp_path: Path) -> None:
    for pid, uids, command in (
        (20, "0 65534 65534 65534", b"php-fpm: pool www\0"),  # any of the four will do
        (3, "65534 65534 65534 65534", b"/usr/sbin/dnsmasq\0-k\0"),
        (4, "65534 65534 65534 65534", b"treehouse-proxy: worker 1\0"),
        (5, "65534 65534 65534 65534", b""),  # it has just ended
        (6, "655 655 655 655", b"sshd\0"),
        (7, "0 0 0 0", b"init\0"),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "status").write_text(f"Name:\tx\nUid:\t{uids}\nGid:\t65534\n")
        (folder / "cmdline").write_bytes(command)
    (tmp_path / "8").mkdir()  # gone meanwhile
    (tmp_path / "net").mkdir()
    assert others_of(65534, tmp_path) == ("dnsmasq (pid 3)", "php-fpm (pid 20)")

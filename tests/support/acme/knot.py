"""A real name server for tests: Debian's Knot, on port 53 of a loopback address of its own.

    with Knot({"example.test": ""}) as primary:
        primary.texts("_acme-challenge.example.test")

It is the primary of its zones, takes updates of TXT records that are signed with the key "acme", and
keeps a log. With ``primary`` it is a secondary of that one's zones. It runs as an unprivileged user,
in a folder that is gone afterwards.
"""

from __future__ import annotations

import base64
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.tsig
import pytest
from dns.update import UpdateMessage

from ..program.peers import Peer
from ..program.ports import free_address

ALGORITHM = "hmac-sha256"


class Knot:
    """``zones``: names to further lines of their zone files. ``name_servers``: addresses that the
    zones name as theirs, else its own; it notifies them of changes unless ``notifies`` is False."""

    def __init__(
        self,
        zones: Mapping[str, str],
        *,
        primary: Knot | None = None,
        address: str | None = None,
        name_servers: tuple[str, ...] = (),
        notifies: bool = True,
    ) -> None:
        if shutil.which("knotd") is None:
            pytest.skip("needs Debian's package knot")
        self.address = address or free_address(53)
        self.key = primary.key if primary else base64.b64encode(secrets.token_bytes(32)).decode()
        self._folder = Path(tempfile.mkdtemp(prefix="knot-", dir="/var/tmp"))
        self._running: Peer | None = None
        self._zones = dict(zones)
        serving = name_servers or (self.address,)
        if primary is None:
            for zone, more in zones.items():
                (self._folder / f"{zone}.zone").write_text(_zone_file(zone, more, serving))
        others = [one for one in serving if one != self.address] if notifies else []
        (self._folder / "knot.conf").write_text(self._configuration(primary, others))

    def __enter__(self) -> Knot:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Returns when it answers for all its zones."""
        if os.geteuid() == 0:
            account = pwd.getpwnam("knot")
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        self._running = Peer(
            ["knotd", "-c", str(self._folder / "knot.conf")],
            self._folder / "knot.log",
            lambda _: all(map(self._serves, self._zones)),
        )

    def _serves(self, zone: str) -> bool:
        query = dns.message.make_query(zone + ".", "SOA")
        try:
            return bool(dns.query.tcp(query, self.address, 1).answer)
        except (OSError, EOFError, dns.exception.DNSException):
            return False

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def key_file(self, folder: Path) -> Path:
        """The key as tsig-keygen writes it, for the server's user to read."""
        path = folder / "acme.key"
        path.write_text(f'key "acme" {{ algorithm {ALGORITHM}; secret "{self.key}"; }};\n')
        path.chmod(0o644)
        return path

    def texts(self, name: str) -> list[str]:
        """The TXT records that it shows at exactly this name."""
        query = dns.message.make_query(name + ".", "TXT")
        response = dns.query.tcp(query, self.address, 5)
        return sorted(
            b"".join(one.strings).decode()
            for rrset in response.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for one in rrset
        )

    def set_text(self, name: str, value: str) -> None:
        """As the operator of the zone would."""
        self._update(name, lambda update, at: update.add(at, 1, "TXT", f'"{value}"'))

    def remove_text(self, name: str, value: str) -> None:
        self._update(name, lambda update, at: update.delete(at, "TXT", f'"{value}"'))

    def _update(self, name: str, change: Callable[[UpdateMessage, dns.name.Name], None]) -> None:
        zone = max((one for one in self._zones if name.endswith(one)), key=len)
        key = dns.tsig.Key("acme", self.key, f"{ALGORITHM}.")
        update = UpdateMessage(f"{zone}.", keyring=key)
        change(update, dns.name.from_text(name))
        assert dns.query.tcp(update, self.address, 5).rcode() == 0

    def log(self) -> str:
        return (self._folder / "knot.log").read_text(errors="replace")

    def _configuration(self, primary: Knot | None, others: list[str]) -> str:
        remotes = {"primary": primary.address} if primary else {}
        remotes |= {f"secondary{number}": one for number, one in enumerate(others)}
        lines = [
            "server:",
            f"  listen: {self.address}@53",
            f"  rundir: {self._folder}",
            "  udp-workers: 1",
            "  tcp-workers: 1",
            "  background-workers: 1",
            *(["  user: knot:knot"] if os.geteuid() == 0 else []),
            "log:",
            "  - target: stderr",
            "    any: info",
            "database:",
            f"  storage: {self._folder}",
            "key:",
            "  - id: acme",
            f"    algorithm: {ALGORITHM}",
            f"    secret: {self.key}",
            *(["remote:"] if remotes else []),
        ]
        for name, at in remotes.items():
            lines += [f"  - id: {name}", f"    address: {at}@53"]
        lines += [
            "acl:",
            "  - id: updates",
            "    key: acme",
            "    action: update",
            "    update-type: TXT",
            "  - id: transfers",
            "    address: 127.0.0.0/8",
            "    action: [transfer, notify]",
            "zone:",
        ]
        source = "master: primary" if primary else f"notify: [{', '.join(remotes)}]"
        for zone in self._zones:
            lines += [
                f"  - domain: {zone}",
                f"    storage: {self._folder}",
                f"    file: {zone}.zone",
                "    zonefile-sync: -1",
                "    acl: [updates, transfers]",
                *([f"    {source}"] if remotes else []),
            ]
        return "\n".join(lines) + "\n"


def _zone_file(zone: str, more: str, serving: tuple[str, ...]) -> str:
    servers = "".join(
        f"@ NS ns{number}\nns{number} A {address}\n" for number, address in enumerate(serving, 1)
    )
    return f"$ORIGIN {zone}.\n$TTL 1\n@ SOA ns1 hostmaster 1 3600 600 86400 1\n{servers}{more}\n"

"""``watch: true``: the configuration's file is in force when it has been saved."""

from __future__ import annotations

from pathlib import Path

from support.acme.pebble import Pebble
from support.http.client import https
from support.program.server import Server, treehouse


def text(folder: Path, ports: tuple[int, int], sites: str, more: str = "") -> str:
    return f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
watch: true
{more}
sites:
{sites}
"""


def save(path: Path, content: str) -> None:
    """Whole, as most editors do it."""
    other = path.with_name(path.name + "~")
    other.write_text(content)
    other.rename(path)


def reloads(server: Server) -> list[str]:
    return [line["message"] for line in server.log if line["message"].startswith("reloading: ")]


def test_a_saved_file_is_in_force_and_a_faulty_one_changes_nothing(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    path = folder / "config.yaml"
    one = f"  - {{names: [a.test], root: {root}}}\n"
    two = one + "  - {names: [b.test], redirect: 'https://a.test{path}'}\n"
    path.write_text(text(folder, ports, one))
    ca = folder / "state/internal-ca/root.pem"
    with Server(["--config", str(path)], folder) as server:
        server.await_log("a.test: certificate obtained")
        save(path, text(folder, ports, two))
        server.await_log("b.test: certificate obtained")
        assert https(ports[1], "b.test", ca).asks("/x", "b.test").status == 308

        since = len(server.log)
        save(path, text(folder, ports, two + "  - {names: [c.test], rot: /srv}\n"))
        server.await_log("nothing was changed", since=since)
        since = len(server.log)
        save(path, text(folder, ports, one))
        server.await_log("generation 2 has finished", since=since)
        assert https(ports[1], "a.test", ca).asks("/", "a.test").status == 200
        server.await_certificates(folder / "state", {"a.test"})
        assert server.status(folder / "state")["generation"] == 3
        # Each change once, the faulty one too.
        assert reloads(server) == [f"reloading: {path}: changed"] * 3
        faults = [line["message"] for line in server.log if line["level"] == "error"]
        assert len(faults) == 2, faults
        assert "sites[2].rot" in faults[0]

        # And off is off.
        save(path, text(folder, ports, two).replace("watch: true", "watch: false"))
        server.await_log("generation 3 has finished")
        generation = server.status(folder / "state")["generation"]
        save(path, text(folder, ports, one))
        assert treehouse("reload", "--config", str(path)).returncode == 0
        assert server.status(folder / "state")["generation"] == generation + 1


def test_a_file_that_the_configuration_names_is_watched_too(
    folder: Path, root: Path, ports: tuple[int, int]
) -> None:
    """The CA that the CA's own TLS is trusted by: replaced, and then given up and deleted."""
    with Pebble(*ports) as pebble:
        path, trusted = folder / "config.yaml", folder / "ca.pem"
        trusted.write_bytes(pebble.root())  # another CA's
        acme = f'acme: {{directory: "{pebble.directory}", ca_file: {trusted}}}'
        site = f"  - {{names: [a.example], root: {root}}}\n"
        path.write_text(text(folder, ports, site, acme))
        with Server(["--config", str(path)], folder) as server:
            server.await_log("a.example: attempt 1 failed.*not trusted")
            since = len(server.log)
            save(trusted, pebble.ca_pem.decode())
            server.await_log(f"reloading: {trusted}: changed")
            server.await_log("generation 1 has finished", since=since)
            done = treehouse("certs", "renew", "a.example", "--config", str(path))
            assert done.returncode == 0, done.stderr

            since = len(server.log)
            trusted.unlink()
            save(path, text(folder, ports, site, "acme: {directory: internal}"))
            server.await_log("a.example: certificate obtained", since=since)
            assert https(ports[1], "a.example", folder / "state/internal-ca/root.pem")

"""Sites from containers' labels: the real program as root beside a real Podman, and beside a server
that speaks the Docker API. Who may open the socket, what follows a container's life, and what a fault
in a label costs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.http.client import https
from support.program.engines import GROUP, Engine, FakeDocker, engine
from support.program.server import Server, await_gone, packages, treehouse

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the socket is another group's")


@pytest.fixture(params=["docker", "podman"])
def docker(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(request.param) as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeDocker]:
    with engine("docker") as made:
        assert isinstance(made, FakeDocker)
        yield made


def config(folder: Path, ports: tuple[int, int], docker: Engine, more: str = "") -> Path:
    path = folder / "config.yaml"
    path.write_text(
        f"""
listen: {{http: ["127.0.0.1:{ports[0]}"], https: ["127.0.0.1:{ports[1]}"]}}
workers: 1
state: {folder / "state"}
sandbox: require
acme: {{directory: internal}}
providers: {{docker: "{docker.url}"}}
{more}
"""
    )
    return path


def page(port: int, name: str) -> str | None:
    """What the site says; None where there is none."""
    try:
        with https(port, name, None) as talk:
            answer = talk.asks("/", name)
            return answer.body.decode().strip() if answer.status == 200 else str(answer.status)
    except OSError:
        return None


def await_page(
    port: int, name: str, wanted: Callable[[str | None], bool], within: float = 60
) -> None:
    deadline = time.monotonic() + within
    while not wanted(found := page(port, name)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # what changes here is another machine's view: it has no event


def test_the_life_of_a_container(folder: Path, ports: tuple[int, int], docker: Engine) -> None:
    """There before the start, started later, restarted, ended; and the engine away meanwhile."""
    docker.run("early", {"treehouse.domain": "early.localhost"}, "early bird")
    path = config(folder, ports, docker)
    with Server(["--config", str(path)], folder) as server:
        port = ports[1]
        await_page(port, "early.localhost", lambda said: said == "early bird")
        docker.run(
            "late",
            {
                "treehouse.domain": "late.localhost, www.late.localhost",
                "treehouse.headers.set.X-From": "a label",
                "treehouse.routes.0.path": "/old/*",
                "treehouse.routes.0.redirect": "/new/{rest}",
            },
            "late one",
        )
        await_page(port, "late.localhost", lambda said: said == "late one")
        with https(port, "www.late.localhost", None) as talk:
            answer = talk.asks("/", "www.late.localhost")
            assert dict(answer.fields)["x-from"] == "a label"
            assert talk.asks("/old/a", "www.late.localhost").status == 308
        reloads = server.text().count("reloading: ")
        # The engine goes, and what is served stays; it comes back, and a change is seen.
        docker.go_away()
        server.await_log("what is known of its containers stays in force")
        assert page(port, "late.localhost") == "late one"
        assert server.text().count("reloading: ") == reloads
        docker.come_back()
        server.await_log("answers again")
        docker.stop("early")
        docker.start("early")
        await_page(port, "early.localhost", lambda said: said == "early bird")
        docker.remove("early")
        await_page(port, "early.localhost", lambda said: said is None, within=60)
        assert page(port, "late.localhost") == "late one"
        shown = json.loads(treehouse("status", "--json", "--config", str(path)).stdout)
        (provider,) = shown["providers"]
        assert provider["connected"]
        assert provider["containers"] == ["late"]
        (site,) = shown["sites"]
        assert site["source"] == "container late: label treehouse.domain"
        explained = treehouse("explain", "https://late.localhost/", "--config", str(path)).stdout
        assert "[container late: label treehouse.headers.set.X-From]" in explained or (
            "[container late: label treehouse.headers" in explained
        )
        assert server.stop() == 0
    # Without the engine, the next start serves what is known.
    docker.go_away()
    with Server(["--config", str(path)], folder) as server:
        assert page(ports[1], "late.localhost") == "late one"


def test_replicas_share_a_site_and_an_unhealthy_one_is_left_out(
    folder: Path, ports: tuple[int, int], docker: Engine
) -> None:
    labels = {"treehouse.domain": "many.localhost"}
    docker.run("many-1", labels, "one", service="many")
    docker.run("many-2", labels, "two", service="many")
    path = config(folder, ports, docker)
    with Server(["--config", str(path)], folder) as server:
        port = ports[1]
        seen: set[str | None] = set()

        def both(said: str | None) -> bool:
            seen.add(said)
            return {"one", "two"} <= seen

        await_page(port, "many.localhost", both)
        docker.set_health("many-1", healthy=True)
        docker.set_health("many-2", healthy=False)
        server.await_log("container many-2 is unhealthy", within=60)
        in_a_row: list[str | None] = []

        def one_alone(said: str | None) -> bool:
            in_a_row.append(said)
            return in_a_row[-6:] == ["one"] * 6

        await_page(port, "many.localhost", one_alone)
        docker.remove("many-1")  # the other one is better than nobody
        await_page(port, "many.localhost", lambda said: said == "two")
        server.await_log("unhealthy, or paused, and asked all the same")


def test_a_fault_in_a_label_costs_that_site_alone(
    folder: Path, root: Path, ports: tuple[int, int], fake: FakeDocker
) -> None:
    more = f"sites:\n  - {{names: [file.localhost], root: {root}}}"
    path = config(folder, ports, fake, more)
    with Server(["--config", str(path)], folder) as server:
        port = ports[1]
        fake.run("good", {"treehouse.domain": "good.localhost"}, "good")
        slips = {
            "typo": {"treehouse.domain": "typo.localhost", "treehouse.compres": "false"},
            "taken": {"treehouse.domain": "good.localhost"},
            "files": {"treehouse.domain": "file.localhost"},
            "nowhere": {"treehouse.domain": "root.localhost", "treehouse.root": "/nonexistent"},
            "port": {"treehouse.domain": "port.localhost", "treehouse.port": "http"},
            "nameless": {"treehouse.port": "8080"},
        }
        for name, labels in slips.items():
            fake.run(name, labels, name)
        told = {
            "typo": "label treehouse.compres: left out: this key is not known .did you mean compress",
            "taken": '"good.localhost" is a name twice, first at container good',
            "files": '"file.localhost" is a name twice, first at .*config.yaml',
            "nowhere": "label treehouse.root: left out: /nonexistent does not exist",
            "port": '"http" is not a port',
            "nameless": "no treehouse.domain",
        }
        for name, what in told.items():
            server.await_log(f"container {name}.*{what}")
        await_page(port, "good.localhost", lambda said: said == "good")
        assert page(port, "file.localhost") is not None
        before = server.text().count("treehouse.compres: left out")
        assert before == 1
        fake.run("more", {"treehouse.domain": "more.localhost"}, "more")
        await_page(port, "more.localhost", lambda said: said == "more")
        assert server.text().count("treehouse.compres: left out") == before  # told once
        shown = treehouse("status", "--config", str(path)).stdout
        assert "treehouse.compres: left out" in shown
        planned = treehouse("plan", "--config", str(path)).stdout
        assert "no change" in planned.lower() or planned.strip() == "" or "nothing" in planned
        fake.remove("taken")


def test_labels_of_an_image_are_not_heeded(
    folder: Path, ports: tuple[int, int], fake: FakeDocker
) -> None:
    """Who builds an image is not who runs it: it may not take a name."""
    fake.image_labels = {"treehouse.domain": "stolen.localhost"}
    fake.run("image", {}, "image")
    fake.run("own", {"treehouse.domain": "own.localhost"}, "own")
    with Server(["--config", str(config(folder, ports, fake))], folder) as server:
        await_page(ports[1], "own.localhost", lambda said: said == "own")
        server.await_log("treehouse.domain.*a label of the image, which is not heeded")
        assert page(ports[1], "stolen.localhost") is None


def test_one_process_alone_may_open_the_socket(
    folder: Path, ports: tuple[int, int], fake: FakeDocker
) -> None:
    fake.run("web", {"treehouse.domain": "web.localhost"}, "web")
    path = config(folder, ports, fake)
    with Server(["--config", str(path)], folder) as server:
        await_page(ports[1], "web.localhost", lambda said: said == "web")
        groups = {}
        for found in Path("/proc").glob("[0-9]*"):
            try:
                title = (found / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                status = (found / "status").read_text()
                environment = (found / "environ").read_text(errors="replace")
            except OSError:
                continue
            if title.startswith("treehouse-proxy:") and str(folder) in environment + title:
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                groups[title.split("--config")[0].strip()] = fields["Groups"].split()
                assert fields["Uid"].split() == ["65534"] * 4, title
                assert int(fields["CapEff"], 16) == 0
                assert fields["NoNewPrivs"] == "1"
        assert groups.pop("treehouse-proxy: docker-door") == [str(GROUP)]
        assert "treehouse-proxy: docker" in groups
        assert set(map(tuple, groups.values())) == {()}
        # The one that asks is started again when it dies; the door's end is told, and a restart's.
        pid = next(
            int(one.name) for one in Path("/proc").glob("[0-9]*")
            if _title(one) == "treehouse-proxy: docker" and str(folder) in _environment(one)
        )  # fmt: skip
        os.kill(pid, signal.SIGKILL)
        await_gone([pid])
        server.await_log(r"docker \(pid \d+\) was ended by SIGKILL")
        fake.run("next", {"treehouse.domain": "next.localhost"}, "next")
        await_page(ports[1], "next.localhost", lambda said: said == "next")


def _title(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _environment(folder: Path) -> str:
    try:
        return (folder / "environ").read_text(errors="replace")
    except OSError:
        return ""


def test_another_socket_takes_a_restart(
    folder: Path, root: Path, ports: tuple[int, int], fake: FakeDocker
) -> None:
    path = config(folder, ports, fake, f"sites:\n  - {{names: [a.localhost], root: {root}}}")
    text = path.read_text()
    path.write_text(text.replace(f'providers: {{docker: "{fake.url}"}}', ""))
    with Server(["--config", str(path)], folder) as server:
        path.write_text(text)
        done = treehouse("reload", "--config", str(path))
        assert done.returncode == 0, done.stderr
        server.await_log("providers.docker: none → unix:.* needs a restart")


def test_an_upgrade_keeps_what_opens_the_socket(
    folder: Path, ports: tuple[int, int], fake: FakeDocker, program: Path, shared_python: str
) -> None:
    """The successor has no root to make another; its predecessor's process goes on."""
    fake.run("early", {"treehouse.domain": "early.localhost"}, "early")
    path = config(folder, ports, fake)
    try:
        with Server(
            ["--config", str(path)],
            folder,
            cwd=program,
            python=shared_python,
            environment=packages(program),
        ) as server:
            await_page(ports[1], "early.localhost", lambda said: said == "early")
            done = treehouse("upgrade", "--state", str(folder / "state"))
            assert done.returncode == 0, done.stderr
            assert page(ports[1], "early.localhost") == "early"
            fake.run("late", {"treehouse.domain": "late.localhost"}, "late")
            await_page(ports[1], "late.localhost", lambda said: said == "late")
            assert "restart the server" not in server.text()
    finally:
        treehouse("stop", "--state", str(folder / "state"))

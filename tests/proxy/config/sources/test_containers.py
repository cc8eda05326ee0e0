"""Labels of containers become the words of sites, each with its place."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.sources import known_containers
from proxy.config.sources.containers import entries
from proxy.config.sources.known_containers import Container, Network

BRIDGE = Network("bridge", "172.17.0.2", near=True)


def made(labels: dict[str, str], name: str = "web", **more: object) -> Container:
    given: dict[str, object] = {"networks": (BRIDGE,), "exposed": (80,)} | more
    return Container(name, "2026-01-01", labels, **given)  # type: ignore[arg-type] # as the test says


def site(labels: dict[str, str], **more: object) -> dict[str, object]:
    found, told = entries([made({"treehouse.domain": "a.test"} | labels, **more)])
    assert told == [], told
    (entry,) = found
    return entry.site


def slip(labels: dict[str, str], **more: object) -> str:
    found, told = entries([made(labels, **more)])
    assert found == []
    (fault,) = told
    return str(fault)


def test_domain_and_port() -> None:
    assert site({}) == {"names": ["a.test"], "backend": ["http://172.17.0.2:80"]}
    assert site({"treehouse.domain": "a.test, *.b.test"})["names"] == ["a.test", "*.b.test"]
    assert site({"treehouse.port": "8080", "treehouse.scheme": "h2c"})["backend"] == [
        "h2c://172.17.0.2:8080"
    ]


def test_any_key_at_any_depth() -> None:
    assert site(
        {
            "treehouse.compress": "false",
            "treehouse.headers.set.X-Frame-Options": "DENY",
            "treehouse.allow": "[10.0.0.0/8, private]",
            "treehouse.error_pages.404": "/404.html",
            "treehouse.rate_limit": "{rate: 10/s, burst: 20}",
        }
    ) == {
        "names": ["a.test"],
        "compress": "false",
        "headers": {"set": {"X-Frame-Options": "DENY"}},
        "allow": ["10.0.0.0/8", "private"],
        "error_pages": {"404": "/404.html"},
        "rate_limit": {"rate": "10/s", "burst": "20"},
        "backend": ["http://172.17.0.2:80"],
    }


def test_routes_lead_to_the_container_where_they_say_nothing_else() -> None:
    assert site(
        {
            "treehouse.routes.0.path": "/api/*",
            "treehouse.routes.0.rate_limit.rate": "5/s",
            "treehouse.routes.1.path": "/old/*",
            "treehouse.routes.1.redirect": "/new/{rest}",
        }
    )["routes"] == [
        {"path": "/api/*", "rate_limit": {"rate": "5/s"}, "backend": ["http://172.17.0.2:80"]},
        {"path": "/old/*", "redirect": "/new/{rest}"},
        {"path": "/*", "backend": ["http://172.17.0.2:80"]},
    ]


def test_an_answer_of_its_own_needs_no_port() -> None:
    assert site({"treehouse.redirect": "https://b.test{path}"}, exposed=()) == {
        "names": ["a.test"],
        "redirect": "https://b.test{path}",
    }


def test_several_sites_of_one_container() -> None:
    labels = {
        "treehouse.domain": "a.test",
        "treehouse.port": "80",
        "treehouse.sites.admin.domain": "admin.test",
        "treehouse.sites.admin.port": "9000",
    }
    found, told = entries([made(labels)])
    assert told == []
    assert [one.site["backend"] for one in found] == [
        ["http://172.17.0.2:80"], ["http://172.17.0.2:9000"],
    ]  # fmt: skip
    assert found[0].origin != found[1].origin


def test_the_environment_is_not_seen() -> None:
    assert site({"treehouse.headers.set.X-Key": "${PATH}"})["headers"] == {
        "set": {"X-Key": "${PATH}"}
    }


def test_where_the_container_is_reached() -> None:
    far = Network("far", "10.0.0.2", near=False)
    both = (far, BRIDGE)
    published = {"80": ["127.0.0.1", "18080"]}
    assert site({}, networks=both)["backend"] == ["http://172.17.0.2:80"]
    assert site({"treehouse.network": "far"}, networks=both)["backend"] == ["http://10.0.0.2:80"]
    assert site({}, networks=(far,), published=published)["backend"] == ["http://127.0.0.1:18080"]
    assert site({}, networks=(far,))["backend"] == ["http://10.0.0.2:80"]
    assert site({}, networks=(), shares_host=True)["backend"] == ["http://127.0.0.1:80"]
    six = Network("six", "fd00::2", near=True)
    assert site({}, networks=(six,))["backend"] == ["http://[fd00::2]:80"]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ({"treehouse.port": "80"}, "no treehouse.domain"),
        ({"treehouse.domian": "a.test"}, "did you mean domain?"),
        ({"treehouse.domain": "a.test", "treehouse.port": "http"}, '"http" is not a port'),
        ({"treehouse.domain": "a.test", "treehouse.scheme": "ftp"}, '"ftp" is not known here'),
        ({"treehouse.domain": "a.test", "treehouse.network": "x"}, 'in no network "x"'),
        ({"treehouse.domain": "a.test", "treehouse.allow": "[a"}, "label treehouse.allow"),
        ({"treehouse.domain": "a.test", "treehouse.a..b": "c"}, "not the name of a key"),
        ({"treehouse.domain": "a.test", "treehouse.a": "b", "treehouse.a.c": "d"}, "key above it"),
        ({"treehouse.domain": "a.test", "treehouse.names": "b.test"}, "are the same"),
        (
            {"treehouse.domain": "a.test", "treehouse.certificate.key": "/etc/ssl/private/k.pem"},
            "takes no orders from labels",
        ),
        ({"treehouse.domain": "a.test", "treehouse.use": "subprocess:Popen"}, "no label names one"),
        (
            {"treehouse.domain": "a.test", "treehouse.use.0.use": "subprocess:Popen"},
            "label treehouse.use.0.use: left out: a filter",
        ),
        (
            {"treehouse.domain": "a.test", "treehouse.routes.0.use": "[{use: a:B, with: {c: d}}]"},
            "label treehouse.routes.0.use: left out: a filter",
        ),
        (
            {"treehouse.domain": "a.test", "treehouse.routes": "[{path: /a, use: a:B}]"},
            "label treehouse.routes: left out: a filter",
        ),
    ],
)
def test_slips(labels: dict[str, str], what: str) -> None:
    said = slip(labels)
    assert said.startswith("container web")
    assert "left out" in said
    assert what in said, said


def test_ports_that_are_not_one() -> None:
    labels = {"treehouse.domain": "a.test"}
    assert "it has the ports 80, 443" in slip(labels, exposed=(80, 443))
    assert "says nothing of a port" in slip(labels, exposed=())
    assert "cannot be reached" in slip(labels, networks=())


def test_enable() -> None:
    labels = {"treehouse.domain": "a.test", "treehouse.enable": "false"}
    assert entries([made(labels)]) == ([], [])


def test_replicas_of_a_service_are_asked_by_how_they_do() -> None:
    labels = {
        "treehouse.domain": "a.test",
        "com.docker.compose.project": "p",
        "com.docker.compose.service": "web",
    }
    one = made(labels, "web-1", networks=(Network("n", "172.18.0.2", near=True),))
    two = made(labels, "web-2", networks=(Network("n", "172.18.0.3", near=True),))

    def backends(*members: Container) -> list[str]:
        found, _told = entries(members)
        (entry,) = found
        return [url.removeprefix("http://172.18.0.") for url in entry.site["backend"]]

    assert backends(one, two) == ["2:80", "3:80"]
    assert backends(replace(one, condition="unwell"), two) == ["3:80"]
    assert backends(replace(one, condition="starting"), two) == ["3:80"]
    assert backends(replace(one, condition="gone"), replace(two, condition="unwell")) == ["3:80"]
    assert backends(replace(one, condition="gone")) == ["2:80"]
    _found, told = entries([replace(one, condition="unwell")])
    assert "unhealthy" in str(told[0])


def test_two_containers_of_the_same_name_are_two_sites_for_the_checks() -> None:
    """Which of them keeps it is decided where all sites are known: the older one stands first."""
    labels = {"treehouse.domain": "a.test"}
    old, new = made(labels, "old"), replace(made(labels, "new"), created="2026-02-02")
    found, _told = entries([new, old])
    assert [one.origin.where for one in found] == ["container old", "container new"]


def test_what_lies_on_the_disk(tmp_path: Path) -> None:
    known = [
        made({"treehouse.domain": "a.test"}, published={"80": ["127.0.0.1", "18080"]}),
        made({}, "b", condition="unwell", networks=(), image_labels=("treehouse.port",)),
    ]
    assert known_containers.read(tmp_path) == []
    (tmp_path / known_containers.FILE).write_bytes(known_containers.written(known))
    assert known_containers.read(tmp_path) == known
    assert known_containers.understood([{"name": "x"}, 5, None]) == []


def test_no_link_is_followed_and_no_pipe_is_read(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(known_containers.written([made({"treehouse.domain": "a.test"})]))
    (tmp_path / known_containers.FILE).symlink_to(other)
    assert known_containers.read(tmp_path) == []
    (tmp_path / known_containers.FILE).unlink()
    os.mkfifo(tmp_path / known_containers.FILE)
    assert known_containers.read(tmp_path) == []

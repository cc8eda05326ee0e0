"""The tables of ``status``, as scripts, mails and terminals get them."""

from __future__ import annotations

import pytest

from proxy.cli.status_table import show, show_certificates, show_cluster

LONG = "a-rather-long-name-of-a-site.example.org"
DOCUMENT = {
    "certificates": [
        {
            "names": [LONG, "www." + LONG],
            "source": "acme",
            "key_type": "ecdsa-p256",
            "state": "failed",
            "not_after": None,
            "served": False,
            "contested": None,
            "renew_at": None,
            "last_error": "[url] the CA could not reach port 80 of 192.0.2.1: connection refused",
        }
    ],
    "unwanted": [],
    "providers": [],
    "cluster": None,
    "sites": [],
}


def test_nothing_is_cut_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show_certificates(DOCUMENT)
    said = capsys.readouterr().out
    for text in (*DOCUMENT["certificates"][0]["names"], DOCUMENT["certificates"][0]["last_error"]):
        assert text in said


def test_a_width_that_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show_certificates(DOCUMENT)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("columns", ["5", "30", "60", "80", "120"])
def test_a_name_is_in_one_piece_on_every_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    show_certificates(DOCUMENT)
    said = capsys.readouterr().out
    for name in DOCUMENT["certificates"][0]["names"]:
        assert name in said


def test_what_no_site_wants_is_named_with_the_command_that_removes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_certificates({**DOCUMENT, "unwanted": ["gone.example.org", "old.example.org/rsa"]})
    said = capsys.readouterr().out
    assert "no site wants them any more: gone.example.org, old.example.org/rsa\n" in said
    assert "certs forget NAME" in said


def test_without_a_server_the_page_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = dict.fromkeys(("pid", "uid", "gid", "started_at", "generation"))
    lists: dict[str, list[object]] = {
        "workers": [],
        "listeners": [],
        "upstreams": [],
        "providers": [],
        "cluster": None,
        "sites": [],
    }
    show({**DOCUMENT, **nothing, **lists, "version": "1"})
    said = capsys.readouterr().out
    assert said.startswith("treehouse-proxy 1: no server runs\n")
    assert "worker" not in said
    assert LONG in said


def test_a_backend_that_nobody_has_tried_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    one = {
        "url": "http://a:1",
        "draining": False,
        "last_error": None,
        "in_flight": 0,
        "failures": 0,
    }
    both = [{**one, "healthy": "untried"}, {**one, "url": "http://b:1", "healthy": "no"}]
    show({**DOCUMENT, "version": "1", "pid": 1, "uid": 2, "generation": 1, "started_at": "now",
          "workers": [], "listeners": [], "upstreams": both})  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert any("http://a:1" in line and "not tried yet" in line for line in lines)
    assert any("http://b:1" in line and " no " in line for line in lines)


def test_sites_of_containers_say_where_they_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    provider = {
        "kind": "docker", "url": "unix:/run/docker.sock", "connected": False,
        "last_error": "it is not there", "containers": ["web"],
        "left_out": ["container db: left out: it says nothing of a port (say which one)"],
    }  # fmt: skip
    sites = [
        {"names": ["a.test"], "source": "container web: label treehouse.domain"},
        {"names": ["b.test"], "source": "/etc/c.yaml:3:5"},
    ]
    show({**DOCUMENT, "version": "1", "pid": 1, "uid": 2, "generation": 1, "started_at": "now",
          "workers": [], "listeners": [], "upstreams": [], "cluster": None, "providers": [provider],
          "sites": sites})  # type: ignore[typeddict-item] # fmt: skip
    said = capsys.readouterr().out
    assert "docker unix:/run/docker.sock: cannot be asked: it is not there; containers: web" in said
    assert "  container db: left out" in said
    assert "a.test" in said
    assert "b.test" not in said


def test_each_difference_between_machines_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def member(node: str, differs: int, otherwise: list[str]) -> dict[str, object]:
        return {
            "node": node, "version": "1", "since": None, "orders": True, "seen": 1, "behind": 0,
            "clock": 0, "differs": differs, "otherwise": otherwise,
        }  # fmt: skip

    status = {
        "name": "shop", "node": "web-1", "orders": True, "ordering": ["web-1"], "connected": True,
        "fault": None, "alone": False, "order_below": 0.1, "refused": {}, "behind": 0,
        "revision_behind": 0,
        "members": [
            member("web-1", 0, []), member("web-2", 7, ["a", "b", "c", "d", "e"]),
            member("web-3", 1, ["a"]),
        ],
    }  # fmt: skip
    contested = {
        "name": "a",
        "contested": "a: web-2 and this node (web-1) are configured differently",
    }
    show_cluster(status, [contested, {"name": "b", "contested": None}])  # type: ignore[arg-type]  # what is shown of them
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "web-2 wants otherwise than this machine: a, b, c, d, e and 2 more",
        "web-3 wants otherwise than this machine: a",
        "a: web-2 and this node (web-1) are configured differently",
    ]


def test_a_machine_that_has_a_fault_and_hears_the_others_is_not_said_to_be_cut_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = {
        "name": "shop", "node": "web-1", "orders": True, "ordering": ["web-1"], "connected": True,
        "fault": "another machine is called web-1, too", "alone": False, "order_below": 0.1,
        "refused": {}, "behind": 0, "revision_behind": 0, "members": [],
    }  # fmt: skip
    show_cluster(status, [])  # type: ignore[arg-type]  # what is shown of it
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "another machine is called web-1, too"
    show_cluster({**status, "connected": False, "fault": "no answer"}, [])  # type: ignore[arg-type]  # the same
    assert "what is on the disk is served: no answer" in capsys.readouterr().out

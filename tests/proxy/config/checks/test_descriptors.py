"""Connections and document roots that the limit of open files has no room for."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from proxy import open_files
from proxy.config.checks import descriptors
from proxy.config.load import ConfigurationFaults, Options, load
from proxy.config.model import Config, FilesAction, Limits, RedirectAction, Route, Site


def config(connections: int, sites: int = 1, roots: int = 0) -> Config:
    every = tuple(
        Site(
            (f"s{number}.test",),
            (
                Route("/*", FilesAction(Path(f"/srv/{number}")))
                if number < roots
                else Route("/*", RedirectAction("https://b.test", 308)),
            ),
        )
        for number in range(sites)
    )
    return Config(every, Path("/s"), limits=Limits(connections=connections))


@pytest.mark.parametrize(
    ("connections", "most", "room"),
    [
        (10_000, None, None),
        (10_000, 1_048_576, None),
        (10_000, 10_128, None),
        (10_000, 10_127, 9_999),
        (10_000, 4096, 3968),
        (10_000, 256, 128),
        (50, 256, None),
        (10, 100, 0),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(
    connections: int, most: int | None, room: int | None
) -> None:
    found = descriptors.shortfall(config(connections), most)
    if room is None:
        assert found is None
        return
    assert found is not None
    what, how = found
    assert f"may have {most} open files, which is enough for {room} connections" in what
    assert f"LimitNOFILE={connections * 2 + 128} " in how
    assert f"write connections: {max(room // 2, 1)}" in how
    assert descriptors.unstartable(config(connections), most) is None


def test_the_hard_limit_counts_and_the_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "state: s\nlimits:\n  connections: 1000\nsites: [{names: [a.test], redirect: https://b.test}]\n"
    )
    monkeypatch.setattr(open_files, "_may_raise_hard", lambda: False)
    for hard, told in ((256, 1), (1_000_000, 0)):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, hard=hard: (128, hard))
        notices = load(Options(config=path), now_uid=1000).notices
        assert len(notices) == told, notices
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (128, 256))
    (notice,) = load(Options(config=path), now_uid=1000).notices
    assert notice.startswith(f"{path}:3:16: limits.connections: a worker may have 256 open files,")
    # Whoever may raise the hard limit does so at the start.
    monkeypatch.setattr(open_files, "_may_raise_hard", lambda: True)
    assert not load(Options(config=path), now_uid=1000).notices


def test_certificates_take_a_descriptor_for_many() -> None:
    many = config(10_000, 10_000)
    assert descriptors.shortfall(many, 10_400) is None
    found = descriptors.shortfall(many, 10_300)
    assert found is not None
    assert "10300 open files, which is enough for 9976 connections" in found[0]
    assert descriptors.shortfall(config(400, 1_000), 800) is None


def test_each_document_root_takes_one() -> None:
    rooted = config(1_000, 500, 300)
    assert descriptors.beside(rooted) - descriptors.beside(config(1_000, 500)) == 300
    found = descriptors.shortfall(rooted, 1_000)
    assert found is not None
    assert f"enough for {1_000 - descriptors.beside(rooted)} connections" in found[0]
    assert descriptors.wanted(rooted) > 2 * 1_000 + 300


def test_roots_for_which_there_is_no_room_at_all_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["state: s", "limits: {connections: 500}", "sites:"]
    # Two rules for one root are two handlers. The folder is one that anybody may enter.
    for number in range(300):
        rules = f"root: /usr, fallback: /{number}.html"
        lines.append(f"  - {{names: [s{number}.test], {rules}}}")
    path = tmp_path / "c.yaml"
    path.write_text("\n".join(lines))
    monkeypatch.setattr(open_files, "most", lambda: 256)
    with pytest.raises(ConfigurationFaults) as raised:
        load(Options(config=path), now_uid=1000)
    (fault,) = raised.value.faults
    taken = 300 + 64 + 40 + 300 // 64
    assert fault.origin.line == 4
    assert f"holds 300 document roots open and needs {taken} open files" in fault.what
    assert "the hard limit (RLIMIT_NOFILE) is 256" in fault.what
    needed = 2 * 500 + 2048 + 128 + taken - 64
    assert f"ulimit -n {needed}" in fault.remedy
    assert f"LimitNOFILE={needed}" in fault.remedy
    monkeypatch.setattr(open_files, "most", lambda: 2000)
    assert not load(Options(config=path), now_uid=1000).notices


def test_the_soft_limit_is_raised_and_none_is_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: made.append(limits))
    monkeypatch.setattr(open_files, "_ceiling", lambda: 5_000)
    for soft, hard, mighty, count, limits in (
        (128, 1_000, False, 500, (500, 1_000)),
        (128, 1_000, False, 2_000, (1_000, 1_000)),
        (128, 1_000, True, 2_000, (2_000, 2_000)),
        (128, 1_000, True, 9_000, (5_000, 5_000)),
        (128, resource.RLIM_INFINITY, True, 9_000, (9_000, resource.RLIM_INFINITY)),
        (800, 1_000, True, 500, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, True, 500, None),
    ):
        made.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, now=(soft, hard): now)
        monkeypatch.setattr(open_files, "_may_raise_hard", lambda may=mighty: may)
        open_files.raise_to(count)
        assert made == ([] if limits is None else [limits])


@pytest.mark.parametrize("ceiling", [0, 500], ids=["unknown", "lowered since"])
def test_a_ceiling_below_the_hard_limit_lowers_nothing(
    monkeypatch: pytest.MonkeyPatch, ceiling: int
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: made.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (128, 1_000))
    monkeypatch.setattr(open_files, "_ceiling", lambda: ceiling)
    monkeypatch.setattr(open_files, "_may_raise_hard", lambda: True)
    open_files.raise_to(2_000)
    assert made == [(1_000, 1_000)]

"""What is told of the disk, and how often: each look is one line of the conversation."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config.model import Acme, BackendTls, Config, ExternalAccount, OwnCertificate, Site
from proxy.config.referenced_files import mark, referred
from proxy.supervisor.reload.file_watch import FileWatch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("one")
    return path


@pytest.fixture
def config(tmp_path: Path, source: Path) -> Config:
    ca = tmp_path / "ca.pem"
    ca.write_text("ca")
    return Config(
        sites=(), state=tmp_path / "state", acme=Acme(ca_file=ca), source=source, watch=True
    )


def replaced(path: Path, text: str) -> None:
    """As editors and deployments do it."""
    other = path.with_name("other")
    other.write_text(text)
    other.rename(path)


def test_nothing_is_told_of_what_stays(config: Config) -> None:
    watch = FileWatch(config)
    assert [watch.changed() for _ in range(3)] == [None] * 3


def test_a_change_is_told_once_it_has_stood_for_a_look(config: Config, source: Path) -> None:
    watch = FileWatch(config)
    replaced(source, "two")
    assert watch.changed() is None
    assert watch.changed() == f"{source}: changed"
    assert [watch.changed() for _ in range(3)] == [None] * 3


def test_a_file_that_is_still_being_written_is_waited_for(config: Config, source: Path) -> None:
    watch = FileWatch(config)
    with source.open("w") as file:
        for piece in ("a", "b", "c"):
            file.write(piece)
            file.flush()
            assert watch.changed() is None
    assert watch.changed() == f"{source}: changed"


def test_files_that_change_together_are_told_together(config: Config, source: Path) -> None:
    watch = FileWatch(config)
    ca = config.acme.ca_file
    assert ca is not None
    replaced(source, "two")
    replaced(ca, "two")
    assert [watch.changed(), watch.changed()] == [None, f"{ca}, {source}: changed"]


def test_a_file_that_is_gone_and_comes_back(config: Config, source: Path) -> None:
    watch = FileWatch(config)
    source.unlink()
    assert [watch.changed(), watch.changed()] == [None, f"{source}: changed"]
    source.write_text("back")
    assert [watch.changed(), watch.changed()] == [None, f"{source}: changed"]


def test_a_link_that_is_turned_is_a_change(config: Config, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    link = tmp_path / "link.yaml"
    link.symlink_to("one")
    watch = FileWatch(replace(config, source=link))
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    assert [watch.changed(), watch.changed()] == [None, f"{link}: changed"]


def test_only_certificates_are_watched_unless_the_configuration_says_so(
    config: Config, source: Path, tmp_path: Path
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text("chain")
    key.write_text("key")
    own = Site(("a.test",), (), certificates=(OwnCertificate(chain, key),))
    watch = FileWatch(replace(config, watch=False, sites=(own,)))
    replaced(source, "two")
    assert [watch.changed(), watch.changed()] == [None, None]
    replaced(chain, "two")
    assert [watch.changed(), watch.changed()] == [None, f"{chain}: changed"]


def test_a_reload_by_hand_is_not_followed_by_another(config: Config, source: Path) -> None:
    watch = FileWatch(config)
    replaced(source, "two")
    watch.reread(lambda: config)
    assert [watch.changed() for _ in range(3)] == [None] * 3


def test_what_changes_while_it_is_read_is_found_afterwards(config: Config, source: Path) -> None:
    watch = FileWatch(config)

    def read() -> Config:
        replaced(source, "too late for this reading")
        return config

    watch.reread(read)
    assert [watch.changed(), watch.changed()] == [None, f"{source}: changed"]


def test_a_faulty_file_is_told_once_and_again_when_it_has_changed(
    config: Config, source: Path
) -> None:
    watch = FileWatch(config)

    def read() -> Config:
        raise ValueError("faulty")

    for text in ("faulty", "still faulty"):
        replaced(source, text)
        assert [watch.changed(), watch.changed()] == [None, f"{source}: changed"]
        with pytest.raises(ValueError, match="faulty"):
            watch.reread(read)
        assert [watch.changed() for _ in range(3)] == [None] * 3


def test_a_reload_that_turns_it_on_or_off(config: Config, source: Path) -> None:
    watch = FileWatch(replace(config, watch=False))
    watch.reread(lambda: config)
    replaced(source, "two")
    assert [watch.changed(), watch.changed()] == [None, f"{source}: changed"]
    watch.reread(lambda: replace(config, watch=False))
    replaced(source, "three")
    assert [watch.changed(), watch.changed()] == [None, None]


def test_every_file_that_a_configuration_names_is_found(config: Config, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("1", "2", "3"))
    acme = Acme(ca_file=first, eab=ExternalAccount("kid", second), fallback=(Acme(ca_file=third),))
    assert set(referred(replace(config, acme=acme))) == {first, second, third}
    assert list(referred(BackendTls(ca_file=first))) == [first]


def test_a_mark_tells_states_of_a_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "file"
    marks = [mark(path)]
    path.write_text("one")
    marks.append(mark(path))
    path.write_text("three")
    marks.append(mark(path))
    os.utime(path, ns=(0, 0))
    marks.append(mark(path))
    replaced(path, "three")
    os.utime(path, ns=(0, 0))
    marks.append(mark(path))
    assert len(set(marks)) == len(marks)
    assert mark(path) == mark(path)

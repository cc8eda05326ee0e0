"""The file of the control socket, when somebody removes it or its directory."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.supervisor.control.server import ControlSocket
from proxy.supervisor.timers import Timers


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlSocket]:
    (tmp_path / "state").mkdir()
    with selectors.DefaultSelector() as selector:
        made = ControlSocket(tmp_path / "state/control.sock", selector, Timers())
        made.open()
        yield made
        made.close()


def test_it_is_told_once_that_the_directory_is_gone(
    control: ControlSocket, caplog: pytest.LogCaptureFixture
) -> None:
    control.path.unlink()
    control.path.parent.rmdir()
    with caplog.at_level(logging.WARNING):
        control.look()
        control.look()
    (line,) = caplog.messages
    assert f"the state directory {control.path.parent} is gone" in line
    assert "restart" in line


def test_it_is_not_made_in_a_directory_that_is_another(
    control: ControlSocket, caplog: pytest.LogCaptureFixture
) -> None:
    """No certificate could be kept there either: what may be written was fixed at the start."""
    control.path.unlink()
    control.path.parent.rename(control.path.parent.with_name("before"))
    control.path.parent.mkdir()
    control.look()
    assert not control.path.exists()
    assert "is gone" in caplog.text


def test_that_of_a_successor_is_left_alone(
    control: ControlSocket, caplog: pytest.LogCaptureFixture
) -> None:
    with selectors.DefaultSelector() as selector:
        successor = ControlSocket(control.path, selector, Timers())
        successor.open()
        mark = control.path.stat().st_ino
        control.look()
        assert control.path.stat().st_ino == mark
        successor.close()
    assert not caplog.messages


def test_after_its_end_it_is_not_made_again(control: ControlSocket) -> None:
    control.close()
    control.look()
    assert not control.path.exists()

"""What is remembered of paths takes little memory, however long they are."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import Fault
from proxy.handlers.files.handler import FileHandler
from proxy.protocol.message import Connection, Request, Response
from proxy.sites.rewriting import Rewriting
from proxy.sites.router import Route, Router
from proxy.transport.clock import Clock

PEER = Connection("192.0.2.9", 4711, "192.0.2.1", 443, b"https")


class Answering:
    def handle(self, request: Request) -> Response:
        return Response(200, [], b"")


def router(_root: Path) -> Callable[[Request], object]:
    return Router([Route("/a", Answering()), Route("/*", Answering())]).find


def rewriting(_root: Path) -> Callable[[Request], object]:
    return Rewriting(Answering(), False, "/new/{rest}").handle


def rewriting_of_queries(_root: Path) -> Callable[[Request], object]:
    return Rewriting(Answering(), False, "/new/{query}").handle


def files(root: Path) -> Callable[[Request], object]:
    return FileHandler(root, Clock()).handle


@pytest.mark.parametrize("made", [router, rewriting, rewriting_of_queries, files])
def test_long_paths_are_not_kept(
    made: Callable[[Path], Callable[[Request], object]], tmp_path: Path
) -> None:
    asked = made(tmp_path)
    tracemalloc.start()
    try:
        for number in range(600):
            target = b"/%d%b?%d%b" % (number, b"x" * 7000, number, b"y" * 7000)
            request = Request(b"GET", target, b"1.1", b"a", b"a", [], PEER)
            with contextlib.suppress(Fault):  # there is no such file
                asked(request)
        used, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 1_000_000

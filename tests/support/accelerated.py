"""The accelerated lane as it is built from the source beside the tests, whatever lane runs here."""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import cast

from proxy.accelerated import Lane
from proxy.accelerated.build import build
from proxy.config.model import Limits
from proxy.protocol.exchange import bind
from proxy.protocol.h1.fast_parser import AcceleratedParser, FastParser


@functools.cache
def lane() -> Lane:
    """Return the lane, bound; TREEHOUSE_LANE may name one that has been built, for example with
    ``--sanitize``. Raises `RuntimeError` where it cannot be built."""
    made = os.environ.get("TREEHOUSE_LANE")
    if made is None:
        folder = tempfile.mkdtemp(prefix="th-lane-")
        atexit.register(shutil.rmtree, folder)
        made = str(build(Path(folder)))
    spec = importlib.util.spec_from_file_location(
        "lane", made, loader=ExtensionFileLoader("lane", made)
    )
    assert spec is not None
    assert spec.loader is not None
    built = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(built)
    found = cast(Lane, built)
    bind(found)
    bound(found, Limits())  # binds templates as well
    return found


def bound(built: Lane, limits: Limits) -> AcceleratedParser:
    """Return a parser that uses a lane; to make one binds the lane to the class of templates."""
    return AcceleratedParser(limits, built)


def leaked(watched: Sequence[object], all_of_it: Callable[[], object], most: int) -> list[int]:
    """Call ``all_of_it`` 2,000 times, and return the changes of the ``watched`` objects' reference
    counts that are larger than ``most``, either way. A call that leaks one reference changes a count
    by 2,000; some objects, None among them, are used elsewhere meanwhile."""
    all_of_it()
    gc.collect()
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(2000):
        all_of_it()
    gc.collect()
    after = [sys.getrefcount(one) for one in watched]
    return [a - b for a, b in zip(after, before, strict=True) if abs(a - b) > most]


def parsers(limits: Limits) -> list[FastParser]:
    """Both forms of the parser, or what there is without a compiler."""
    try:
        return [FastParser(limits), bound(lane(), limits)]
    except RuntimeError:
        return [FastParser(limits)]

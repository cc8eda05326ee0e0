"""The accelerated lane as it is built from the source beside the tests, whatever lane runs here."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import tempfile
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


def parsers(limits: Limits) -> list[FastParser]:
    """Both forms of the parser, or what there is without a compiler."""
    try:
        return [FastParser(limits), bound(lane(), limits)]
    except RuntimeError:
        return [FastParser(limits)]

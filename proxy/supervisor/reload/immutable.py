"""What a running server cannot change, because the privileges to do so are gone: whose it is, and
where its state lies. Pure.

A reload that names something else keeps what is: a certifier that was to use a directory which
nobody has prepared, and which the sandbox does not let it see, would renew nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...config.model import Config

FIXED = ("state", "uid", "gid")


def kept(present: Config, wanted: Config) -> Config:
    """``wanted``, but for what only a restart can change."""
    return replace(wanted, state=present.state, uid=present.uid, gid=present.gid)


def differences(present: Config, wanted: Config) -> Iterator[str]:
    """What is not taken over, for people."""
    for key in FIXED:
        was, is_ = getattr(present, key), getattr(wanted, key)
        if was != is_:
            yield f"{key}: {was} → {is_} needs a restart"

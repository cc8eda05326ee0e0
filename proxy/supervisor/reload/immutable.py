"""Settings that need a restart, because the privileges to change them are gone: the user, the group
and the state directory. Pure.

A reload keeps them as they are. A certifier with another state directory, which nobody has prepared
and which its sandbox hides, would renew nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...config.model import Config

FIXED = ("state", "uid", "gid")


def kept(present: Config, wanted: Config) -> Config:
    """``wanted``, with the settings of ``present`` that only a restart can change."""
    return replace(wanted, state=present.state, uid=present.uid, gid=present.gid)


def differences(present: Config, wanted: Config) -> Iterator[str]:
    """A line for each setting that a reload leaves as it is."""
    for key in FIXED:
        was, is_ = getattr(present, key), getattr(wanted, key)
        if was != is_:
            yield f"{key}: {was} → {is_} needs a restart"

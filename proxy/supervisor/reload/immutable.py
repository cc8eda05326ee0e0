"""Settings that need a restart, because the privileges to change them are gone: the user, the
group, the state directory, and Docker's socket. Pure.

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
    providers = present.providers if _new_socket(present, wanted) else wanted.providers
    return replace(
        wanted, state=present.state, uid=present.uid, gid=present.gid, providers=providers
    )


def differences(present: Config, wanted: Config) -> Iterator[str]:
    """A line for each setting that a reload leaves as it is."""
    for key in FIXED:
        was, is_ = getattr(present, key), getattr(wanted, key)
        if was != is_:
            yield f"{key}: {was} → {is_} needs a restart"
    if _new_socket(present, wanted):
        was, is_ = _url(present) or "none", _url(wanted)
        yield f"providers.docker: {was} → {is_} needs a restart"


def _new_socket(present: Config, wanted: Config) -> bool:
    """Whether another unix socket is to be opened, which takes the group that it has."""
    url = _url(wanted)
    return url is not None and url.startswith("unix:") and url != _url(present)


def _url(config: Config) -> str | None:
    return config.providers.docker.url if config.providers.docker else None

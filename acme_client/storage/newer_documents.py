"""Keeps what a newer version of this program has written, before a document of ours takes its place
in a store."""

from __future__ import annotations

from . import documents
from .store import Store


def set_aside(store: Store, folder: str, file: str, version: int) -> None:
    """Store a document whose version is newer than ``version`` under another name, too
    (`documents.set_aside`); any other stays as it is. Raises OSError."""
    present = store.load(folder).get(file, b"")
    aside = documents.set_aside(file, present, version)
    if aside is not None:
        store.store(folder, {aside: present})

"""What the look at a document root means. Pure.

A server that has become nobody cannot read what only its owner may: for a program whose point is
that drop this is the trap of the first day. A visitor sees 404, as for a typing error.
"""

from __future__ import annotations

from collections.abc import Iterator

from acme_client.late_dataclass import dataclass

from ..findings import Finding


@dataclass(frozen=True, slots=True)
class RootLook:
    """``index``: there is an index that can be read, which is ``named`` so, or none is needed.
    ``unreadable``: some of the ``count``
    files and folders that ``uid`` may not read. ``whole``: all of the root was looked at.
    ``error``: why nothing in it could be."""

    root: str
    sites: tuple[str, ...]
    uid: int
    index: bool = False
    named: str = "index.html"
    unreadable: tuple[str, ...] = ()
    count: int = 0
    whole: bool = True
    error: str = ""


def findings(look: RootLook) -> Iterator[Finding]:
    about = f"files {look.root}"
    if look.error:
        yield Finding(
            "wrong", about,
            f"uid {look.uid}, as which the server runs, cannot open it: {look.error}; needed by "
            f"{', '.join(look.sites)}",
            f"chmod a+rX {look.root}, and a+x for each folder above it",
        )  # fmt: skip
        return
    if look.count:
        some = ", ".join(look.unreadable) + (", …" if look.count > len(look.unreadable) else "")
        yield Finding(
            "attention", about,
            f"uid {look.uid}, as which the server runs, may not read {look.count} of its files and "
            f"folders; visitors get 404 for them: {some}",
            f"chmod -R a+rX {look.root}",
        )  # fmt: skip
    if not look.index:
        yield Finding(
            "attention", about,
            f"has no {look.named or 'index'} that can be read: / is answered with 404",
            f"write {look.root}/{look.named.partition(' ')[0] or 'index.html'}, or let folders be "
            "listed with listing: true",
        )  # fmt: skip
    if not look.count and look.index:
        part = "" if look.whole else " (the first thousands of them)"
        yield Finding("ok", about, f"its files can be read by uid {look.uid}{part}")

"""The values that readers yield: certificates, accounts, and what they skipped. Nothing is proven
yet; `selection` does that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import field

from ..late_dataclass import dataclass
from ..x509.verify import UNREADABLE, CertificateAndKey
from .safe_tree import Tree, Unreadable


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of another program. ``where`` names it for people, within the source. ``title``
    is what that program calls it, which may be one of its names. ``directory``: the CA's URL,
    where the source tells it."""

    where: str
    title: str
    pair: CertificateAndKey
    directory: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account of another program. ``key_pem`` is PKCS#8. Without ``uri`` the CA finds the
    account by its key (RFC 8555 §7.3.1). ``used``: how many certificates name it."""

    where: str
    directory: str
    uri: str | None
    contact: tuple[str, ...] | None  # URLs, as the CA was told; None where the source has none
    key_pem: bytes = field(repr=False)
    used: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is not imported, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Findings:
    certificates: tuple[Certificate, ...] = ()
    accounts: tuple[Account, ...] = ()
    skipped: tuple[Skipped, ...] = ()


class Collector:
    """Collects findings while a reader works. A fault in one certificate or account skips that one,
    and the reader goes on."""

    def __init__(self) -> None:
        self.certificates: list[Certificate] = []
        self.accounts: list[Account] = []
        self.skipped: list[Skipped] = []

    @contextlib.contextmanager
    def of(self, where: str) -> Iterator[None]:
        """Skip ``where``, with the reason, if reading it fails."""
        try:
            yield
        except Unreadable as error:
            self.skipped.append(Skipped(error.where, error.why))
        except UNREADABLE as error:
            self.skipped.append(Skipped(where, str(error)))

    def folders(self, tree: Tree, path: str = "") -> list[str]:
        """Return the folders in a folder of the tree. Links in their place are skipped, and listed
        so."""
        with self.of(path):
            self.skipped += [
                Skipped(f"{path}/{name}".lstrip("/"), "a symbolic link is not followed")
                for name in tree.links(path)
            ]
            return tree.folders(path)
        return []  # type: ignore[unreachable]

    def findings(self) -> Findings:
        return Findings(tuple(self.certificates), tuple(self.accounts), tuple(self.skipped))

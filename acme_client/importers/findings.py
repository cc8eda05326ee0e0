"""What a reader has found: frozen values, proven by nobody yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..certificates.verify import UNREADABLE, Pair
from .safe_tree import Tree, Unreadable


@dataclass(frozen=True, slots=True)
class Certificate:
    """``where`` names it for people, within the source. ``title`` is what the other program calls
    it, which may be one of its names. ``directory``: of the CA, where the source tells it."""

    where: str
    title: str
    pair: Pair
    directory: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """``key_pem`` is PKCS#8. Without ``uri`` the CA finds the account by its key (RFC 8555
    §7.3.1). ``used``: how many certificates name it."""

    where: str
    directory: str
    uri: str | None
    contact: tuple[str, ...] | None  # URLs, as told to the CA; None where the source forgot them
    key_pem: bytes = field(repr=False)
    used: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """Something that does not come along, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Findings:
    certificates: tuple[Certificate, ...] = ()
    accounts: tuple[Account, ...] = ()
    left: tuple[Left, ...] = ()


class Gathering:
    """Findings in the making: what goes wrong with one thing leaves that one out."""

    def __init__(self) -> None:
        self.certificates: list[Certificate] = []
        self.accounts: list[Account] = []
        self.left: list[Left] = []

    @contextlib.contextmanager
    def of(self, where: str) -> Iterator[None]:
        try:
            yield
        except Unreadable as error:
            self.left.append(Left(error.where, error.why))
        except UNREADABLE as error:
            self.left.append(Left(where, str(error)))

    def folders(self, tree: Tree, path: str = "") -> list[str]:
        """Those in a folder of the tree; links where a folder may be are left out, and said."""
        with self.of(path):
            self.left += [
                Left(f"{path}/{name}".lstrip("/"), "a symbolic link is not followed")
                for name in tree.links(path)
            ]
            return tree.folders(path)
        return []  # type: ignore[unreachable]

    def findings(self) -> Findings:
        return Findings(tuple(self.certificates), tuple(self.accounts), tuple(self.left))

"""Finds the directory URL of a CA of which a source tells only the host, or a name made of its URL.

Pure."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from ..late_dataclass import dataclass

# Directories that other programs use under names of their own, or by default. SSL.com is not
# here: one host of it has two.
WELL_KNOWN = (
    "https://acme-v02.api.letsencrypt.org/directory",
    "https://acme-staging-v02.api.letsencrypt.org/directory",
    "https://acme.zerossl.com/v2/DV90",
    "https://dv.acme-v02.api.pki.goog/directory",
    "https://dv.acme-v02.test-api.pki.goog/directory",
    "https://acme-api.actalis.com/acme/directory",
)


@dataclass(frozen=True, slots=True)
class Directories:
    """Directories of CAs. ``known``: those that the configuration or the command line names; they
    come before those that are well known."""

    known: tuple[str, ...] = ()

    def at(self, authority: str) -> str:
        """Return the directory on this host (with a port, if it is not 443). Raises ValueError
        where none is known, or more than one."""
        found = [one for one in self._all() if urlsplit(one).netloc == authority]
        return _only(found, f"the CA at {authority}")

    def of_url(self, url: str) -> str:
        """Return the directory of the CA that has this URL (an account's, a certificate's)."""
        return self.at(urlsplit(url).netloc)

    def like(self, spelled: str, spell: Callable[[str], str]) -> str:
        """Return the directory that a program spells so. Raises ValueError as `at` does."""
        return _only([one for one in self._all() if spell(one) == spelled], f"the CA {spelled}")

    def _all(self) -> tuple[str, ...]:
        named = tuple(dict.fromkeys(self.known))
        hosts = {urlsplit(one).netloc for one in named}
        return (*named, *(one for one in WELL_KNOWN if urlsplit(one).netloc not in hosts))


def _only(found: list[str], what: str) -> str:
    if not found:
        raise ValueError(
            f"which directory {what} has is not known; name it: --directory URL, or a "
            "configuration with acme.directory"
        )
    if len(found) > 1:
        raise ValueError(f"{what} has several directories; name one: --directory URL")
    return found[0]

"""Of the certificate on disk and the one before it, the better one."""

from __future__ import annotations

from pathlib import Path

import pytest

from acme_client.certificates.recovery import find
from acme_client.certificates.repository import CertificateRepository
from acme_client.storage.directory import DirectoryStore
from acme_client.x509.verify import CertificateAndKey, examine
from support.acme.chains import DAY, chain, split

NOW = 1_800_000_000.0
NAMES = ("a.example", "www.a.example")


def pair(begins: float = -1, ends: float = 80, name: str = "a.example") -> CertificateAndKey:
    return chain(name, now=NOW, begins=begins * DAY, ends=ends * DAY)


def damaged(one: CertificateAndKey) -> CertificateAndKey:
    return CertificateAndKey(one.chain_pem[:200], one.key_pem)


GOOD, BETTER = pair(), pair(ends=89)
EXPIRED, OLDER = pair(-100, -10), pair(-190, -100)
EARLY = pair(30, 120)
FOREIGN = pair(name="b.example")
PARTED = CertificateAndKey(GOOD.chain_pem, BETTER.key_pem)
ALONE = CertificateAndKey(split(GOOD.chain_pem)[0], GOOD.key_pem)


@pytest.mark.parametrize(
    ("current", "before", "served", "on_disk"),
    [
        (None, None, None, None),
        (GOOD, None, GOOD, GOOD),
        (BETTER, GOOD, BETTER, BETTER),
        # Bad whatever the time: the one before it takes its place.
        (damaged(BETTER), GOOD, GOOD, GOOD),
        (PARTED, GOOD, GOOD, GOOD),
        (FOREIGN, GOOD, GOOD, GOOD),
        (damaged(BETTER), EXPIRED, EXPIRED, EXPIRED),
        (damaged(BETTER), None, None, damaged(BETTER)),
        (damaged(BETTER), FOREIGN, None, damaged(BETTER)),
        # Out of its dates, perhaps by our clock: the disk stays as it is.
        (EXPIRED, GOOD, GOOD, EXPIRED),
        (EARLY, GOOD, GOOD, EARLY),
        (EXPIRED, OLDER, EXPIRED, EXPIRED),
        (EXPIRED, None, EXPIRED, EXPIRED),
        (EARLY, None, EARLY, EARLY),
        (EARLY, damaged(GOOD), EARLY, EARLY),
        (ALONE, GOOD, ALONE, ALONE),
    ],
)
def test_which_is_served_and_what_stays_on_disk(
    tmp_path: Path,
    current: CertificateAndKey | None,
    before: CertificateAndKey | None,
    served: CertificateAndKey | None,
    on_disk: CertificateAndKey | None,
) -> None:
    repository = CertificateRepository(DirectoryStore(tmp_path))
    for one in (before, current):
        if one is not None:
            repository.keep_pair("a.example", one)
    found = find(repository, "a.example", NAMES, repository.load("a.example")[1], NOW)
    assert (found.pair if found else None) == served
    assert repository.load("a.example")[1] == on_disk


def test_what_was_obtained_and_is_not_valid_yet_shows_that_the_clock_went_back(
    tmp_path: Path,
) -> None:
    """The one before it may have ended for everybody whose clock is right."""
    repository = CertificateRepository(DirectoryStore(tmp_path))
    for one in (GOOD, EARLY):
        repository.keep_pair("a.example", one)
    serial = examine(EARLY).serial
    found = find(repository, "a.example", NAMES, EARLY, NOW, serial)
    assert found is not None
    assert (found.pair, found.is_fallback) == (EARLY, False)
    found = find(repository, "a.example", NAMES, EARLY, NOW, "another")
    assert found is not None
    assert (found.pair, found.is_fallback) == (GOOD, True)


def test_nor_is_it_served_once_it_has_expired(tmp_path: Path) -> None:
    repository = CertificateRepository(DirectoryStore(tmp_path))
    for one in (GOOD, EXPIRED):
        repository.keep_pair("a.example", one)
    found = find(repository, "a.example", NAMES, EXPIRED, NOW, examine(EXPIRED).serial)
    assert found is not None
    assert found.pair == GOOD

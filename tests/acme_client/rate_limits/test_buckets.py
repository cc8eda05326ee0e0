"""The ledger of a CA's limits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acme_client.errors import IssuanceError
from acme_client.rate_limits.buckets import VERSION, Buckets, Hold
from acme_client.rate_limits.ledger import Ledger, LedgerReservation
from acme_client.rate_limits.published import (
    LETSENCRYPT,
    Cost,
    Limit,
    Limits,
    OrderKind,
    costs,
    failures,
)
from acme_client.storage import documents
from acme_client.storage.atomic import Disk
from acme_client.storage.directory import DirectoryStore
from acme_client.storage.journal import Journal
from support.threads import run_together

LE = "https://acme-v02.api.letsencrypt.org/directory"
OTHER = "https://ca.example/directory"
HOUR, DAY = 3600.0, 86400.0
A = ("a.example.org",)
NEW, RENEWAL, EXEMPT = OrderKind.NEW, OrderKind.RENEWAL, OrderKind.EXEMPT
RULES = "see https://letsencrypt.org/docs/rate-limits/"


def as_read(ledger: Buckets) -> Buckets:
    """As another process reads it."""
    return Buckets.of_document(documents.read(documents.write(ledger.document(), VERSION), VERSION))


def spent(times: int, names: tuple[str, ...], now: float) -> Buckets:
    ledger = Buckets()
    ledger.advance(LETSENCRYPT, now)
    for _ in range(times):
        ledger.spend(costs(names, LETSENCRYPT, NEW), now)
    return ledger


def test_the_last_token_is_left_and_comes_back_at_its_time() -> None:
    ledger = Buckets()
    for _ in range(4):
        assert ledger.refusal(A, LETSENCRYPT, 1000.0, NEW) is None
        ledger.spend(costs(A, LETSENCRYPT, NEW), 1000.0)
    refusal = ledger.refusal(A, LETSENCRYPT, 1000.0, NEW)
    assert refusal is not None
    assert refusal.until == pytest.approx(1000.0 + 7 * DAY / 5)
    assert refusal.why == "certificates for exactly these names: 5 in 7 days are allowed"
    assert ledger.refusal(A, LETSENCRYPT, 1000.0, EXEMPT) is None
    assert ledger.refusal(("b.example.org",), LETSENCRYPT, 1000.0, NEW) is None
    assert ledger.refusal(A, LETSENCRYPT, refusal.until, NEW) is None


def test_a_domain_is_counted_over_all_its_names_and_renewals_are_free_of_it() -> None:
    ledger = Buckets()
    for number in range(49):
        ledger.spend(costs((f"{number}.example.org",), LETSENCRYPT, NEW), 0.0)
    refusal = ledger.refusal(("new.example.org",), LETSENCRYPT, 0.0, NEW)
    assert refusal is not None
    assert "the domain example.org" in refusal.why
    assert ledger.refusal(("new.example.net",), LETSENCRYPT, 0.0, NEW) is None
    assert ledger.refusal(("7.example.org",), LETSENCRYPT, 0.0, RENEWAL) is None


def test_failures_are_counted_by_name() -> None:
    ledger = Buckets()
    for _ in range(4):
        ledger.spend(failures(A, LETSENCRYPT), 0.0)
    refusal = ledger.refusal(("b.example.org", *A), LETSENCRYPT, 0.0, RENEWAL)
    assert refusal is not None
    assert refusal.until == pytest.approx(720.0)
    assert refusal.why == "failed validations of a.example.org: 5 in an hour are allowed"
    assert ledger.refusal(A, LETSENCRYPT, 0.0, EXEMPT) is None


def test_new_accounts_are_counted() -> None:
    ledger = Buckets()
    for _ in range(9):
        assert ledger.account_refusal(LETSENCRYPT, 0.0) is None
        ledger.registered(LETSENCRYPT, 0.0)
    refusal = ledger.account_refusal(LETSENCRYPT, 0.0)
    assert refusal is not None
    assert refusal.until == pytest.approx(1080.0)
    assert Buckets().account_refusal(Limits(), 0.0) is None


@given(st.lists(st.floats(0, 5 * DAY), min_size=1, max_size=80), st.booleans())
def test_never_more_than_the_ca_allows(pauses: list[float], reread: bool) -> None:
    """Against a bucket of the CA's own, which is counted another way."""
    assert LETSENCRYPT.names is not None
    now, tokens, at = 1e9, 5.0, 1e9
    ledger = Buckets()
    for pause in pauses:
        now += pause
        tokens, at = min(5.0, tokens + (now - at) / (7 * DAY / 5)), now
        ledger.advance(LETSENCRYPT, now)
        if ledger.refusal(A, LETSENCRYPT, now, NEW) is None:
            assert tokens >= 1.9
            tokens -= 1
            ledger.spend(costs(A, LETSENCRYPT, NEW), now)
        if reread:
            ledger = as_read(ledger)
        left = ledger.left(Cost("names a.example.org", LETSENCRYPT.names), now)
        assert left == pytest.approx(tokens, abs=1.01)


# In line


def test_a_thousand_who_wait_come_back_one_by_one() -> None:
    assert LETSENCRYPT.orders is not None
    ledger, now = Buckets(), 1e9
    waiting: dict[tuple[str, ...], float] = {(f"www.d{n}.org",): now for n in range(1000)}
    asked = 0
    while waiting:
        names = min(waiting, key=lambda one: waiting[one])
        now = max(now, waiting[names])
        ledger.advance(LETSENCRYPT, now)
        refusal = ledger.refusal(names, LETSENCRYPT, now, NEW)
        asked += 1
        if refusal is None:
            ledger.spend(costs(names, LETSENCRYPT, NEW), now)
            del waiting[names]
        else:
            assert refusal.until > now
            waiting[names] = refusal.until
    assert asked < 2100, "once to be told when, and once then"
    assert now - 1e9 == pytest.approx(701 * LETSENCRYPT.orders.interval, rel=0.02)


def test_asking_again_and_again_leads_to_the_same_place_in_line() -> None:
    ledger = spent(299, ("x.org",), 1e9)
    ledger.due = {"orders": ledger.due["orders"]}
    first = ledger.refusal(A, LETSENCRYPT, 1e9, NEW)
    second = ledger.refusal(("b.example.net",), LETSENCRYPT, 1e9, NEW)
    assert first is not None
    assert second is not None
    assert second.until == pytest.approx(first.until + 36)
    for _ in range(5):
        assert ledger.refusal(A, LETSENCRYPT, 1e9, NEW) == first
    seen = list(ledger.foresee([("c.example.com",)], LETSENCRYPT, 1e9))
    assert len(seen) == 1
    third = ledger.refusal(("d.example.com",), LETSENCRYPT, 1e9, NEW)
    assert third is not None
    assert third.until == pytest.approx(second.until + 36), "who only looks is not in line"


# What the CA says

LATER = 1e9 + 5 * HOUR
# Whoever runs Let's Encrypt's software speaks like it, and may have limits of their own.
KNOWN_OR_NOT = [pytest.param(LETSENCRYPT, id="known"), pytest.param(Limits(), id="unknown")]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (("too many certificates (5) already issued for this exact set of identifiers in the last "
         f"168h0m0s, {RULES}#new-certificates-per-exact-set-of-identifiers"),
         "names a.example.org,b.example.net"),
        (('too many certificates (50) already issued for "example.org" in the last 168h0m0s, '
         f"{RULES}#new-certificates-per-registered-domain"), "domain example.org"),
        (f"too many new orders (300) from this account, {RULES}#new-orders-per-account", "orders"),
        (('too many failed authorizations (5) for "b.example.net" in the last 1h0m0s, '
         f"{RULES}#authorization-failures-per-identifier-per-account"), "failures b.example.net"),
        ("slow down", "order a.example.org,b.example.net"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limits", KNOWN_OR_NOT)
def test_a_429_is_kept_where_it_belongs(text: str, key: str, limits: Limits) -> None:
    names = ("a.example.org", "b.example.net")
    ledger = Buckets()
    ledger.told(text, LATER, names, limits, 1e9)
    assert ledger.held == {key.replace("order ", "order names "): Hold(LATER, text)}
    refusal = ledger.refusal(names, limits, 1e9, NEW)
    assert refusal is not None
    assert (refusal.until, refusal.why) == (LATER, text)
    ledger = as_read(ledger)
    assert ledger.refusal(names, limits, 1e9, NEW) == refusal
    assert ledger.refusal(("c.example.com",), limits, 1e9, NEW) == (
        refusal if key == "orders" else None
    )
    ledger.advance(limits, LATER)
    assert ledger.refusal(names, limits, LATER, NEW) is None


@pytest.mark.parametrize("limits", KNOWN_OR_NOT)
def test_a_429_for_accounts(limits: Limits) -> None:
    ledger = Buckets()
    text = f"too many new registrations (10), {RULES}#new-registrations-per-ip-address"
    ledger.told(text, LATER, A, limits, 1e9)
    refusal = ledger.account_refusal(limits, 1e9)
    assert refusal is not None
    assert refusal.until == LATER


def test_a_ca_that_is_overloaded_is_left_alone_by_all() -> None:
    ledger = Buckets()
    ledger.told_to_leave_alone("maintenance", LATER, 1e9)
    for kind in OrderKind:
        refusal = ledger.refusal(("c.example.com",), Limits(), 1e9, kind)
        assert refusal is not None
        assert (refusal.until, refusal.why) == (LATER, "maintenance")
    ledger.served(("d.example.com",))
    assert ledger.refusal(("c.example.com",), Limits(), 1e9, NEW) is None


def test_no_word_of_a_ca_silences_us_for_ever() -> None:
    ledger = Buckets()
    ledger.told("later", 9e9, A, LETSENCRYPT, 1e9)
    refusal = ledger.refusal(A, LETSENCRYPT, 1e9, NEW)
    assert refusal is not None
    assert refusal.until <= 1e9 + 8 * DAY


# The clock

AHEAD = 400 * DAY


@pytest.mark.parametrize("reread", [False, True])
def test_a_clock_that_ran_ahead_does_no_lasting_harm(reread: bool) -> None:
    ledger = spent(5, A, 1e9 + AHEAD)
    ledger.told("slow down", 1e9 + AHEAD + HOUR, ("b.example.net",), LETSENCRYPT, 1e9 + AHEAD)
    if reread:
        ledger = as_read(ledger)
    assert ledger.advance(LETSENCRYPT, 1e9)
    refusal = ledger.refusal(A, LETSENCRYPT, 1e9, NEW)
    assert refusal is not None
    assert refusal.until == pytest.approx(1e9 + 2 * 7 * DAY / 5)
    assert not ledger.advance(LETSENCRYPT, refusal.until)
    assert ledger.refusal(A, LETSENCRYPT, refusal.until, NEW) is None
    assert ledger.held == {}


def test_nor_does_one_of_which_nobody_wrote_when_it_was() -> None:
    """As the ledgers of the first days: no "at"."""
    ledger = Buckets(due={"names a.example.org": 4e9, "orders": 4e9})
    for hour in range(7 * 24):
        ledger = as_read(ledger)
        ledger.advance(LETSENCRYPT, 1e9 + hour * HOUR)
        assert ledger.due.get("orders", 0.0) <= 1e9 + 3 * HOUR
    assert ledger.refusal(A, LETSENCRYPT, 1e9 + 7 * DAY, NEW) is None


# On disk


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"due": 5}',
        b'{"due": {"orders": "x", "a": true, "b": NaN, "c": 1e400}, "held": {"x": 5, "y": {}}}',
        b'{"version": 99, "due": {"orders": 5e9}}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_what_cannot_be_read_begins_anew(data: bytes) -> None:
    assert Buckets.of_document(documents.read(data, VERSION)) == Buckets()


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def issue(book: Ledger, names: tuple[str, ...] = A, directory: str = LE) -> LedgerReservation:
    reservation = book.reservation(directory, names)
    reservation.reserve(exempt=False)
    reservation.finalizing()
    reservation.commit(None)
    return reservation


def test_over_restarts_with_force_and_without(tmp_path: Path, clock: Clock) -> None:
    for _ in range(4):
        issue(Ledger(DirectoryStore(tmp_path), clock))
    book = Ledger(DirectoryStore(tmp_path), clock)
    with pytest.raises(
        IssuanceError, match=r"until 2001-09-10 11:22 UTC .*renew --force"
    ) as caught:
        issue(book)
    assert caught.value.kind == "limits"
    assert caught.value.not_before == pytest.approx(1e9 + 7 * DAY / 5)
    book.reservation(LE, A, force=True).reserve(exempt=False)
    book.reservation(LE, A).reserve(exempt=True)
    issue(book, A, OTHER)


def test_an_order_that_led_to_nothing_costs_no_certificate(tmp_path: Path, clock: Clock) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    for _ in range(20):
        reservation = book.reservation(LE, A)
        reservation.reserve(exempt=False)
        reservation.commit(IssuanceError("refused", "no"))
    (folder,) = tmp_path.glob("ledgers/[!.]*")
    journal = Journal(DirectoryStore(tmp_path), f"ledgers/{folder.name}", "ledger.json", VERSION)
    kept = Buckets.of_document(journal.read())
    kept.advance(LETSENCRYPT, 1e9 + 1)
    assert set(kept.due) == {"orders"}, "the order itself has counted"


@pytest.mark.parametrize("kind", ["unreachable", "stuck", "unproven"])
def test_one_that_may_have_led_to_a_certificate_does(
    tmp_path: Path, clock: Clock, kind: str
) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    for _ in range(4):
        reservation = book.reservation(LE, A)
        reservation.reserve(exempt=False)
        reservation.finalizing()
        reservation.commit(IssuanceError(kind, "who knows"))
    with pytest.raises(IssuanceError, match="exactly these names"):
        book.reservation(LE, A).reserve(exempt=False)


def test_one_that_died_does(tmp_path: Path, clock: Clock) -> None:
    for _ in range(4):
        Ledger(DirectoryStore(tmp_path), clock).reservation(LE, A).reserve(exempt=False)
    with pytest.raises(IssuanceError, match="exactly these names"):
        Ledger(DirectoryStore(tmp_path), clock).reservation(LE, A).reserve(exempt=False)


def may_fail_again(store: DirectoryStore, clock: Clock, names: tuple[str, ...]) -> bool:
    try:
        Ledger(store, clock).reservation(LE, names).reserve(exempt=False)
    except IssuanceError as problem:
        return "failed validations" not in problem.text
    return True


@pytest.mark.parametrize(
    ("problem", "counts"),
    [
        (IssuanceError("validation", "404", names=("a.example.org",)), True),
        (IssuanceError("validation", "404", names=("b.example.org",)), False),
        (IssuanceError("rate_limited", "no"), False),
        (IssuanceError("refused", "no"), False),
        # The CA may still be looking, and find nobody.
        (IssuanceError("unreachable", "cut off"), True),
        (IssuanceError("stopped", "it ends"), True),
        (IssuanceError("stuck", "slow"), True),
        (None, True),  # killed
    ],
)
def test_failed_validations_are_counted_where_they_may_have_been(
    tmp_path: Path, clock: Clock, problem: IssuanceError | None, counts: bool
) -> None:
    store, both = DirectoryStore(tmp_path), ("a.example.org", "b.example.org")
    for _ in range(4):
        reservation = Ledger(store, clock).reservation(LE, both)
        reservation.reserve(exempt=False)
        if problem is not None:
            reservation.commit(problem)
    assert may_fail_again(store, clock, ("a.example.org", "c.example.org")) is not counts


def test_what_has_been_validated_has_not_failed(tmp_path: Path, clock: Clock) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    for number in range(20):
        issue(book, ("a.example.org", f"{number}.example.net"))
    reservation = book.reservation(LE, ("a.example.org", "last.example.net"))
    reservation.reserve(exempt=False)
    reservation.finalizing()
    reservation.commit(IssuanceError("stuck", "no certificate comes"))
    assert may_fail_again(DirectoryStore(tmp_path), clock, ("a.example.org", "d.example.net"))


def test_a_second_try_of_one_order_takes_one_certificate(tmp_path: Path, clock: Clock) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    reservation = book.reservation(LE, A)
    for _ in range(10):
        reservation.reserve(exempt=False)
    assert book.costs(LE, [A])[1] == (
        "certificates for exactly these names: 1 of 4 left (5 in all)"
    )


def test_what_the_ca_says_is_kept_for_every_ca(tmp_path: Path, clock: Clock) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    reservation = book.reservation(OTHER, A)
    reservation.reserve(exempt=False)
    reservation.commit(IssuanceError("rate_limited", "slow down", not_before=LATER))
    book = Ledger(DirectoryStore(tmp_path), clock)
    with pytest.raises(IssuanceError, match="slow down"):
        book.reservation(OTHER, A).reserve(exempt=False)
    book.reservation(OTHER, ("b.example.net",)).reserve(exempt=False)
    clock.now = LATER
    issue(book, A, OTHER)
    assert book.costs(OTHER, [A]) == []


def test_of_many_at_once_only_as_many_as_the_ca_allows(tmp_path: Path, clock: Clock) -> None:
    """All are admitted, or not, before any has come to its end."""
    limits = Limits(domain=Limit("{}", 10, DAY))
    book = Ledger(DirectoryStore(tmp_path), clock, lambda _: limits)
    barrier, admitted = threading.Barrier(8), []

    def order(number: int) -> None:
        barrier.wait()
        for turn in range(4):
            try:
                book.reservation(LE, (f"{number}-{turn}.example.org",)).reserve(exempt=False)
            except IssuanceError:
                continue
            admitted.append(number)

    run_together(8, order)
    assert len(admitted) == 9


def test_what_an_order_would_cost_in_words(tmp_path: Path, clock: Clock) -> None:
    book = Ledger(DirectoryStore(tmp_path), clock)
    for _ in range(4):
        issue(book)
    assert book.costs(LE, [("b.example.org",), ("c.example.org", "c.example.net"), A]) == [
        "orders of this account: 3 of 296 left (300 in all)",
        "certificates for the domain example.org: 3 of 46 left (50 in all)",
        "certificates for the domain example.net: 1 of 50 left (50 in all)",
        "certificates for exactly these names: 1 of 1 left (5 in all)",
        (
            "a.example.org would wait until 2001-09-10 11:22 UTC "
            "(certificates for exactly these names: 5 in 7 days are allowed)"
        ),
    ]
    assert book.costs(OTHER, [A]) == []


def test_a_disk_that_takes_nothing_keeps_nobody_from_ordering(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_step: str, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    book = Ledger(DirectoryStore(tmp_path, Disk(full)), clock)
    for _ in range(4):
        issue(book)
    with pytest.raises(IssuanceError, match="exactly these names"):
        issue(book)
    assert "cannot be written" in caplog.text


def test_a_ledger_of_a_newer_version_is_kept_beside_ours(tmp_path: Path, clock: Clock) -> None:
    issue(Ledger(DirectoryStore(tmp_path), clock))
    (file,) = tmp_path.rglob("ledger.json")
    newer = file.read_bytes().replace(b'"version": 1', b'"version": 2')
    file.write_bytes(newer)
    for _ in range(2):
        issue(Ledger(DirectoryStore(tmp_path), clock))
    assert (file.parent / "ledger.version-2.json").read_bytes() == newer
    assert b'"version": 1' in file.read_bytes()

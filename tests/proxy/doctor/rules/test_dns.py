"""What the DNS says, and what it means here; CAA as RFC 8659 and RFC 8657 have it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.doctor.rules.dns import CaaFacts, CaaRecord, Issuer, NameFacts, Ours, addresses, caa

PUBLIC = Ours(("127.0.0.1", "::1", "93.184.216.34", "2606:4700::1111", "fe80::1"))
BEHIND_NAT = Ours(("127.0.0.1", "::1", "10.0.0.5", "fe80::1"))


def signs(facts: NameFacts, ours: Ours = PUBLIC, *, public: bool = True) -> list[tuple[str, str]]:
    return [(one.sign, one.text) for one in addresses(facts, ours, public=public)]


@pytest.mark.parametrize(
    ("facts", "ours", "sign", "text"),
    [
        (NameFacts("a.test", ("93.184.216.34",)), PUBLIC, "ok", "is this machine's"),
        (NameFacts("a.test", ("2606:4700::1111",)), PUBLIC, "ok", "AAAA 2606:4700::1111"),
        (NameFacts("a.test", exists=False), PUBLIC, "wrong", "no such name"),
        (NameFacts("a.test"), PUBLIC, "wrong", "neither an A nor an AAAA"),
        (NameFacts("a.test", error="no answer"), PUBLIC, "unknown", "no answer"),
        (
            NameFacts("a.test", ("8.8.8.8",)),
            PUBLIC,
            "attention",
            "not one of this machine's (93.184.216.34)",
        ),
        # A router in front: what that means, and no "wrong".
        (
            NameFacts("a.test", ("8.8.8.8",)),
            BEHIND_NAT,
            "attention",
            "this machine has 10.0.0.5 only",
        ),
        (
            NameFacts("a.test", ("2001:4860::1",)),
            BEHIND_NAT,
            "attention",
            "no address of that kind (IPv6)",
        ),
        (NameFacts("a.test", ("10.0.0.5",)), BEHIND_NAT, "wrong", "not an address of the internet"),
        (NameFacts("a.test", ("127.0.0.1",)), PUBLIC, "wrong", "not an address of the internet"),
    ],
)
def test_an_address(facts: NameFacts, ours: Ours, sign: str, text: str) -> None:
    ((found, said),) = signs(facts, ours)
    assert found == sign
    assert text in said


def test_a_private_address_is_fine_for_a_private_ca() -> None:
    ((sign, _),) = signs(NameFacts("a.test", ("10.0.0.5",)), BEHIND_NAT, public=False)
    assert sign == "ok"


def test_an_alias_is_told_and_its_end_judged() -> None:
    alias, address = signs(NameFacts("a.test", ("93.184.216.34",), alias="b.test"))
    assert alias == ("ok", "DNS: an alias (CNAME) of b.test")
    assert address[0] == "ok"


def test_name_servers_that_do_not_agree() -> None:
    facts = NameFacts(
        "a.test",
        ("93.184.216.34",),
        elsewhere=(("ns2.test", ("8.8.8.8",)), ("ns3.test", ())),
        servers=3,
    )
    _, two, three = signs(facts)
    assert two[0] == three[0] == "attention"
    assert "ns2.test says 8.8.8.8" in two[1]
    assert "ns3.test says that there is none" in three[1]


ISSUER = Issuer(
    "letsencrypt", ("letsencrypt.org",), ("http-01", "tls-alpn-01"), "https://ca/acct/1"
)


def records(*texts: str) -> tuple[CaaRecord, ...]:
    return tuple(
        CaaRecord(int(flags), tag, value)
        for flags, tag, value in (text.split(" ", 2) for text in texts)
    )


@pytest.mark.parametrize(
    ("name", "found", "sign"),
    [
        ("a.test", records("0 issue letsencrypt.org"), "ok"),
        ("a.test", records("0 issue LetsEncrypt.org."), "ok"),
        ("a.test", records("0 ISSUE letsencrypt.org"), "ok"),
        ("a.test", records("0 issue other.test"), "wrong"),
        ("a.test", records("0 issue ;"), "wrong"),
        ("a.test", records("0 issue other.test", "0 issue letsencrypt.org"), "ok"),
        ("a.test", records("0 iodef mailto:a@b"), "ok"),
        ("a.test", records("0 issuewild other.test"), "ok"),  # says nothing of plain names
        ("*.a.test", records("0 issuewild other.test", "0 issue letsencrypt.org"), "wrong"),
        ("*.a.test", records("0 issuewild letsencrypt.org", "0 issue ;"), "ok"),
        ("*.a.test", records("0 issue letsencrypt.org"), "ok"),
        ("a.test", records("128 tbs unknown", "0 issue letsencrypt.org"), "wrong"),
        ("a.test", records("0 tbs unknown", "0 issue letsencrypt.org"), "ok"),
        ("a.test", records("128 issue letsencrypt.org"), "ok"),
        # RFC 8657
        ("a.test", records("0 issue letsencrypt.org; accounturi=https://ca/acct/1"), "ok"),
        ("a.test", records("0 issue letsencrypt.org; accounturi=https://ca/acct/2"), "wrong"),
        ("a.test", records("0 issue letsencrypt.org; validationmethods=dns-01"), "wrong"),
        ("a.test", records("0 issue letsencrypt.org; validationmethods=dns-01,http-01"), "ok"),
        (
            "a.test",
            records("0 issue letsencrypt.org; validationmethods=dns-01", "0 issue letsencrypt.org"),
            "ok",
        ),
    ],
)
def test_caa(name: str, found: tuple[CaaRecord, ...], sign: str) -> None:
    (finding,) = caa(CaaFacts(name, name.removeprefix("*."), found), ISSUER)
    assert finding.sign == sign, finding
    assert (finding.step is None) == (sign == "ok")


def test_caa_of_an_ancestor_says_where() -> None:
    (finding,) = caa(CaaFacts("a.b.test", "b.test", records("0 issue other.test")), ISSUER)
    assert "CAA (at b.test) allows other.test, and not letsencrypt" in finding.text


def test_no_caa_and_caa_that_cannot_be_had() -> None:
    (none,) = caa(CaaFacts("a.test"), ISSUER)
    assert none.sign == "ok"
    (unasked,) = caa(CaaFacts("a.test", unasked=True), ISSUER)
    assert unasked.sign == "unknown"
    (broken,) = caa(CaaFacts("a.test", error="a.test: SERVFAIL"), ISSUER)
    assert broken.sign == "wrong"


def test_a_ca_without_a_name_for_itself() -> None:
    (finding,) = caa(
        CaaFacts("a.test", "a.test", records("0 issue x.test")), Issuer("ca", (), ("http-01",))
    )
    assert finding.sign == "unknown"


def test_an_account_that_is_not_known_here() -> None:
    issuer = Issuer("letsencrypt", ("letsencrypt.org",), ("http-01",), None)
    found = records("0 issue letsencrypt.org; accounturi=https://ca/acct/9")
    (finding,) = caa(CaaFacts("a.test", "a.test", found), issuer)
    assert finding.sign == "attention"
    assert "https://ca/acct/9" in finding.text


@given(
    st.lists(
        st.builds(
            CaaRecord,
            st.integers(0, 255),
            st.sampled_from(["issue", "issuewild", "iodef", "x"]) | st.text(),
            st.text(),
        )
    )
)
def test_whatever_the_records_are_there_is_one_verdict(found: list[CaaRecord]) -> None:
    assert len(list(caa(CaaFacts("a.test", "a.test", tuple(found)), ISSUER))) == 1

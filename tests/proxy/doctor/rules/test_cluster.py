"""What a look at the cluster's engine means: each fault has its finding, and a sound one has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acme_client.storage.etcd import remedies
from proxy.doctor.rules.cluster import ClusterFacts, Machine, MemberFacts, findings

MEMBERS = tuple(MemberFacts(f"https://192.0.2.{n}:2379", "", "3.5.1", 1 << 20) for n in (1, 2, 3))
THREE = (Machine("web-1", True), Machine("web-2", False), Machine("web-3", False))
SOUND = ClusterFacts("shop", "web-2", False, MEMBERS, machines=THREE, certificates=3)


def test_a_sound_cluster_has_nothing_wrong() -> None:
    (found,) = findings(SOUND)
    assert found.sign == "ok"
    assert "web-1 orders, this node takes; 3 certificates" in found.text


@pytest.mark.parametrize(
    ("facts", "sign", "said"),
    [
        (replace(SOUND, members=MEMBERS[:1]), "attention", "names 1 member:"),
        (
            replace(SOUND, members=(replace(MEMBERS[0], error="no answer in time"), *MEMBERS[1:])),
            "attention",
            "https://192.0.2.1:2379 gives no answer: no answer in time",
        ),
        (
            replace(SOUND, members=tuple(replace(one, error="refused") for one in MEMBERS)),
            "wrong",
            "gives no answer: refused",
        ),
        (
            replace(SOUND, members=(replace(MEMBERS[0], version="3.4.23"), *MEMBERS[1:])),
            "attention",
            "is etcd 3.4.23, which its makers support no more",
        ),
        (replace(SOUND, error="permission denied"), "wrong", "does not let web-2 read"),
        (replace(SOUND, secret="sealed with another secret"), "wrong", "cannot be opened"),
        (replace(SOUND, alarms=("NOSPACE",)), "wrong", "etcd has an alarm: NOSPACE"),
        (replace(SOUND, history=60_000), "attention", "keeps its whole history, 60000 changes"),
        (
            replace(SOUND, members=(replace(MEMBERS[0], size=1600 << 20), *MEMBERS[1:])),
            "attention",
            "etcd's database has 1600 MiB",
        ),
        (replace(SOUND, machines=THREE[1:]), "attention", "no machine orders certificates"),
        (
            replace(SOUND, error="https://192.0.2.1:2379: connection closed", denied=False),
            "wrong",
            "etcd's gateway is refused by etcd itself",
        ),
        (replace(SOUND, error="etcdserver: no leader", denied=False), "wrong", "does not answer"),
        (replace(SOUND, fault="cluster.ca_file: x"), "wrong", "cluster.ca_file: x"),
        (replace(SOUND, open_to_all="/etc/s key"), "attention", "everybody on this machine may"),
        (
            replace(SOUND, machines=(), certificates=0, others=("store", "test")),
            "attention",
            "shop has nothing in etcd, where there is store and test",
        ),
        (replace(SOUND, newer=2), "attention", "shop has format 2, which this program does not"),
    ],
)  # fmt: skip
def test_each_fault_is_told(facts: ClusterFacts, sign: str, said: str) -> None:
    found = [one for one in findings(facts) if said in one.text]
    assert [one.sign for one in found][:1] == [sign], list(findings(facts))
    assert found[0].step


def test_who_orders_is_told_so() -> None:
    both = (Machine("web-1", True), Machine("web-2", True))
    (found,) = findings(replace(SOUND, machines=both, order=True))
    assert (found.sign, "this node orders certificates beside web-1" in found.text) == ("ok", True)
    (only,) = findings(replace(SOUND, node="web-1", order=True))
    assert "this node orders certificates;" in only.text
    (next_one,) = findings(replace(SOUND, order=True, machines=THREE[:1]))
    assert (next_one.sign, "web-1 orders; this node will too" in next_one.text) == ("ok", True)
    (strange,) = findings(replace(SOUND, order=True))
    assert strange.sign == "attention"
    assert "web-2 runs and orders nothing; web-1 orders" in strange.text
    (several,) = findings(replace(SOUND, node="web-3", machines=both))
    assert "web-1, web-2 order, this node takes" in several.text


def test_members_that_fail_alike_are_told_together() -> None:
    away = [replace(one, error="Connection refused") for one in MEMBERS]
    found = [one for one in findings(replace(SOUND, members=away)) if "no answer" in one.text]
    (one,) = found
    assert one.text.startswith(
        f"{MEMBERS[0].url}, {MEMBERS[1].url} and {MEMBERS[2].url} each gives"
    )
    assert one.step is not None
    assert "ETCD_LISTEN_CLIENT_URLS" in one.step


@pytest.mark.parametrize(
    ("said", "step"),
    [
        (remedies.SPEAKS_TLS, "write https://"),
        (remedies.NO_TLS, "ETCD_CERT_FILE"),
        (remedies.ASKS_CLIENTS, "cluster.cert_file, cluster.key_file"),
        (remedies.NOT_OUR_CLIENT, "ETCD_TRUSTED_CA_FILE"),
        (remedies.CLIENT_EXPIRED, "and reload"),
        (f"{remedies.UNTRUSTED}: unable to get local issuer certificate", "in cluster.ca_file"),
        (f"{remedies.UNTRUSTED}: certificate has expired", "made anew (ETCD_CERT_FILE)"),
        (f"{remedies.UNTRUSTED}: certificate is not yet valid", "the clock of this machine"),
        (
            f"{remedies.UNTRUSTED}: IP address mismatch, certificate is not valid for '192.0.2.1'",
            "by a name or an address that its certificate has",
        ),
        (remedies.UNNAMED, "/etc/hosts"),
        (remedies.LATE, "the firewalls on the way"),
        (remedies.NO_GATEWAY, "2380 is for the members"),
        ("whatever", "see that etcd runs there"),
    ],
)
def test_what_is_to_be_done_about_a_member_fits_what_it_said(said: str, step: str) -> None:
    assert step in remedies.of_member(said)

"""What a look at the cluster's engine means: each fault has its finding, and a sound one has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
    (next_one,) = findings(replace(SOUND, order=True))
    assert (next_one.sign, "web-1 orders; this node will too" in next_one.text) == ("ok", True)
    (several,) = findings(replace(SOUND, node="web-3", machines=both))
    assert "web-1, web-2 order, this node takes" in several.text

"""Messages between processes: whatever one end says, the other end reads the same or refuses it."""

from __future__ import annotations

import ast
import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import proxy
from acme_client.status import ClusterStatus, certificate_status
from acme_client.storage.etcd.figures import EngineFigures
from proxy.ipc import handoff_messages, messages
from proxy.ipc.codec import Malformed, Vocabulary, encode
from proxy.ipc.documents import Warned, WorkerStats
from proxy.metrics import counters

FACTS = messages.CertificateFacts("a.test", "a.test", ("a.test", "b.test"), 2e9, "ff", "ecdsa")
PACKED = messages.PackedCertificate(FACTS, 0, 10)
CHALLENGE = messages.ChallengeFacts("http-01", "a.test", "token", "token.thumbprint")
STATUS = certificate_status(
    name="a.test", names=("a.test",), source="acme", key_type="ecdsa-p256", state="fresh"
)
STATS: WorkerStats = {
    "figures": counters.empty(),
    "connections": 1,
    "listeners": {"0.0.0.0:443": 1},
    "open_fds": None,
    "streams": 0,
    "requests": 3,
    "upstreams": [],
}
CLUSTER: ClusterStatus = {
    "name": "shop", "node": "web-1", "orders": True, "ordering": ["web-1"], "connected": True,
    "fault": None, "alone": False, "order_below": 0.1, "refused": {},
        "behind": 0, "revision_behind": 0,
    "members": [
        {"node": "web-1", "version": "1", "since": None, "orders": True, "seen": 7,
         "behind": 0, "clock": -3, "differs": 1, "otherwise": ["a.example"]}
    ],
}  # fmt: skip
ENGINE: EngineFigures = {
    "seconds": [1, 0], "seconds_sum": 0.5, "fenced": 1, "conflicts": 2, "reloads": {"restored": 1}
}  # fmt: skip
WARNED: Warned = {"at": 2e9, "level": "error", "process": "worker 1", "text": "it hangs"}

# One example of every message, with the vocabulary that it is read by.
EXAMPLES: list[tuple[Vocabulary[Any], Any]] = [
    (messages.TO_WORKER, messages.PutCertificates((PACKED,), 1, try_out=False)),
    (messages.TO_WORKER, messages.DropCertificate("a.test", "a.test/rsa", 1)),
    (messages.TO_WORKER, messages.PutChallenge(CHALLENGE, 1)),
    (messages.TO_WORKER, messages.DropChallenge("tls-alpn-01", "a.test", "token", 1)),
    (messages.TO_WORKER, messages.OnDemandResult("a.test", ok=False, seconds=3.5)),
    (messages.TO_WORKER, messages.AskStats(thorough=True)),
    (messages.TO_WORKER, messages.Probe(1, "a.test", "rsa")),
    (messages.TO_WORKER, messages.OverviewAnswer(1, typing.cast(Any, {"status": {}}))),
    (messages.TO_WORKER, messages.AdminAnswer(1, {"ok": True})),
    (messages.TO_WORKER, messages.DrainBackend("http://10.0.0.1:80", on=True, ticket=1)),
    (messages.TO_WORKER, messages.ReplaceAccessLog(1)),
    (messages.TO_WORKER, messages.AddGeneration(2, 64, 1)),
    (messages.TO_WORKER, messages.Drain()),
    (messages.TO_WORKER, messages.Stop()),
    (messages.TO_WORKER, messages.Truncated(3)),
    (messages.FROM_WORKER, messages.Ready()),
    (messages.FROM_WORKER, messages.Acknowledged(1)),
    (messages.FROM_WORKER, messages.NotTaken(1)),
    (messages.FROM_WORKER, messages.CannotServe(1, {"a.test": "its key is too short"})),
    (messages.FROM_WORKER, messages.ProbeResult(1, None)),
    (messages.FROM_WORKER, messages.WantCertificate("a.test")),
    (messages.FROM_WORKER, messages.CertificateUsed("a.test")),
    (messages.FROM_WORKER, messages.AskOverview(1)),
    (messages.FROM_WORKER, messages.AskAdmin(1, "site", {"name": "a.test"})),
    (messages.FROM_WORKER, messages.Warned(WARNED)),
    (messages.FROM_WORKER, messages.Stats(STATS)),
    (messages.TO_CERTIFIER, messages.Done(1)),
    (messages.TO_CERTIFIER, messages.Done(1, {"a.test": "its key is too short"})),
    (messages.TO_CERTIFIER, messages.CertifierCommand("renew", {"name": "a.test"}, 4)),
    (messages.TO_CERTIFIER, messages.NotTaken(1)),
    (messages.FROM_CERTIFIER, messages.Truncated(None)),
    (messages.FROM_CERTIFIER, messages.Alive()),
    (messages.FROM_CERTIFIER, messages.Loaded()),
    (messages.FROM_CERTIFIER, messages.Idle()),
    (messages.FROM_CERTIFIER, messages.CertifierAnswer(1, {"ok": True, "costs": ["one"]})),
    (messages.FROM_CERTIFIER, messages.Publish((PACKED, PACKED), 1)),
    (messages.FROM_CERTIFIER, messages.Present(CHALLENGE, 1)),
    (messages.FROM_CERTIFIER, messages.Retract("http-01", "a.test", "token")),
    (messages.FROM_CERTIFIER, messages.Report("a.test", STATUS)),
    (messages.FROM_CERTIFIER, messages.Report("a.test", None)),
    (messages.FROM_CERTIFIER, messages.ReportCluster(CLUSTER)),
    (messages.FROM_CERTIFIER, messages.ReportEngine(ENGINE)),
    (messages.FROM_CERTIFIER, messages.Warned(WARNED)),
    (messages.TO_EXPORTER, messages.Stop()),
    (messages.FROM_EXPORTER, messages.Exported(exported=3, failed=0)),
    (messages.FROM_MESSENGER, messages.Delivered("it does not answer")),
    (messages.FROM_DOCKER, messages.Alive()),
    (messages.FROM_DOCKER, messages.ContainersSeen(({"name": "web"},), None)),
    (messages.FROM_DOCKER, messages.ContainersSeen(None, "it is not there")),
    (
        handoff_messages.TO_SUCCESSOR,
        handoff_messages.HandedListener("https", "[::]:443", (10, "::", 443, True)),
    ),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedListener("http", "unix:/s", None)),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedCertificate("/c.pem", "/k.pem")),
    (
        handoff_messages.TO_SUCCESSOR,
        handoff_messages.HandedCertificates(
            (handoff_messages.HandedFiles("/c.pem", "/k.pem", 0, 10),)
        ),
    ),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedManager()),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedForegroundParent()),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedLock()),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedDoor("/run/docker.sock")),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedHistory()),
    (handoff_messages.TO_SUCCESSOR, handoff_messages.HandedFacts(3, 0, "auto")),
    (handoff_messages.FROM_SUCCESSOR, messages.Ready()),
    (handoff_messages.FROM_SUCCESSOR, handoff_messages.Successor(12)),
]
VOCABULARIES = [
    one
    for module in (messages, handoff_messages)
    for one in vars(module).values()
    if isinstance(one, Vocabulary)
]


def on_the_wire(message: Any) -> dict[str, Any]:
    return json.loads(json.dumps(encode(message)))


@pytest.mark.parametrize(
    ("vocabulary", "message"), EXAMPLES, ids=[type(one).__name__ for _, one in EXAMPLES]
)
def test_what_is_said_is_what_is_understood(vocabulary: Vocabulary[Any], message: Any) -> None:
    assert vocabulary.decode(on_the_wire(message), descriptors=1) == message


def test_every_message_has_an_example() -> None:
    shown = {(id(vocabulary), type(message)) for vocabulary, message in EXAMPLES}
    assert shown == {(id(one), kind) for one in VOCABULARIES for kind in one.kinds}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_what_is_unknown_is_refused_by_name(vocabulary: Vocabulary[Any]) -> None:
    for said in ({"type": "stat"}, {"type": 3}, {"type": None}, {}):
        with pytest.raises(Malformed, match="unknown message"):
            vocabulary.decode(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"type": "acknowledged"}, "ticket missing"),
        ({"type": "acknowledged", "ticket": "1"}, "ticket: int expected"),
        ({"type": "acknowledged", "ticket": True}, "ticket: int expected"),
        ({"type": "acknowledged", "ticket": 1.5}, "ticket: int expected"),
        ({"type": "acknowledged", "ticket": 1, "more": 2}, "unknown field 'more'"),
        ({"type": "probe_result", "number": 1, "serial": 3}, "serial: .* expected"),
        ({"type": "want_certificate", "name": ["a"]}, "name: str expected"),
        ({"type": "stats", "stats": []}, "stats: an object expected"),
        ({"type": "acknowledged", "ticket": float("nan")}, "ticket: int expected"),
        (
            {
                "type": "stats",
                "stats": {
                    **STATS,
                    "figures": {**counters.empty(), "seconds_sum": {"a": float("nan")}},
                },
            },
            "seconds_sum: float expected, not nan",
        ),
        ({"type": "stats", "stats": {**STATS, "listeners": {"a": "1"}}}, "listeners: int expected"),
        ({"type": "stats", "stats": {**STATS, "upstreams": [{}]}}, "upstreams: .* missing"),
        ({"type": "stats", "stats": {**STATS, "figures": {}}}, "figures: .*"),
    ],
)
def test_what_a_worker_says_wrongly_is_refused_with_the_field(
    said: dict[str, object], why: str
) -> None:
    with pytest.raises(Malformed, match=why):
        messages.FROM_WORKER.decode(said)


def test_a_choice_is_one_of_its_values() -> None:
    said = on_the_wire(messages.Retract("http-01", "a.test", "t"))
    with pytest.raises(Malformed, match="kind: one of"):
        messages.FROM_CERTIFIER.decode({**said, "kind": "dns-01"})


@pytest.mark.parametrize("message", [one for _, one in EXAMPLES if getattr(one, "DESCRIPTORS", 0)])
def test_a_message_without_its_descriptor_is_none(message: Any) -> None:
    vocabulary = next(one for one in VOCABULARIES if type(message) in one.kinds)
    with pytest.raises(Malformed, match="without its descriptor"):
        vocabulary.decode(on_the_wire(message))


def test_between_versions_a_new_field_is_left_out_and_a_missing_one_refused() -> None:
    said = on_the_wire(handoff_messages.Successor(12))
    assert handoff_messages.FROM_SUCCESSOR.decode(
        {**said, "cluster": "shop"}
    ) == handoff_messages.Successor(12)
    with pytest.raises(Malformed, match="pid missing"):
        handoff_messages.FROM_SUCCESSOR.decode({"type": "successor"})


def test_the_spelling_between_versions_stays() -> None:
    """A server of an earlier version upgrades to this one, and this one to a later one."""
    handed = handoff_messages.HandedListener("https", "[::]:443", (10, "::", 443, True))
    assert on_the_wire(handed) == {
        "type": "listener",
        "kind": "https",
        "address": "[::]:443",
        "endpoint": [10, "::", 443, True],
    }
    assert {kind: set(vocabulary._kinds) for kind, vocabulary in (
        ("to", handoff_messages.TO_SUCCESSOR), ("from", handoff_messages.FROM_SUCCESSOR),
    )} == {
        "to": {
            "listener", "certificate", "certificates", "manager", "keeper", "lock", "door", "history", "estate",
        },
        "from": {"ready", "successor"},
    }  # fmt: skip


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_a_message_with_one_field_changed_is_read_as_valid_or_refused(
    example: tuple[Vocabulary[Any], Any], data: st.DataObject
) -> None:
    vocabulary, message = example
    said = on_the_wire(message)
    said[data.draw(st.sampled_from(sorted(said)))] = data.draw(_JSON)
    try:
        read = vocabulary.decode(said, descriptors=1)
    except Malformed:
        return
    for field in dataclasses.fields(read):
        value = getattr(read, field.name)
        hint = typing.get_type_hints(type(read))[field.name]
        if hint in (int, str, bool, float):
            assert isinstance(value, (int, float) if hint is float else hint)
    again = vocabulary.decode(json.loads(json.dumps(encode(read))), descriptors=1)
    assert repr(again) == repr(read)


def test_no_channel_is_spoken_to_in_loose_dictionaries() -> None:
    """``{"type": …}`` stands in the codec and in the channel's own frame, and nowhere else."""
    found = [
        path.name
        for path in sorted(Path(proxy.__path__[0]).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        # JSON Schema has types too, and so has a listing as JSON, like nginx's
        if isinstance(node, ast.Dict) and not {"config", "handlers"} & set(path.parts)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value == "type"
    ]
    # A listing in JSON says of each entry what it is.
    assert set(found) <= {"codec.py", "channel.py", "listing_page.py"}


def test_unions_are_what_vocabularies_read() -> None:
    for name in ("ToWorker", "FromWorker", "ToCertifier", "FromCertifier"):
        union = getattr(messages, name)
        assert isinstance(union, types.UnionType)
        constant = "".join(f"_{one}" if one.isupper() else one for one in name).strip("_").upper()
        assert set(getattr(messages, constant).kinds) == set(typing.get_args(union))

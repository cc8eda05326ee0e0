"""`/metrics`: the names and types that users rely on, and which format is answered."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from acme_client.status import certificate_status
from acme_client.storage.etcd.figures import ENGINE_BUCKETS
from proxy.ipc.documents import Overview
from proxy.metrics import counters
from proxy.metrics.exposition import render

# Those that stand in documents, alert rules and dashboards: with type and labels.
NAMES = {
    "treehouse_requests": ("counter", {"site", "method", "status", "handler"}),
    "treehouse_request_seconds": ("histogram", {"site", "le"}),
    "treehouse_connections": ("gauge", {"listener"}),
    "treehouse_handshakes": ("counter", {"version", "resumed", "result"}),
    "treehouse_bytes": ("counter", {"direction"}),
    "treehouse_site_bytes": ("counter", {"site", "direction"}),
    "treehouse_upstream_healthy": ("gauge", {"upstream"}),
    "treehouse_upstream_requests": ("counter", {"upstream", "outcome"}),
    "treehouse_upstream_seconds": ("histogram", {"upstream", "le"}),
    "treehouse_upstream_in_flight": ("gauge", {"upstream"}),
    "treehouse_upstream_draining": ("gauge", {"upstream"}),
    "treehouse_limited": ("counter", {"limit"}),
    "treehouse_http2": ("counter", {"event"}),
    "treehouse_workers": ("gauge", {"state"}),
    "treehouse_streams": ("gauge", {"state"}),
    "treehouse_generation": ("gauge", set()),
    "treehouse_certificates": ("gauge", {"state"}),
    "treehouse_certificate_not_after_seconds": ("gauge", {"name"}),
    "treehouse_certificate_renew_at_seconds": ("gauge", {"name"}),
    "treehouse_certificate_failed_attempts": ("gauge", {"name"}),
    "treehouse_certificate_renewals": ("counter", {"name", "outcome"}),
    "treehouse_certifier_last_pass_seconds": ("gauge", set()),
    "treehouse_reloads": ("counter", {"outcome"}),
    "treehouse_on_demand": ("counter", {"outcome"}),
    "treehouse_trace_spans": ("counter", {"outcome"}),
    "treehouse_crashes": ("counter", {"role"}),
    "treehouse_warnings": ("counter", {"level"}),
    "treehouse_attention": ("gauge", {"level"}),
    "treehouse_alerts_undelivered": ("gauge", {"channel"}),
    "treehouse_build_info": ("gauge", {"version"}),
    "treehouse_cluster_members": ("gauge", set()),
    "treehouse_cluster_engine_up": ("gauge", set()),
    "treehouse_cluster_orders": ("gauge", set()),
    "treehouse_cluster_certificates_behind": ("gauge", set()),
    "treehouse_cluster_certificates_refused": ("gauge", set()),
    "treehouse_cluster_revision_behind": ("gauge", set()),
    "treehouse_cluster_alone": ("gauge", set()),
    "treehouse_cluster_engine_seconds": ("histogram", {"le"}),
    "treehouse_cluster_fenced_writes": ("counter", set()),
    "treehouse_cluster_conflicts": ("counter", set()),
    "treehouse_cluster_reloads": ("counter", {"why"}),
    "process_cpu_seconds": ("counter", {"process"}),
    "process_open_fds": ("gauge", {"process"}),
    "process_max_fds": ("gauge", {"process"}),
    "process_virtual_memory_bytes": ("gauge", {"process"}),
    "process_resident_memory_bytes": ("gauge", {"process"}),
    "process_start_time_seconds": ("gauge", {"process"}),
}
OPEN = "application/openmetrics-text"


@pytest.fixture(scope="module")
def overview() -> Overview:
    figures = counters.empty()
    figures["requests"] = {"a.test\x1fGET\x1f200\x1fstatic": 3}
    figures["handshakes"] = {"TLSv1.3\x1ffalse\x1fok": 2}
    figures["upstreams"] = {"http://b\x1fok": 1}
    figures["limited"] = {"connections": 1}
    figures["http2"] = {"connection": 1}
    figures["seconds"] = {"a.test": [3, *[0] * len(counters.BUCKETS)]}
    figures["seconds_sum"] = {"a.test": 0.001}
    figures["bytes"] = {"a.test": [10, 20]}
    figures["upstream_seconds"] = {"http://b": [1, *[0] * len(counters.BUCKETS)]}
    figures["upstream_seconds_sum"] = {"http://b": 0.0005}
    figures["exemplars"] = {"a.test\x1f0": ["ab" * 16, "0.000400", "1800000000.000"]}
    certificate = certificate_status(
        name="a.test", names=("a.test",), source="acme", key_type="ecdsa-p256", state="fresh",
        not_before=1.8e9, not_after=1.8e9 + 86400, renew_at=1.8e9 + 3600, served=True, attempts=2,
    )  # fmt: skip
    return {
        "status": {
            "version": "1.2.3", "generation": 4, "certificates": [certificate],
            "workers": [
                {"pid": 2, "generation": 4, "state": "serving", "connections": 1, "streams": 5,
                 "requests": 3},
            ],
            "upstreams": [
                {"url": "http://b", "healthy": "yes", "draining": False, "last_error": None,
                 "in_flight": 1, "failures": 0},
            ],
            "cluster": {
                "name": "shop", "node": "web-2", "orders": False, "ordering": ["web-1"],
                "connected": True, "fault": None, "alone": False, "order_below": 0.1, "refused": {},
        "behind": 0, "revision_behind": 0, "members": [],
            },
        },
        "figures": figures,
        "reloads": {"ok": 1, "failed": 0},
        "renewals": [("a.test", "ok", 1)],
        "connections": {"0.0.0.0:443": 1},
        "processes": [
            {"process": "supervisor", "cpu_seconds": 1.0, "open_fds": 9, "max_fds": 99,
             "virtual_memory_bytes": 1, "resident_memory_bytes": 1, "start_time_seconds": 1.0},
        ],
        "certifier_heard": 1.8e9,
        "spans": {"exported": 7, "failed": 0},
        "on_demand": {"obtained": 1},
        "crashes": {"worker": 1},
        "attention": {"wrong": 1, "look": 2, "more": 0},
        "undelivered": {"webhook": 3},
        "warnings": {"warning": 4},
        "engine": {
            "seconds": [3, 2, *[0] * (len(ENGINE_BUCKETS) - 1)], "seconds_sum": 0.25,
            "fenced": 1, "conflicts": 2, "reloads": {"compacted": 3, "restored": 0},
        },
    }  # type: ignore[typeddict-item] # as much of a status as is used  # fmt: skip


def test_every_name_with_its_type_and_labels(overview: Overview) -> None:
    _kind, text = render(overview)
    found = {
        family.name: (family.type, {label for one in family.samples for label in one.labels})
        for family in text_string_to_metric_families(text.decode())
        if family.samples
    }
    assert found == NAMES


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        # As Prometheus asks.
        (f"{OPEN};version=1.0.0;q=0.6,{OPEN};version=0.0.1;q=0.5,text/plain;q=0.4,*/*;q=0.1", True),
        ("Application/OpenMetrics-Text; version=1.0.0", True),
        ("application/openmetrics-text;q=0", False),
        ("text/plain, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=nonsense", False),
        (";;,,=", False),
    ],
)
def test_openmetrics_for_who_asks_for_it(
    overview: Overview, accept: str, openmetrics: bool
) -> None:
    kind, text = render(overview, accept)
    assert kind.startswith(b"application/openmetrics-text") is openmetrics
    assert text.endswith(b"# EOF\n") is openmetrics
    # Only this format has room for an example of a trace.
    assert (b'trace_id="' + b"ab" * 16 in text) is openmetrics

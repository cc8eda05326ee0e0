"""The alert rules and the dashboard for Prometheus and Grafana name what /metrics really has.

promtool, Prometheus' own, reads the rules and every expression of the dashboard; the names come
from the real program's /metrics.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from acme_client.storage.etcd.sealing import new_secret
from support.http.client import http, https
from support.program.ports import free_ports
from support.program.server import REPOSITORY, Server

ALERTS = REPOSITORY / "config/prometheus/alerts.yaml"
DASHBOARD = REPOSITORY / "config/grafana/treehouse-proxy.json"

# Made by Prometheus itself.
_OF_PROMETHEUS = {"up"}
_WORD = re.compile(r"\b((?:treehouse|process)_[a-z_]+)\b")

RULE_TESTS = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'treehouse_certificate_not_after_seconds{{name="a.test", instance="i"}}'
        values: 86000x60
      - series: 'treehouse_certificate_not_after_seconds{{name="b.test", instance="i"}}'
        values: 8640000x60
      - series: 'treehouse_upstream_healthy{{upstream="http://127.0.0.1:1", instance="i"}}'
        values: 1x30 0x30
    alert_rule_test:
      - eval_time: 30m
        alertname: TreehouseCertificateEndsSoon
        exp_alerts:
          - exp_labels: {{name: a.test, instance: i, severity: critical}}
            exp_annotations:
              summary: The certificate a.test ends within a day
              description: Every attempt to renew it has failed. `treehouse-proxy why a.test` says why, and what to do.
      - {{eval_time: 30m, alertname: TreehouseBackendDown, exp_alerts: []}}
      - eval_time: 40m
        alertname: TreehouseBackendDown
        exp_alerts:
          - exp_labels: {{upstream: "http://127.0.0.1:1", instance: i, severity: critical}}
            exp_annotations:
              summary: The backend http://127.0.0.1:1 is taken out of service
              description: "`treehouse-proxy status` has its last error; `treehouse-proxy doctor` looks at it."
"""


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    """Every expression of the dashboard, with Grafana's variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [
        one.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$site", ".*")
        for one in found
    ]


def test_promtool_takes_the_alerts() -> None:
    promtool("check", "rules", ALERTS)


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    tests = tmp_path / "tests.yaml"
    tests.write_text(RULE_TESTS.format(alerts=ALERTS))
    promtool("test", "rules", tests)


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    found = expressions()
    assert len(found) > 10
    assert not any("$" in one for one in found)
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(found)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", path)


@pytest.fixture
def names(folder: Path, root: Path) -> set[str]:
    """Names of all that /metrics has, as a server shows it that has answered a request, and one in
    a cluster, whose engine is away."""
    one, two, three, nobody = free_ports(4)
    config, secret = folder / "config.yaml", folder / "cluster.key"
    secret.write_text(new_secret() + "\n")
    secret.chmod(0o644)
    config.write_text(
        f"listen: {{http: ['127.0.0.1:{one}'], https: ['127.0.0.1:{two}']}}\n"
        f"state: {folder / 'state'}\nadmin: {{listen: 127.0.0.1:{three}}}\nsites:\n"
        f"  - names: [a.test]\n    routes:\n      - {{path: /app/*, backend: 'http://127.0.0.1:1'}}\n"
        f"      - {{path: /*, root: {root}}}\n"
    )
    with Server(["--config", str(config)], folder) as server:
        server.await_log("a.test: certificate obtained")
        ca = folder / "state/internal-ca/root.pem"
        assert https(two, "a.test", ca).asks("/", "a.test").status == 200
        text = http(three).asks("/metrics", "127.0.0.1").body.decode()
    engine = f"etcd: ['http://127.0.0.1:{nobody}'], secret_file: {secret}"
    alone = config.read_text()
    config.write_text(f"{alone}cluster: {{name: shop, node: web-1, {engine}}}\n")
    with Server(["--config", str(config)], folder) as server:
        server.await_status(folder / "state", lambda document: document["cluster"] is not None)
        text += http(three).asks("/metrics", "127.0.0.1").body.decode()
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    found = set()
    for name, kind in kinds:
        found |= (
            {name + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
        )
    return found


def test_alerts_and_dashboard_name_only_what_is_there(names: set[str]) -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    texts = [rule["expr"] for group in groups for rule in group["rules"]] + expressions()
    named = {name for text in texts for name in _WORD.findall(text)}
    assert len(named) > 12
    assert named <= names | _OF_PROMETHEUS, named - names

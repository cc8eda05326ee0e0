"""Rules, middlewares and labels of Traefik, in the text alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config_import.readers import read
from proxy.config_import.traefik.rules import NotARule, alternatives, asked

from .conftest import Import

CASES = Path(__file__).parent / "traefik"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("Host(`a`)", [["Host"]]),
        ("Host(`a`) && (Path(`/x`) || Method(`GET`))", [["Host", "Path"], ["Host", "Method"]]),
        ("!(Path(`/x`) || Path(`/y`)) && Host(`a`)", [["!Path", "!Path", "Host"]]),
        ("Host(`a`, `b`) || Host(`c`)", [["Host"], ["Host"]]),
    ],
)
def test_a_rule_is_a_list_of_alternatives(rule: str, expected: list[list[str]]) -> None:
    found = [[f"{'!' * off}{name}" for name, _words, off in each] for each in alternatives(rule)]
    assert found == expected


@pytest.mark.parametrize(
    "rule",
    ["Host(`a`", "Host(`a`) &&", "Host(`a`) extra", "&& Host(`a`)", "(" * 50 + "Host(`a`)" + ")" * 50,
     " && ".join(["(Path(`/a`) || Path(`/b`))"] * 12)],
)  # fmt: skip
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(NotARule):
        list(map(asked, alternatives(rule)))


def test_the_longest_rule_comes_first_unless_a_priority_is_given(imported: Import) -> None:
    text = """
http:
  routers:
    a: {rule: "Host(`a.test`) && PathPrefix(`/x/`)", service: one}
    b: {rule: "Host(`a.test`)", service: two%s}
  services:
    one: {loadBalancer: {servers: [{url: "http://127.0.0.1:1"}]}}
    two: {loadBalancer: {servers: [{url: "http://127.0.0.1:2"}]}}
"""
    made = imported("traefik", text % "", "a.yml")
    assert made.route("/x/*")["backend"] == "http://127.0.0.1:1"
    made = imported("traefik", text % ", priority: 1000", "b.yml")
    assert all(one["backend"] == "http://127.0.0.1:2" for one in made.site("a.test")["routes"])


def test_yaml_toml_and_labels_say_the_same(imported: Import) -> None:
    from_yaml = imported("traefik", """
http:
  routers:
    a:
      rule: Host(`a.test`) && PathPrefix(`/x/`)
      middlewares: [m]
      service: s
  middlewares:
    m: {stripPrefix: {prefixes: [/x]}}
  services:
    s: {loadBalancer: {servers: [{url: "http://s:80"}]}}
""", "a.yml")  # fmt: skip
    from_toml = imported("traefik", """
[http.routers.a]
rule = "Host(`a.test`) && PathPrefix(`/x/`)"
middlewares = ["m"]
service = "s"
[http.middlewares.m.stripPrefix]
prefixes = ["/x"]
[[http.services.s.loadBalancer.servers]]
url = "http://s:80"
""", "a.toml")  # fmt: skip
    from_labels = imported("traefik", """
services:
  s:
    image: app
    labels:
      - traefik.http.routers.a.rule=Host(`a.test`) && PathPrefix(`/x/`)
      - traefik.http.routers.a.middlewares=m
      - traefik.http.middlewares.m.stripprefix.prefixes=/x
      - traefik.http.services.s.loadbalancer.server.port=80
""", "compose.yml")  # fmt: skip
    assert from_yaml.tree == from_toml.tree == from_labels.tree


def test_places_are_lines_of_the_file(imported: Import) -> None:
    made = imported("traefik", (CASES / "left.yml").read_text(), "left.yml")
    lines = [one.split(":")[1] for one in made.left]
    text = (CASES / "left.yml").read_text().splitlines()
    assert "some-waf" in text[int(lines[0]) - 1]
    assert "digestAuth" in text[int(lines[1]) - 1]


def test_a_middleware_that_nobody_knows_closes_its_router(imported: Import) -> None:
    made = imported("traefik", (CASES / "left.yml").read_text(), "left.yml")
    assert made.route("/*", "left.test")["deny"] == ["0.0.0.0/0", "::/0"]
    assert "deny" not in made.route("/open", "left.test")


def test_a_certificate_goes_to_the_site_whose_name_stands_in_it(
    imported: Import, tmp_path: Path
) -> None:
    import trustme

    made = trustme.CA().issue_cert("a.test")
    made.cert_chain_pems[0].write_to_path(tmp_path / "a.pem")
    text = """
http:
  routers: {a: {rule: "Host(`a.test`) || Host(`b.test`) && Path(`/x`)", service: s}}
  services: {s: {loadBalancer: {servers: [{url: "http://127.0.0.1:1"}]}}}
tls: {certificates: [{certFile: %s, keyFile: /k.pem}]}
"""
    site = imported("traefik", text % (tmp_path / "a.pem"), "a.yml")
    assert site.site("a.test")["certificate"]["key"] == "/k.pem"
    assert "certificate" not in site.site("b.test")
    gone = imported("traefik", text % "/nowhere.pem", "b.yml")
    assert "which site it is for" in gone.left[0]


def test_a_folder_is_read_as_a_whole(tmp_path: Path) -> None:
    shutil.copytree(CASES, tmp_path / "traefik")
    names = {
        name for site in read("traefik", str(tmp_path / "traefik")).sites for name in site.names
    }
    assert {"app.test", "limits.test", "labels.test"} <= names


def test_python_is_not_asked_for_what_the_command_does_not_read() -> None:
    """Only the reader of the program that is named is loaded."""
    code = (
        "import json, sys; from proxy.config_import.readers import reader; reader('traefik');"
        "print(json.dumps([n for n in sys.modules if 'config_import' in n or n == 'crossplane']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert not [one for one in loaded if "nginx" in one or "caddy" in one or one == "crossplane"]


def test_a_start_of_the_server_loads_no_reader() -> None:
    code = "import json, sys, proxy.cli.main; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "proxy.cli.config_import" in loaded
    assert not [one for one in loaded if one.startswith(("proxy.config_import", "crossplane"))]


def test_a_redirect_of_another_host_lets_requests_pass(imported: Import) -> None:
    text = """
http:
  routers: {a: {rule: "Host(`a.test`) || Host(`www.a.test`)", middlewares: [w], service: s}}
  middlewares: {w: {redirectRegex: {regex: "^https://www\\\\.(.*)", replacement: "https://${1}"}}}
  services: {s: {loadBalancer: {servers: [{url: "http://127.0.0.1:1"}]}}}
"""
    made = imported("traefik", text, "a.yml")
    assert made.site("a.test")["backend"] == "http://127.0.0.1:1"
    assert made.site("www.a.test")["redirect"] == "https://a.test{path}"
    assert not made.left

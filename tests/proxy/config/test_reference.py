"""config/: the reference is complete and true, every example sound, every unit valid."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config import model
from proxy.config.checks import consistency
from proxy.config.resolve import Surroundings, resolve
from proxy.config.schema.document import Document
from proxy.config.schema.parse import subsection, validate
from proxy.config.syntax.sections import Section
from proxy.config.syntax.yaml_reader import parse

CONFIG = Path(__file__).resolve().parents[3] / "config"
EXAMPLES = sorted((CONFIG / "examples").glob("*.yaml"))


def resolved(path: Path) -> model.Config:
    """The configuration of a file, without a look at what it names on the disk."""
    document = parse(path.read_text(), path.name)
    parsed, faults = validate(document.value, document.origins, base=CONFIG)
    faults = [*document.faults, *faults, *consistency.check(parsed)]
    assert not faults, "\n".join(map(str, faults))
    assert not parsed.notices, "the reference has the present names"
    return resolve(parsed, Surroundings(Path("/var/lib/treehouse-proxy"), 65534, 65534, path))


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.known_keys().items():
        yield prefix + name
        below = subsection(field.annotation)
        if below is not None:
            yield from keys_of(below, f"{prefix}{name}.")


def words(node: Any) -> Iterator[str]:
    """Every key of a YAML tree, wherever it stands."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from words(value)
    elif isinstance(node, list):
        for value in node:
            yield from words(value)


def test_every_key_stands_in_the_reference() -> None:
    text = (CONFIG / "reference.yaml").read_text()
    written = set(words(yaml.safe_load(text)))
    for key in keys_of(Document):
        name = key.rpartition(".")[2]
        # Keys of sections that are off by default stand in a comment beside their section.
        assert name in written or f"{name}:" in text, key


def test_every_key_of_the_reference_is_one() -> None:
    known = {key.rpartition(".")[2] for key in keys_of(Document)}
    assert set(words(yaml.safe_load((CONFIG / "reference.yaml").read_text()))) <= known


def test_every_default_of_the_reference_is_the_one_in_force() -> None:
    config = resolved(CONFIG / "reference.yaml")
    for field in dataclasses.fields(model.Config):
        if field.name in ("sites", "state", "source", "workers") or not field.compare:
            continue
        default = field.default
        if default is dataclasses.MISSING:
            assert field.default_factory is not dataclasses.MISSING
            default = field.default_factory()
        assert getattr(config, field.name) == default, field.name
    app = config.sites[2].routes[0].action
    assert isinstance(app, model.ProxyAction)
    assert app == model.ProxyAction(app.backends)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_sound(path: Path) -> None:
    assert resolved(path).acme.directory.startswith("https://")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    ("unit", "most"), [("treehouse-proxy", 3.5), ("treehouse-proxy-unprivileged", 2.0)]
)
def test_the_units_are_hardened(unit: str, most: float) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", CONFIG / f"systemd/{unit}.service"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "exposure level" not in done.stdout:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr}")
    exposure = float(done.stdout.splitlines()[-1].split(":")[1].split()[0])
    assert exposure <= most


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", sorted((CONFIG / "systemd").iterdir()), ids=lambda unit: unit.name)
def test_the_units_have_no_slip(unit: Path) -> None:
    """All that may be missing here is the program where it will be installed."""
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert not [line for line in complaints if "is not executable" not in line]

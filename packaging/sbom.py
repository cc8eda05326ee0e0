"""The bill of materials of a package: what it carries, in CycloneDX 1.6 (JSON).

    python packaging/sbom.py SITE-PACKAGES --lock requirements/packages.txt \\
        --name treehouse-proxy --version 1.2.3 --kind deb

With ``--status-folder FOLDER --debian 13`` the Debian packages of an image are in it as well: a
file for each, as ``dpkg-deb -f`` prints its fields.

The components are the Python packages that lie in SITE-PACKAGES, with the hashes that the lock file
allows of each, and the Debian packages of an image. The document is a function of these and of
SOURCE_DATE_EPOCH: two builds of one commit have the same bill.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]
_SPDX = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")


def normalized(name: str) -> str:
    """Return a package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, list[str]]:
    """Return the SHA-256 hashes (hex) that a lock file allows, by normalized name."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"(?m)^(?=\w)", text):
        name = re.match(r"([A-Za-z0-9._-]+)==", entry)
        if name:
            found[normalized(name[1])] = re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
    return found


def of_python(one: Distribution, hashes: dict[str, list[str]]) -> Component:
    """Return the component of one Python package."""
    name, version = one.metadata["Name"], one.version
    purl = f"pkg:pypi/{normalized(name)}@{quote(version)}"
    component: Component = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if one.metadata.get("Summary"):
        component["description"] = one.metadata["Summary"]
    expression = one.metadata.get("License-Expression")
    words = (one.metadata.get("License") or "").strip()
    if expression and _SPDX.fullmatch(expression):
        component["licenses"] = [{"expression": expression}]
    elif words and "\n" not in words and len(words) < 60:
        component["licenses"] = [{"license": {"name": words}}]
    files = hashes.get(normalized(name), [])
    # A component has one set of hashes; of several files, each is a reference of its own.
    if files:
        component["externalReferences"] = [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{normalized(name)}/{quote(version)}/",
                "hashes": [{"alg": "SHA-256", "content": one}],
            }
            for one in files
        ]
    return component


def of_debian(stanza: str, release: str) -> Component | None:
    """Return the component of a Debian package by its fields; None of our own."""
    fields = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)$", stanza))
    if not fields or fields["Package"] == "treehouse-proxy":
        return None
    name, version, machine = fields["Package"], fields["Version"], fields["Architecture"]
    purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={machine}&distro=debian-{release}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "description": fields.get("Description", ""),
    }


def bill(name: str, version: str, kind: str, components: list[Component], when: int) -> Component:
    """Return the document."""
    components = sorted(components, key=lambda one: str(one["purl"]))
    product = f"pkg:generic/{name}@{quote(version)}?kind={kind}"
    seed = json.dumps([product, components], sort_keys=True)
    moment = datetime.datetime.fromtimestamp(when, datetime.UTC)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed)}",
        "version": 1,
        "metadata": {
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "container" if kind == "image" else "application",
                "bom-ref": product,
                "name": name,
                "version": version,
                "purl": product,
                "licenses": [{"license": {"id": "MIT"}}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": product, "dependsOn": [one["bom-ref"] for one in components]},
            *({"ref": one["bom-ref"]} for one in components),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", type=Path)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--kind", required=True, choices=["wheel", "deb", "image"])
    parser.add_argument(
        "--only-locked",
        action="store_true",
        help="leave out packages that the lock file does not name",
    )
    parser.add_argument("--status-folder", type=Path)
    parser.add_argument("--debian", default="")
    given = parser.parse_args()
    hashes = locked(given.lock.read_text())
    components = [
        of_python(one, hashes)
        for one in distributions(path=[str(given.packages)])
        if normalized(one.metadata["Name"]) != given.name
        and (not given.only_locked or normalized(one.metadata["Name"]) in hashes)
    ]
    if given.status_folder is not None:
        stanzas = [path.read_text() for path in given.status_folder.iterdir()]
        components += [one for text in stanzas if (one := of_debian(text, given.debian))]
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    print(json.dumps(bill(given.name, given.version, given.kind, components, when), indent=1))


if __name__ == "__main__":
    main()

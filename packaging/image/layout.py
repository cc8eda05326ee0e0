"""An OCI image layout in one tar file, of a folder that is the image's file system.

    python packaging/image/layout.py FOLDER IMAGE.oci.tar --version 1.2.3 --architecture amd64

The layout (OCI image specification 1.1: `oci-layout`, `index.json`, `blobs/sha256/…`) is written
here, because engines and their tools put times and hosts into what they build. This one is a
function of the folder and of SOURCE_DATE_EPOCH: names in order, one time for all, owners by number,
a gzip header without a name. `manifest.json` is there as well, so that `docker load` of any age
takes the file.

There are three layers, the most lasting first, so that a new version of the program is a small
download: Debian's files, the Python packages that are carried, the program.

The healthcheck is Docker's field of the image's configuration. The specification of OCI has none,
so podman leaves it out; docs/cookbook/image.md has its option.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = dict[str, Any]

_HOME = "usr/lib/treehouse-proxy"
_PROGRAM = ("proxy", "acme_client", "treehouse_proxy-")
_SECOND = 1_000_000_000  # Docker's durations are in nanoseconds
USER = "65532:65532"


@dataclass(frozen=True)
class Blob:
    """A piece of the layout, named by its hash."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def path(self) -> str:
        return "blobs/" + self.digest.replace(":", "/")

    def described(self) -> Document:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True)
class Layer:
    """A layer of the image. ``identity`` is the digest of its tar before it was compressed, and
    ``what`` its line in the image's history."""

    blob: Blob
    identity: str
    what: str


def is_program(name: str) -> bool:
    """Whether a path (without a leading slash) is of the program or its configuration."""
    if name.startswith(f"{_HOME}/lib/"):
        parts = name.split("/site-packages/")
        return len(parts) == 2 and parts[1].startswith(_PROGRAM)
    places = ("etc/treehouse-proxy", f"{_HOME}/healthcheck", "usr/share/doc/treehouse-proxy")
    return name.startswith(
        (*places, "usr/share/treehouse-proxy", "var/lib/dpkg/status.d/treehouse")
    )


def is_carried(name: str) -> bool:
    """Whether a path is of the environment with the Python packages that the program needs."""
    return name.startswith(_HOME) and not is_program(name)


def is_of_debian(name: str) -> bool:
    """Whether a path is neither of the program nor of the packages that it carries."""
    return not is_program(name) and not is_carried(name)


def layers(root: Path, when: int) -> list[Layer]:
    """Return the layers of the file system, the lowest first."""
    of_each = [
        ("Debian", is_of_debian),
        ("Python packages", is_carried),
        ("treehouse-proxy", is_program),
    ]
    return [_layer(root, when, what, belongs) for what, belongs in of_each]


def _layer(root: Path, when: int, what: str, belongs: Callable[[str], bool]) -> Layer:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    chosen = {name for name in names if belongs(name)}
    # A layer names the folders above its files, with their modes, or an engine would invent these.
    above = {str(one) for name in chosen for one in Path(name).parents if str(one) != "."}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(chosen | above):
            _add(archive, root, name, when)
    plain = content.getvalue()
    packed = gzip.compress(plain, 9, mtime=0)
    blob = Blob("application/vnd.oci.image.layer.v1.tar+gzip", packed)
    return Layer(blob, f"sha256:{hashlib.sha256(plain).hexdigest()}", what)


def _add(archive: tarfile.TarFile, root: Path, name: str, when: int) -> None:
    path = root / name
    entry = archive.gettarinfo(str(path), arcname=name)
    entry.uname = entry.gname = ""
    entry.mtime = when
    if entry.islnk():  # the same file under another name: each layer has its own
        entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
    if entry.isreg():
        with path.open("rb") as file:
            archive.addfile(entry, file)
    else:
        archive.addfile(entry)


def configuration(found: Iterable[Layer], version: str, architecture: str, when: int) -> Blob:
    """Return the image's configuration: who runs what, and how it is known to be well."""
    moment = datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = list(found)
    document: Document = {
        "created": moment,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": USER,
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
            "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "HOME=/var/lib/treehouse-proxy"],
            "Entrypoint": ["/usr/bin/treehouse-proxy"],
            "Cmd": ["run", "--config", "/etc/treehouse-proxy/config.yaml"],
            "Volumes": {"/var/lib/treehouse-proxy": {}},
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Healthcheck": {
                "Test": ["CMD", f"/{_HOME}/bin/python", "-P", f"/{_HOME}/healthcheck.py"],
                "Interval": 30 * _SECOND,
                "Timeout": 20 * _SECOND,
                "StartPeriod": 30 * _SECOND,
                "Retries": 3,
            },
            "Labels": {
                "org.opencontainers.image.title": "treehouse-proxy",
                "org.opencontainers.image.description": "HTTPS in front of apps and folders",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "MIT",
                "org.opencontainers.image.created": moment,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [one.identity for one in found]},
        "history": [{"created": moment, "created_by": one.what} for one in found],
    }
    return Blob("application/vnd.oci.image.config.v1+json", _json(document))


def write(root: Path, target: Path, version: str, architecture: str, when: int) -> None:
    """Write the layout of the file system in the folder ``root`` to ``target``."""
    found = layers(root, when)
    settings = configuration(found, version, architecture, when)
    manifest = Blob(
        "application/vnd.oci.image.manifest.v1+json",
        _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": settings.described(),
                "layers": [one.blob.described() for one in found],
            }
        ),
    )
    tag = version.replace("+", "-")  # a tag has no plus
    reference = f"treehouse-proxy:{tag}"
    named = {
        "io.containerd.image.name": f"docker.io/library/{reference}",
        "org.opencontainers.image.ref.name": tag,
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**manifest.described(), "annotations": named}],
    }
    of_docker = [
        {
            "Config": settings.path,
            "RepoTags": [reference],
            "Layers": [one.blob.path for one in found],
        }
    ]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json(of_docker),
    }
    files |= {
        blob.path: blob.content for blob in (settings, manifest, *(one.blob for one in found))
    }
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, when
            archive.addfile(entry)
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o644, when
            archive.addfile(entry, io.BytesIO(content))


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--architecture", required=True)
    given = parser.parse_args()
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    write(given.root, given.target, given.version, given.architecture, when)


if __name__ == "__main__":
    main()

"""What a release refuses, in words that say what to do; and the files of which it is made."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from support.program.checkout import Checkout
from support.program.server import REPOSITORY

EPOCH = "1767323045"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Tests leave it as they find it: the copy is the dearest part."""
    return Checkout(tmp_path_factory.mktemp("release") / "checkout")


def refused(checkout: Checkout, *said: str, **environment: str) -> None:
    done = checkout.runs(sys.executable, "packaging/release.py", "--check", **environment)
    lines = done.stderr.splitlines()
    assert done.returncode == (1 if said else 0), done
    assert len(lines) == len(said), lines
    for line, words in zip(lines, said, strict=True):
        assert line.startswith(f"no release: {words}"), line


def test_a_release_is_a_clean_tagged_commit_with_an_entry(checkout: Checkout) -> None:
    refused(checkout, "HEAD has no tag of a version (git tag -a v1.2.3 -m 1.2.3)")
    checkout.git("tag", "v9.8.7")
    entry = (
        'CHANGELOG.md has no entry for 9.8.7 (put the heading "## [9.8.7] - YEAR-MONTH-DAY" below'
    )
    refused(checkout, entry)
    # Both at once are told at once.
    stray = checkout.folder / "stray.txt"
    stray.write_text("")
    refused(checkout, "the tree has changes that are not committed: stray.txt (commit or", entry)
    stray.unlink()
    refused(checkout, "PACKAGE_VERSION is set, and a release takes it from its tag", entry, PACKAGE_VERSION="9.8.7")  # fmt: skip
    checkout.git("tag", "v9.8.8rc1")
    refused(checkout, "HEAD has several tags: 9.8.7, 9.8.8rc1 (delete all but one)", entry, entry.replace("9.8.7", "9.8.8rc1"))  # fmt: skip
    checkout.git("tag", "-d", "v9.8.7", "v9.8.8rc1")

    log = checkout.folder / "CHANGELOG.md"
    before = log.read_text()
    dated = "## [9.8.7] - 2026-01-31"
    for heading, words in [
        ("## [9.8.7]\n\n- New.\n", "the entry of CHANGELOG.md for 9.8.7 has no date"),
        (f"{dated}\n\n### Added\n", "the entry of CHANGELOG.md for 9.8.7 is empty"),
        ("## [9.8.70] - 2026-01-31\n\n- New.\n", "CHANGELOG.md has no entry for 9.8.7 "),
        (f"{dated}\n\n### Added\n\n- New.\n", ""),
    ]:
        log.write_text(before.replace("## [Unreleased]\n", f"## [Unreleased]\n\n{heading}\n## [9.8.6] - 2026-01-01\n", 1))  # fmt: skip
        checkout.commit()
        checkout.git("tag", "v9.8.7")
        refused(checkout, *([words] if words else []))
        checkout.git("tag", "-d", "v9.8.7")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_a_checkout_of_another_user_is_cloned(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("tag", "v9.8.7")
    owned = [checkout.folder, checkout.folder / ".git"]
    clone = "import sys; sys.path[:0] = ['packaging']; import pathlib, release; release.clone_of('v9.8.7', pathlib.Path(sys.argv[1]))"  # fmt: skip
    # No settings of this machine that would allow it anyway.
    alone = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    try:
        for path in owned:
            os.chown(path, 65534, 65534)
        done = checkout.runs(sys.executable, "-c", clone, str(tmp_path / "clone"), **alone)
    finally:
        for path in owned:
            os.chown(path, 0, 0)
        checkout.git("tag", "-d", "v9.8.7")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone/CHANGELOG.md").exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small file system of an image."""
    home = tmp_path / "root/usr/lib/treehouse-proxy/lib/python3.13/site-packages"
    for path, text in {
        home / "proxy/boot.py": "program",
        home / "h2/h2.py": "carried",
        tmp_path / "root/usr/bin/python3.13": "Debian's",
        tmp_path / "root/etc/treehouse-proxy/config.yaml": "",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "root/usr/bin/python3").symlink_to("python3.13")
    os.link(home / "h2/h2.py", home / "h2/same.py")
    return tmp_path / "root"


def image_of(root: Path, target: Path) -> dict[str, bytes]:
    subprocess.run(
        [sys.executable, REPOSITORY / "packaging/image/layout.py", root, target,
         "--version", "1.2.3+g1", "--architecture", "amd64"],
        env={"SOURCE_DATE_EPOCH": EPOCH}, check=True,
    )  # fmt: skip
    with tarfile.open(target) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr] # files have content


def test_the_layout_of_an_image_holds_together_and_depends_on_its_files_alone(
    root: Path, tmp_path: Path
) -> None:
    files = image_of(root, tmp_path / "one.tar")
    for path in root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    image_of(root, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()

    def blob(described: dict[str, object]) -> bytes:
        found = files["blobs/" + str(described["digest"]).replace(":", "/")]
        assert len(found) == described["size"]
        return found

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(files["index.json"])["manifests"]
    assert described["annotations"]["org.opencontainers.image.ref.name"] == "1.2.3-g1"
    manifest = json.loads(blob(described))
    config = json.loads(blob(manifest["config"]))
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Healthcheck"]["Interval"] == 30_000_000_000
    layers = [gzip.decompress(blob(one)) for one in manifest["layers"]]
    names = []
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            entries = archive.getmembers()
        assert {one.mtime for one in entries} == {int(EPOCH)}
        assert not any(one.uname or one.islnk() for one in entries)
        names.append({one.name for one in entries if not one.isdir()})
    home = "usr/lib/treehouse-proxy/lib/python3.13/site-packages"
    assert names == [
        {"usr/bin/python3.13", "usr/bin/python3"},
        {f"{home}/h2/h2.py", f"{home}/h2/same.py"},
        {f"{home}/proxy/boot.py", "etc/treehouse-proxy/config.yaml"},
    ]
    (of_docker,) = json.loads(files["manifest.json"])
    assert of_docker["RepoTags"] == ["treehouse-proxy:1.2.3-g1"]
    assert {of_docker["Config"], *of_docker["Layers"]} < files.keys()


def test_a_bill_of_materials_names_what_is_carried_and_with_which_hashes(tmp_path: Path) -> None:
    status = tmp_path / "status.d"
    status.mkdir()
    (status / "libc6").write_text(
        "Package: libc6\nVersion: 2.41-1\nArchitecture: amd64\nDescription: GNU C Library\n"
    )
    (status / "treehouse-proxy").write_text(
        "Package: treehouse-proxy\nVersion: 1\nArchitecture: amd64\n"
    )
    site = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [sys.executable, REPOSITORY / "packaging/sbom.py", site, "--only-locked",
         "--lock", REPOSITORY / "requirements/run.txt", "--name", "treehouse-proxy",
         "--version", "1.2.3", "--kind", "image", "--status-folder", status, "--debian", "13"],
        env={"SOURCE_DATE_EPOCH": EPOCH}, check=True, capture_output=True,
    )  # fmt: skip
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["timestamp"] == "2026-01-02T03:04:05Z"
    components = {one["purl"]: one for one in bill["components"]}
    assert "pkg:deb/debian/libc6@2.41-1?arch=amd64&distro=debian-13" in components
    assert not any("treehouse" in purl or "pkg:pypi/pytest" in purl for purl in components)
    (h11,) = [one for purl, one in components.items() if purl.startswith("pkg:pypi/h11@")]
    hashes = [one["hashes"][0]["content"] for one in h11["externalReferences"]]
    lock = (REPOSITORY / "requirements/run.txt").read_text()
    assert hashes
    assert all(f"--hash=sha256:{one}" in lock for one in hashes)
    pinned = {line.partition("==")[0] for line in lock.splitlines() if "==" in line and line[0].isalnum()}  # fmt: skip
    assert len([purl for purl in components if purl.startswith("pkg:pypi/")]) == len(pinned)

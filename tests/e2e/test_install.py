"""`pip install .` into any virtual environment gives the command, and its papers beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.program.server import REPOSITORY


def test_the_command_is_installed(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    for name in (
        "proxy",
        "acme_client",
        "config",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(source)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "--python", str(folder / "venv/bin/python"), "install", "--no-deps", str(wheel)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    # Its dependencies are those of the environment that the tests run in.
    packages = next(Path(sys.prefix, "lib").glob("python*/site-packages"))
    done = subprocess.run(
        [folder / "venv/bin/treehouse-proxy", "--version"],
        cwd=folder, env={"PYTHONPATH": str(packages)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0.1.0" in done.stdout
    share = folder / "venv/share"
    for path in (
        "man/man1/treehouse-proxy.1",
        "bash-completion/completions/treehouse-proxy",
        "zsh/site-functions/_treehouse-proxy",
        "fish/vendor_completions.d/treehouse-proxy.fish",
        "doc/treehouse-proxy/reference.yaml",
        "doc/treehouse-proxy/examples/app.yaml",
        "treehouse-proxy/systemd/treehouse-proxy.service",
    ):
        assert (share / path).is_file(), path
    manual = subprocess.run(
        ["man", "-M", str(share / "man"), "-w", "treehouse-proxy"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert manual.stdout.strip() == str(share / "man/man1/treehouse-proxy.1"), manual.stderr
    metadata = next(folder.glob("venv/lib/python*/site-packages/treehouse_proxy-*.dist-info"))
    text = (metadata / "METADATA").read_text()
    assert "License-Expression: MIT\n" in text
    assert "Classifier: Operating System :: POSIX :: Linux\n" in text
    assert "The treehouse-proxy maintainers" in (metadata / "licenses/LICENSE").read_text()

"""A wheel for one Python and machine: the pure wheel, and the accelerated lane beside its source.

    python packaging/platform_wheel.py PURE.whl LANE.so FOLDER

prints the path of the wheel. pip prefers it to the pure one wherever it fits, and takes the pure
one anywhere else. Its tag says which C library the lane asks for (PEP 600): the newest version of
glibc that it names a symbol of, as ``objdump`` shows it. Nothing else depends on where it was
built; names are in order, and all times are SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

# Of the oldest glibc that pip has a tag for on every architecture; nothing older is told apart.
_OLDEST = (2, 17)
_PLACE = "proxy/accelerated/"


def tag(lane: Path) -> str:
    """Return the wheel's tag, such as ``cp311-cp311-manylinux_2_17_x86_64``. Raises `ValueError`
    for a file that is no extension module's, CalledProcessError for no library at all."""
    named = re.fullmatch(r"lane\.cpython-(\d+)-([^.]+)\.so", lane.name)
    if named is None:
        raise ValueError(f"{lane.name} is no extension module of CPython")
    symbols = subprocess.run(["objdump", "-T", lane], check=True, capture_output=True, text=True)
    asked = re.findall(r"\bGLIBC_(\d+)\.(\d+)", symbols.stdout)
    major, minor = max([_OLDEST, *((int(one), int(other)) for one, other in asked)])
    python = f"cp{named[1]}"
    return f"{python}-{python}-manylinux_{major}_{minor}_{platform.machine()}"


def contents(pure: Path, lane: Path, tags: str) -> dict[str, tuple[bytes, int]]:
    """Return the files of the wheel by name: what is in them, and their mode."""
    with zipfile.ZipFile(pure) as archive:
        found = {
            one.filename: (archive.read(one), one.external_attr >> 16)
            for one in archive.infolist()
            if not one.is_dir()
        }
    (record,) = (name for name in found if name.endswith(".dist-info/RECORD"))
    about = record.removesuffix("RECORD") + "WHEEL"
    text = found[about][0].decode()
    text = text.replace("Root-Is-Purelib: true", "Root-Is-Purelib: false")
    text = re.sub(r"(?m)^Tag: .*$", f"Tag: {tags}", text)
    found[about] = (text.encode(), found[about][1])
    found[_PLACE + lane.name] = (lane.read_bytes(), 0o100644)
    mode = found.pop(record)[1]
    lines = [_recorded(name, content) for name, (content, _) in sorted(found.items())]
    # The record comes last, as PEP 427 wants it.
    found = dict(sorted(found.items()))
    found[record] = ("".join([*lines, f"{record},,\n"]).encode(), mode)
    return found


def _recorded(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


def write(pure: Path, lane: Path, folder: Path) -> Path:
    """Write the wheel into a folder, and return its path. Raises as `tag` does."""
    tags = tag(lane)
    made = folder / pure.name.replace("-py3-none-any.whl", f"-{tags}.whl")
    when = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, (content, mode) in contents(pure, lane, tags).items():
            entry = zipfile.ZipInfo(name, when)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    made.write_bytes(packed.getvalue())
    return made


def main() -> None:
    pure, lane, folder = map(Path, sys.argv[1:])
    print(write(pure, lane, folder))


if __name__ == "__main__":
    main()

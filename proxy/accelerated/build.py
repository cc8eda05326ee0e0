"""Builds the accelerated lane beside its source, for the Python that runs this:

    python -m proxy.accelerated.build [--sanitize] [FOLDER]

That takes a C compiler and Python's headers (Debian: gcc libc6-dev python3-dev), and no other tool.
Where one of them is missing, it says so and ends with status 1; the program runs without the lane.
``--sanitize`` builds for a fuzzer: what leaves its memory ends the process (AddressSanitizer, whose
library has to be preloaded, and UndefinedBehaviorSanitizer).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("lane.c")
_HARDENED = (
    "-O2", "-fPIC", "-shared", "-fwrapv", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2",
    "-fvisibility=hidden", "-Wl,-z,relro,-z,now", "-Wall", "-Wextra",
    "-Wno-missing-field-initializers",
)  # fmt: skip
_SANITIZED = (
    "-O1", "-g", "-fPIC", "-shared", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # fmt: skip


def target(folder: Path) -> Path:
    """Return the path of the module in a folder, as this Python's import system spells it."""
    return folder / f"lane{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(folder: Path, *, sanitize: bool = False) -> Path:
    """Compile into a folder that exists, and return the module's path. Raises `RuntimeError` with
    the name of what is missing, or with the words of the compiler."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    headers = sysconfig.get_path("include")
    if shutil.which(compiler[0]) is None:
        raise RuntimeError(
            f"no C compiler ({compiler[0]}); on Debian: apt-get install gcc libc6-dev"
        )
    if not Path(headers, "Python.h").exists():
        raise RuntimeError(f"no Python.h in {headers}; on Debian: apt-get install python3-dev")
    made = target(folder)
    # Beside it first, and then in its place: a program that runs keeps the file that it has mapped.
    beside = made.with_name(f".{made.name}.{os.getpid()}")
    command = [
        *compiler, *(_SANITIZED if sanitize else _HARDENED), f"-I{headers}",
        # Python's macros name their file where they fail; it is the same wherever this is built.
        f"-ffile-prefix-map={SOURCE.parent}={SOURCE.parent.name}",
        str(SOURCE), "-o", str(beside),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    if done.returncode != 0:
        beside.unlink(missing_ok=True)
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr.strip()}")
    beside.replace(made)
    return made


def main(arguments: list[str]) -> int:
    folders = [one for one in arguments if one != "--sanitize"]
    try:
        made = build(
            Path(folders[0]) if folders else SOURCE.parent, sanitize="--sanitize" in arguments
        )
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"the accelerated lane is not built: {error}\n")
        return 1
    sys.stdout.write(f"{made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

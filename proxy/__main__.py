"""The entry point of ``treehouse-proxy`` and of ``python -m proxy``."""

from __future__ import annotations

import gc
import sys

if sys.platform != "linux":
    sys.exit(
        f"treehouse-proxy runs on Linux only: it needs memfd, Landlock, seccomp and prctl, "
        f"and this is {sys.platform}"
    )

# Some five hundred modules follow, and nothing of them is garbage.
gc.disable()

from .cli.main import program  # noqa: E402 - see above


def main() -> None:
    gc.enable()
    sys.exit(program(prog_name="treehouse-proxy", standalone_mode=True))


if __name__ == "__main__":
    main()

"""The entry point of ``treehouse-proxy`` and of ``python -m proxy``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if sys.platform != "linux":
    sys.exit(
        f"treehouse-proxy runs on Linux only: it needs memfd, Landlock, seccomp and prctl, "
        f"and this is {sys.platform}"
    )

# Hundreds of modules follow, and nothing of them is garbage.
gc.disable()

from .exit_status import FAILED  # noqa: E402 - see above

if TYPE_CHECKING:
    from .config.options import Options

_TELLING = ("--help", "-h", "--version")


def main() -> None:
    arguments = sys.argv[1:]
    # What `cli.main` takes for the command `run`. Where it thinks otherwise, that costs time alone.
    first = arguments[0] if arguments else "run"
    if first in _TELLING or not (first == "run" or first.startswith("-")):
        gc.enable()
        sys.exit(_command_line(None))
    try:
        from . import boot

        sys.exit(boot.run(_command_line))
    except KeyboardInterrupt:
        sys.exit(FAILED)


def _command_line(serve: Callable[[Options], None] | None) -> int:
    """Do what the command line says, and return the exit status. ``serve`` is called by `run`."""
    from .cli.main import program

    status = program(prog_name="treehouse-proxy", standalone_mode=True, obj=serve)
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()

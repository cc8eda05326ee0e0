"""The entry point of ``treehouse-proxy`` and of ``python -m proxy``."""

from __future__ import annotations

import sys

from .cli.program import program


def main() -> None:
    sys.exit(program(prog_name="treehouse-proxy", standalone_mode=True))

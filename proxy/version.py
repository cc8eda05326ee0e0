"""The version of the program that runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("treehouse-proxy")
except PackageNotFoundError:  # run from a checkout that was not installed
    VERSION = "0.1.0"

"""The trials of packages and of the image, which `make test-packages` and `make test-image` run."""

from __future__ import annotations

from support.program import folders

pytest_itemcollected = folders.start_the_program
pytest_ignore_collect = folders.not_in(folders.FAST)

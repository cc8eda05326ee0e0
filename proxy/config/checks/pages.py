"""Compares what the rules say about pages with the disk: pages for errors, folders that are listed.
Changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path as FilePath

from ..schema.parse import Parsed, servings
from ..schema.rules import Rules
from ..syntax.faults import Fault, Path
from .reader import Reader, Trouble, reach

# A page is kept in memory by every worker.
LARGEST_PAGE = 1024 * 1024


def check(parsed: Parsed, reader: Reader | None, notices: list[Fault]) -> Iterator[Fault]:
    """Yield a fault for each page or folder that ``reader`` (None: unknown) cannot have. A path
    that may have been meant for a file goes to ``notices``."""
    is_folder = cache(os.path.isdir)  # thousands of sites may have one root
    yield from _error_pages((), parsed.document, parsed, reader, notices)
    for index, site in parsed.sites:
        at: Path = ("sites", index)
        for path, level in servings(site, at):
            yield from _error_pages(path, level, parsed, reader, notices)
            if level.root is None or reader is None or not is_folder(level.root):
                continue
            between = [] if level is site else [(at, site)]
            if parsed.holding(*between, (path, level)).rules.listing.format != "off":
                trouble = reach(level.root, os.R_OK, reader)
                if trouble:
                    yield parsed.origins.fault((*path, "root"), *trouble)


def _error_pages(
    path: Path, rules: Rules, parsed: Parsed, reader: Reader | None, notices: list[Fault]
) -> Iterator[Fault]:
    for page in rules.error_pages:
        at = (*path, "error_pages", ",".join(map(str, page.codes)))
        file = page.page_file
        if file is not None:
            trouble = _trouble(file, reader)
            if trouble:
                yield parsed.origins.fault(at, *trouble)
        elif page.path.count("/") > 1 and os.path.isdir(os.path.dirname(page.path)):
            what = f"{page.path} is no file on this machine, and is asked of the site"
            notices.append(parsed.origins.fault(at, what, "put the file there if one is meant"))


def _trouble(file: FilePath, reader: Reader | None) -> Trouble | None:
    """What keeps a page from being read."""
    try:
        status = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return f"{file} does not exist", "create it, or name the file that is meant"
    except PermissionError:
        return reach(file, os.F_OK, reader) if reader and reader.here else None
    except (OSError, ValueError) as error:
        return f"{file} cannot be looked at: {error}", "name the file that is meant"
    if not stat.S_ISREG(status.st_mode):
        return f"{file} is not a file", "name the file that is meant"
    if status.st_size > LARGEST_PAGE:
        return f"{file} is larger than 1 MiB", "name a smaller page"
    return reach(file, os.R_OK, reader) if reader is not None else None

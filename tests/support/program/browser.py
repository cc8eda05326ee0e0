"""Chromium, as the distribution has it, driven by playwright; axe-core looks for what keeps people out.

with browser() as chromium:
    page = chromium.new_page()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

PROGRAM = "/usr/bin/chromium"
WITHIN = 60_000  # milliseconds until a test that waits has failed
expect.set_options(timeout=WITHIN)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # The tests run as root, and in a network namespace of their own.
        found = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


def barriers(page: Page) -> list[str]:
    """What axe-core finds wrong, each with the element that shows it."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.scrollingElement.scrollWidth - innerWidth"))

"""The cookbook as tests read it: a folder of pages, each with one task and the recipe for that task.

A test takes a page by its title, so that a file may be renamed, and takes from the page the very
text that people copy.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs/cookbook"

# The text of each page by the title on its first line. The index has no recipe.
PAGES: dict[str, str] = {
    path.read_text().partition("\n")[0].removeprefix("# "): path.read_text()
    for path in sorted(FOLDER.glob("*.md"))
    if path.name != "README.md"
}
# All pages, for tests that look for what must stand somewhere.
TEXT = "\n".join(PAGES.values())


def first_yaml(title: str) -> str:
    """Return the first configuration on the page with this title."""
    found = re.search(r"```yaml\n(.*?)```", PAGES[title], re.DOTALL)
    assert found is not None, f"no configuration on the page {title}"
    return found[1]

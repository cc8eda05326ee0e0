"""Pages of the documentation's site that have no file below `docs/`, and links to files elsewhere.

The repository's README is the home page; `config/reference.yaml`, the changelog and the benchmarks'
results are pages as well, so that the search finds a key by what is said of it. Links are written
as they are right in the repository, where most people read them; here they become links to pages. A
link to a file that is no page fails the build.

MkDocs calls the functions by their names (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
# What a file of the repository is called among the pages.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "config/reference.yaml": "reference.md",
    "benchmarks/results.md": "measured.md",
    "benchmarks/scale.md": "scale.md",
    "benchmarks/chart.svg": "images/chart.svg",
    "benchmarks/scale.svg": "images/scale.svg",
}
_LINK = re.compile(r"(?P<text>!?\[[^]]*\])\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
# GitHub wants a bar escaped in a table, in code too; Python-Markdown shows the backslash then.
_CODE_IN_TABLE = re.compile(r"^\|.*\\\|.*$", re.MULTILINE)
_FENCE = re.compile(r"^(```.*?^```|(?:    [^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_BAR = re.compile(r"`[^`\n]*`")
# Files that are named and not shown: the name alone is written.
_NAMED = frozenset({"LICENSE"})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file below docs/."""
    for source, name in PAGES.items():
        path = REPOSITORY / source
        if path.suffix == ".svg":
            files.append(File.generated(config, name, abs_src_path=str(path)))
        else:
            files.append(File.generated(config, name, content=_content(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages of the site."""
    names = {name: source for source, name in PAGES.items()}
    source = names.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return with_links(markdown, source)


def with_links(markdown: str, source: str) -> str:
    """Return the page with its links as they are among the pages. ``source`` is the page's file in
    the repository. Raises `PluginError` where a link leads to no page."""
    parts = _FENCE.split(markdown)
    for place in range(0, len(parts), 2):  # code is left alone
        text = _CODE_IN_TABLE.sub(lambda found: _BAR.sub(_bare, found[0]), parts[place])
        parts[place] = _LINK.sub(lambda found: _link(found, source), text)
    return "".join(parts)


def _bare(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")


def _link(found: re.Match[str], source: str) -> str:
    target = found["target"]
    if re.match(r"[a-z]+:", target):
        return found[0]
    folder = posixpath.dirname(source)
    wanted = posixpath.normpath(posixpath.join(folder, target))
    if wanted in _NAMED:
        return found["text"].strip("[]")
    name = _page(wanted)
    if name is None:
        raise PluginError(f"{source}: the link to {target} leads to no page of the site")
    here = posixpath.dirname(_page(source) or "")
    text = found["text"]
    if text == f"[{target}]":  # a path says nothing to whoever sees no files
        text = f"[{Path(target).stem}]"
    return f"{text}({posixpath.relpath(name, here or '.')}{found['anchor'] or ''})"


def _page(source: str) -> str | None:
    """What a file of the repository is called among the pages; None where it is none of them."""
    if source in PAGES:
        return PAGES[source]
    if not source.startswith("docs/"):
        return None
    if (REPOSITORY / source).is_dir():
        source += "/README.md"
    return source.removeprefix("docs/") if (REPOSITORY / source).exists() else None


def _content(path: Path) -> str:
    text = path.read_text()
    if path.suffix == ".yaml":
        return f"# Every key\n\n```yaml\n{text}```\n"
    return text

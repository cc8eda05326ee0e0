"""The documentation as a site: complete, whole without a network, and found by its search."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mkdocs", reason="needs requirements/docs.txt")

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "docs"))
# What makes a browser fetch something, by element; links are followed by people alone.
LOADS = {"script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"),
         "video": ("src", "poster"), "audio": ("src",), "embed": ("src",), "object": ("data",),
         "link": ("href",), "use": ("href",), "form": ("action",)}  # fmt: skip
ELSEWHERE = re.compile(r"\s*(?:[a-z]+:)?//", re.IGNORECASE)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build as `make docs` does. Not quietly: MkDocs counts no warnings then."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY / "mkdocs.yml", made)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert not list(made.rglob("*.py*"))
    return made


class Loading(HTMLParser):
    """Gathers what a page loads, and the text of its own scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev", "license"):
            return
        self.loaded += [given[one] or "" for one in LOADS.get(tag, ()) if one in given]
        self.loaded += re.findall(r"url\(['\"]?([^)'\"]+)", given.get("style") or "")


def navigation(entries: object) -> Iterator[str]:
    match entries:
        case str():
            yield entries
        case list():
            for one in entries:
                yield from navigation(one)
        case dict():
            for one in entries.values():
                yield from navigation(one)


def test_every_page_is_in_the_navigation_once() -> None:
    from site_pages import PAGES

    text = (REPOSITORY / "mkdocs.yml").read_text()
    shown = list(navigation(yaml.safe_load(text)["nav"]))
    there = [
        str(path.relative_to(REPOSITORY / "docs")) for path in (REPOSITORY / "docs").rglob("*.md")
    ]
    made = [name for name in PAGES.values() if name.endswith(".md")]
    assert sorted(shown) == sorted([*there, *made])


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        reader = Loading()
        reader.feed(page.read_text())
        assert reader.loaded, page
        for target in reader.loaded:
            assert not ELSEWHERE.match(target), f"{page}: {target}"
            name = target.partition("?")[0].partition("#")[0]
            # The page for what is not there is sent for any path, so its own are whole.
            folder = site if page.name == "404.html" else page.parent
            assert not name or (folder / name.lstrip("/")).exists(), f"{page}: {target}"
    for sheet in site.rglob("*.css"):
        for target in re.findall(r"(?:url\(|@import )['\"]?([^)'\"]+)", sheet.read_text()):
            assert not ELSEWHERE.match(target), f"{sheet}: {target}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[there](nowhere.md)", "the link to nowhere.md leads to no page"),
        ("[there](index.md)", "the link to index.md leads to no page"),  # no file of the repository
        ("[there](../proxy/boot.py)", "the link to ../proxy/boot.py leads to no page"),
        ("[there](cookbook/app.md#nowhere)", "nowhere"),
    ],
)
def test_a_broken_link_fails_the_build(tmp_path: Path, text: str, said: str) -> None:
    """Of the real documentation, with one page that is wrong."""
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    (tmp_path / "docs/alerts.md").write_text(f"# Alerts\n\n{text}\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        (REPOSITORY / "mkdocs.yml").read_text().replace("docs/site_pages.py", f"{REPOSITORY}/docs/site_pages.py")
    )  # fmt: skip
    done = build(config, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_links_of_the_repository_become_links_of_the_site() -> None:
    from site_pages import with_links

    text = "[a](docs/cookbook/app.md#x) [b](https://a.test/) ![c](benchmarks/chart.svg) [LICENSE](LICENSE)"
    assert with_links(text, "README.md") == (
        "[a](cookbook/app.md#x) [b](https://a.test/) ![c](images/chart.svg) LICENSE"
    )
    assert with_links("[d](../config/reference.yaml)", "docs/alerts.md") == "[d](reference.md)"
    assert with_links("[docs/moving.md](docs/moving.md)", "README.md") == "[moving](moving.md)"
    code = "```sh\n[x](nowhere)\n```\n"
    assert with_links(code, "README.md") == code


@pytest.mark.program
def test_the_site_reads_well_and_is_searched_without_a_server(site: Path) -> None:
    """In a browser, from the disk, on a phone and on a desk, in both schemes."""
    from support.program.browser import browser, overflow

    asked: list[str] = []
    pages = ["index.html", "cookbook/index.html", "cookbook/docker.html", "errors/index.html",
             "errors/backend_refused.html", "reference.html", "moving.html", "faults.html"]  # fmt: skip
    with browser() as chromium:
        for width in (390, 1280):
            for scheme in ("light", "dark"):
                page = chromium.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme
                )
                page.on("request", lambda request: asked.append(request.url))
                for name in pages:
                    page.goto(f"{site.as_uri()}/{name}")
                    assert overflow(page) == 0, (width, name)
        page.goto(f"{site.as_uri()}/index.html")
        for words, found in [
            ("wordpress", "WordPress"),
            ("backend_refused", "backend_refused"),  # as the log has it
            ("hook_timeout", "Wildcards with a hook"),
        ]:
            page.locator("[data-md-component=search-query]").click()
            page.keyboard.press("Control+A")
            page.keyboard.type(words, delay=50)
            page.locator(".md-search-result__item h1", has_text=found).first.wait_for()
    assert asked
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}

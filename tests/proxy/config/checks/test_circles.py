"""Ways that lead back to where they begin: found in the configuration, before a browser finds them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config.load import Options, load

Told = Callable[[str], str]


@pytest.fixture
def told(open_folder: Path) -> Told:
    def notices(text: str) -> str:
        (open_folder / "www").mkdir(exist_ok=True)
        path = open_folder / "c.yaml"
        listen = "listen: {http: [':80'], https: [':443']}"
        path.write_text(f"state: {open_folder}/state\n{listen}\n{text}")
        config = load(Options(config=path), now_uid=os.geteuid())
        return "\n".join(one for one in config.notices if "leads back here" in one)

    return notices


@pytest.mark.parametrize(
    "site",
    [
        "names: a.test, redirect: 'https://a.test{path}'",
        "names: a.test, redirect: 'https://A.test.{path}'",
        "names: a.test, redirect: 'https://a.test:443{path}'",
        "names: a.test, redirect: 'https://{host}{path}'",
        "names: a.test, redirect: 'http://{host}{path}'",
        "names: a.test, redirect: '{path}'",
        "names: a.test, redirect: 'https://a.test'",
        "names: a.test, redirect: 'https://a.test/app/?x=y'",
        "names: [a.test, www.a.test], redirect: 'https://www.a.test{path}'",
        "names: a.test, routes: [{path: /*, redirect: '/new/{rest}'}]",
        "names: a.test, routes: [{path: /docs/*, redirect: '/docs/latest/{rest}'}]",
        "names: a.test, routes: [{path: /one, redirect: /one}]",
        "names: '*.a.test', redirect: 'https://www.a.test{path}'",
        "names: a.test, redirect: '/b/x', routes: [{path: /b/y, root: www}]",
        "names: a.test, routes: [{path: /b/*, redirect: /b/c}, {path: /*, root: www}]",
    ],
)
def test_a_redirect_that_leads_back_is_told(told: Told, site: str) -> None:
    said = told(f"sites: [{{{site}}}]")
    assert re.search(
        r"c.yaml:3:\d+: sites\[0\]\.(routes\[0\]\.)?redirect: .* leads back here", said
    )


@pytest.mark.parametrize(
    "sites",
    [
        "{names: a.test, redirect: 'https://b.test{path}'}",
        "{names: a.test, redirect: 'https://a.test:8443{path}'}",  # somebody else's port
        "{names: a.test, redirect: 'https://www.a.test{path}'}",
        (
            "{names: [a.test, b.test], redirect: 'https://www.a.test{path}'},"
            "{names: www.a.test, root: www}"
        ),
        "{names: a.test, routes: [{path: /old/*, redirect: '/new/{rest}'}, {path: /*, root: www}]}",
        "{names: a.test, routes: [{path: /, redirect: /app/}, {path: /*, root: www}]}",
        "{names: a.test, redirect: /app/, routes: [{path: /app/*, root: www}]}",
        "{names: a.test, routes: [{path: /a, redirect: '/b'}, {path: /b, root: www}]}",
        # Conditions that the redirect may well undo.
        (
            "{names: a.test, routes: [{path: /*, match: {query: {old: '*'}}, redirect: /x},"
            " {path: /*, root: www}]}"
        ),
        (
            "{names: a.test, routes: [{path: /f, methods: [POST], redirect: /f, status: 303},"
            " {path: /*, root: www}]}"
        ),
    ],
)
def test_other_redirects_are_none(told: Told, sites: str) -> None:
    assert told(f"sites: [{sites}]") == ""

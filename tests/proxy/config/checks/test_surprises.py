"""What is allowed and seldom meant: told, and no fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.config.load import Options, load

SITE = "sites: [{names: a.test, root: www}]"
WITHOUT_ANSWER = "a.test has a certificate and no answer"
SOURCE = "its source is sent"
EVERYBODY = "is everybody"
CIRCLE = "has the name of a site here"


def notices(folder: Path, text: str) -> str:
    (folder / "www").mkdir(exist_ok=True)
    path = folder / "c.yaml"
    path.write_text(f"state: {folder}/state\n{text}")
    return "\n".join(load(Options(config=path), now_uid=os.geteuid()).notices)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sites: [{names: a.test}]", WITHOUT_ANSWER),
        ("sites: [{names: a.test, routes: []}]", WITHOUT_ANSWER),
        ("sites:\n  - names: a.test\n    root:\n", "sites[0].root: there is no value, so a.test"),
        ("sites: [{names: a.test, headers: {set: {X-A: b}}}]", WITHOUT_ANSWER),
        (f"trusted_proxies: ['10.0.0.0/8', '0.0.0.0/0']\n{SITE}", EVERYBODY),
        (f"trusted_proxies: '::/0'\n{SITE}", EVERYBODY),
        ("sites: [{names: a.test, root: www, index: [index.html, index.php]}]", SOURCE),
        ("index: index.php\nsites: [{names: a.test, routes: [{path: /*, root: www}]}]", SOURCE),
        ("sites: [{names: a.test, root: www, fallback: /index.php}]", SOURCE),
        ("sites: [{names: a.test, backend: 'http://a.test'}]", CIRCLE),
        ("sites: [{names: a.test, backend: 'https://a.test'}]", CIRCLE),
        (
            f"{SITE[:-1]}, {{names: b.test, routes: [{{path: /*, backend: 'https://A.TEST:443'}}]}}]",
            CIRCLE,
        ),
    ],
)
def test_it_is_told_with_its_place(open_folder: Path, text: str, said: str) -> None:
    (line,) = [one for one in notices(open_folder, text).splitlines() if said in one]
    assert "c.yaml:" in line


@pytest.mark.parametrize(
    "text",
    [
        SITE,
        "respond: 503\nsites: [{names: a.test}]",
        "redirect: 'https://b.test{path}'\nsites: [{names: a.test}]",
        "sites: [{names: a.test, routes: [{path: /x, root: www}]}]",
        f"trusted_proxies: ['10.0.0.0/8', '::1']\n{SITE}",
        "sites: [{names: a.test, root: www, fastcgi: {url: 'unix:/run/x.sock', index: index.php}}]",
        "sites: [{names: a.test, backend: 'http://a.test:3000'}]",
        "sites: [{names: '*.test', backend: 'https://b.test'}]",
        "listen: {http: ':8080'}\nsites: [{names: a.test, backend: 'http://a.test'}]",
    ],
)
def test_what_is_usual_is_not(open_folder: Path, text: str) -> None:
    said = notices(open_folder, text)
    assert not any(one in said for one in (WITHOUT_ANSWER, SOURCE, EVERYBODY, CIRCLE))

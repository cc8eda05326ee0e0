"""Which expressions say no more than a path, endings of names, or names with a dot."""

from __future__ import annotations

import pytest

from proxy.config_import.path_patterns import endings, forms, hides_dot_files


@pytest.mark.parametrize(
    "expression",
    [r"/\.", r"/\.ht", r"^\.ht", r"/\.(?!well-known)", r"/\.(?!well-known).*", r"(^|/)\.",
     r"/\.git", r"\.ht", r"/\.(ht|git)", r"^/\."],
)  # fmt: skip
def test_names_with_a_dot(expression: str) -> None:
    assert hides_dot_files(expression)


@pytest.mark.parametrize(
    "expression",
    [r"\.php$", r"\.(sql|bak)$", r"\.log", r"/secret\.", r"/a\.b", r"\.env$", ".*", ""],
)
def test_endings_are_no_names_with_a_dot(expression: str) -> None:
    """A refusal of these must not be taken for one of what is never sent anyway."""
    assert not hides_dot_files(expression)


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        (r"^/a$", ["/a"]),
        (r"^/a/?$", ["/a", "/a/"]),
        (r"^/a/(.*)$", ["/a/*"]),
        (r"^/a(/|$)(.*)", ["/a", "/a/*"]),
        (r"^/(a|b)/", ["/a/*", "/b/*"]),
        (r"^/v[12]/", ["/v1/*", "/v2/*"]),
        (r"^/a\.html$", ["/a.html"]),
        (r"^/(.*)$", ["/*"]),
        (r"^/a/[0-9]+$", None),
        (r"a", None),
        (r"^/a.c$", None),
        (r"^/(a(b|c))$", None),
        (r"^/[a-z]/", None),
    ],
)
def test_the_routes_of_an_expression(expression: str, paths: list[str] | None) -> None:
    found = forms(expression)
    assert (None if found is None else [one.path for one in found]) == paths


@pytest.mark.parametrize(
    ("expression", "names"),
    [(r"\.(css|jpe?g)$", ["css", "jpeg", "jpg"]), (r"\.woff2?$", ["woff2", "woff"]),
     (r"\.(css|js)", None), (r"x\.css$", None)],
)  # fmt: skip
def test_endings(expression: str, names: list[str] | None) -> None:
    assert endings(expression) == names

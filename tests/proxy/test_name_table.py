"""Names, and the wildcards that cover them."""

from __future__ import annotations

import pytest

from proxy.name_table import NameTable, covers, wildcard_of


@pytest.mark.parametrize(
    ("names", "host", "yes"),
    [
        (("a.test",), "a.test", True),
        (("*.a.test",), "x.a.test", True),
        (("*.a.test",), "a.test", False),
        (("*.a.test",), "x.y.a.test", False),
        (("a.test",), "b.test", False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("*.0.0.1",), "127.0.0.1", True),  # such a name cannot be certified, let alone configured
        ((), "a.test", False),
    ],
)
def test_a_wildcard_stands_for_one_label(names: tuple[str, ...], host: str, yes: bool) -> None:
    assert covers(names, host) is yes


def test_a_host_of_one_label_has_no_wildcard() -> None:
    assert wildcard_of("localhost") == ""
    assert wildcard_of("") == ""


def test_an_exact_name_comes_before_its_wildcard() -> None:
    table = NameTable({"*.a.test": 1, "x.a.test": 2})
    assert table.find("x.a.test") == ("x.a.test", 2)
    assert table.find("y.a.test") == ("*.a.test", 1)
    assert table.find("a.test") is None
    assert table.exact("y.a.test") is None
    table.put("y.a.test", 3)
    assert table.find("y.a.test") == ("y.a.test", 3)

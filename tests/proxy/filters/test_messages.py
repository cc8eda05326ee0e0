"""What filters see can be made without a server, and refuses what must not be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.filters import BodyTooLarge, FieldRefused, Fields, Request, Response


def test_names_do_not_care_about_case() -> None:
    fields = Fields({"X-One": "1"})
    fields.add("x-one", "2")
    assert fields.get_all("X-ONE") == ["1", "2"]
    assert (fields["x-One"], fields.get("other"), "X-ONE" in fields) == ("1", None, True)
    fields.set("X-one", "3")
    assert list(fields.items()) == [("x-one", "3")]
    del fields["X-One"]
    assert len(fields) == 0
    with pytest.raises(KeyError):
        fields["x-one"]


def test_no_other_spelling_of_a_name_stays() -> None:
    fields = Fields([("X_Team", "forged"), ("X-Team", "forged")])
    fields.set("X-Team", "ops")
    assert list(fields.items()) == [("x-team", "ops")]


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\r\nb", "x\0"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(FieldRefused):
        Fields().set(name, "x")


@given(st.text(max_size=20))
def test_no_value_splits_a_message(value: str) -> None:
    fields = Fields()
    try:
        fields.set("x", value)
    except FieldRefused:
        return
    ((_name, raw),) = fields._raw
    assert not {0, 10, 13} & set(raw)


async def test_bodies_have_bounds() -> None:
    request = Request("POST", "/a?b", body=b"12345")
    assert (request.path, request.query) == ("/a", "b")
    assert await request.body() == b"12345"
    with pytest.raises(BodyTooLarge):
        await request.body(4)
    request.set_body(b"")
    assert await request.body() == b""
    with pytest.raises(TypeError):
        request.set_body("text")  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("body", "kind"),
    [("text", "text/plain; charset=utf-8"), (b"x", "application/octet-stream"), ("", None)],
)
def test_an_answer_says_what_its_body_is(body: str | bytes, kind: str | None) -> None:
    assert Response(200, body).fields.get("Content-Type") == kind
    assert Response(200, body, fields={"content-type": "a/b"}).fields["Content-Type"] == "a/b"


@pytest.mark.parametrize("status", [99, 101, 600, "200", True, None])
def test_a_status_that_is_none(status: object) -> None:
    with pytest.raises(ValueError, match="no status"):
        Response(status)  # type: ignore[arg-type] # that is the point

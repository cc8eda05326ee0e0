"""Contexts are made when they are asked for, and those that nobody asks for are let go."""

from __future__ import annotations

import ssl

import pytest

from proxy.tls.context_cache import ContextCache


@pytest.fixture
def made() -> list[str]:
    return []


@pytest.fixture
def cache(made: list[str]) -> ContextCache[str]:
    def make(key: str) -> ssl.SSLContext:
        if key == "bad":
            raise ssl.SSLError("no certificate")
        made.append(key)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    return ContextCache(make, most=3)


def test_what_is_asked_for_again_is_the_same(cache: ContextCache[str], made: list[str]) -> None:
    assert cache.get("a") is cache.get("a")
    assert made == ["a"]


def test_the_one_that_was_asked_for_longest_ago_makes_room(
    cache: ContextCache[str], made: list[str]
) -> None:
    for key in ("a", "b", "c", "a", "d"):
        cache.get(key)
    assert len(cache) == 3
    made.clear()
    for key in ("a", "c", "d", "b"):
        cache.get(key)
    assert made == ["b"]


def test_what_cannot_be_made_is_not_kept_and_what_was_dropped_is_made_anew(
    cache: ContextCache[str], made: list[str]
) -> None:
    with pytest.raises(ssl.SSLError):
        cache.get("bad")
    assert len(cache) == 0
    cache.get("a")
    cache.drop("a")
    cache.drop("nobody")
    cache.get("a")
    assert made == ["a", "a"]

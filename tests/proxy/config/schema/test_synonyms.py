"""Every word of another program leads somewhere: to a key that there is, or to what to do instead."""

from __future__ import annotations

import re

import pytest

from proxy.config.schema import parse, synonyms

MEANINGS = [*synonyms._AT_THE_TOP, *synonyms._ANYWHERE]


@pytest.mark.parametrize("meaning", MEANINGS, ids=[one.words.split()[0] for one in MEANINGS])
def test_a_meaning_has_a_key_that_there_is_or_something_to_do_instead(
    meaning: synonyms.Meaning,
) -> None:
    assert meaning.otherwise or parse._is_key(meaning.key), meaning.words
    if meaning.example:
        last = meaning.key.rpartition(".")[2]
        assert f"{last}:" in meaning.example, "the example shows the key"


def test_some_sixty_words_and_more_are_known_however_they_are_written() -> None:
    assert len(synonyms.WORDS) > 300
    for word in ("entryPoints", "entry_points", "entry-points", "ENTRYPOINTS"):
        assert "listen:" in (synonyms.meaning(word, True, lambda _: True) or "")
    assert synonyms.meaning("wxyz", True, lambda _: True) is None
    assert synonyms.meaning("/api", False, lambda _: True) is None


def test_what_has_no_key_yet_is_told_what_to_do_instead() -> None:
    without = synonyms.meaning("auth_basic", False, lambda _: False)
    assert without is not None
    assert "not here" in without
    assert "basic_auth:" in (synonyms.meaning("auth_basic", False, lambda _: True) or "")
    assert not re.search("health", without)

"""Users and groups, by name and number; root is nobody's choice."""

from __future__ import annotations

import grp
import pwd

import pytest

from proxy.config.checks.accounts import find_group, find_user
from proxy.config.syntax.faults import Wrong


def test_a_user_brings_its_primary_group_by_name_and_by_number():
    nobody = pwd.getpwuid(65534)
    assert find_user(nobody.pw_name) == (65534, nobody.pw_gid)
    assert find_user("65534") == (65534, nobody.pw_gid)


def test_a_number_needs_no_entry():
    assert find_user("4000000000") == (4000000000, None)
    assert find_group("4000000000") == 4000000000


def test_a_group_goes_by_name_or_number():
    assert find_group(grp.getgrgid(65534).gr_name) == 65534
    assert find_group("65534") == 65534


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("root", "is root"),
        ("0", "0 is root"),
        ("000", "0 is root"),
        ("4294967295", "not a valid number"),  # -1: "leave it as it is"
        ("99999999999999999999", "not a valid number"),
        ("nobody-of-that-name", "there is no user"),
        ("a\0b", "there is no user"),
        ("-1", "there is no user"),
        ("1e3", "there is no user"),
        ("٣", "there is no user"),
    ],
)
def test_no_other_user_can_be_become(word, said):
    with pytest.raises(Wrong, match=said) as wrong:
        find_user(word)
    assert "\0" not in str(wrong.value)
    with pytest.raises(Wrong):
        find_group(word)

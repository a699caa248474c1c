"""Digests of bodies and of states."""

from __future__ import annotations

import pytest

from tailrace.domain.models.digest import digest_of, state_digest


def test_a_body_has_its_sha256_as_digest() -> None:
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" == digest_of(b"")


def test_the_order_of_parts_does_not_change_a_states_digest() -> None:
    assert state_digest([("loop", "aa"), ("champion", "bb")]) == state_digest([("champion", "bb"), ("loop", "aa")])


def test_names_and_digests_are_told_apart_wherever_one_ends() -> None:
    assert state_digest([("ab", "c")]) != state_digest([("a", "bc")])


def test_a_state_has_one_part_of_a_name() -> None:
    with pytest.raises(ValueError, match="'loop' occurs twice"):
        state_digest([("loop", "aa"), ("loop", "bb")])

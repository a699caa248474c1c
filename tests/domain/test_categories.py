"""The known values of an open category are the first so many that were learned, in the order of the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.categories import OTHER, CategoriesState
from tailrace.domain.records import Features

values = st.lists(st.sampled_from(["a", "b", "c", "d", "e", OTHER]), max_size=30)


def make(most: int = 2, learned: str = "") -> CategoriesState:
    state = CategoriesState({"country": most})
    for value in learned:
        state.learn({"country": value})
    return state


def test_the_first_values_that_are_learned_are_known_and_later_ones_are_other() -> None:
    """Without this bound every new value would be one more weight, column or branch of the model, for ever."""
    state = make(most=2)

    learned = [state.learn({"country": value, "n": 1.0})["country"] for value in ("fr", "de", "fr", "it", "de", "es")]

    assert ["fr", "de", "fr", OTHER, "de", OTHER] == learned
    assert ("fr", "de") == state.known("country")


def test_a_new_value_is_shown_as_it_is_while_there_is_room_and_as_other_afterwards() -> None:
    assert {"country": "it"} == make(learned="d").view({"country": "it"})
    assert {"country": OTHER} == make(learned="df").view({"country": "it"})
    assert {"country": "f"} == make(learned="df").view({"country": "f"})


def test_a_view_changes_neither_the_row_nor_the_state() -> None:
    state, x = make(learned="df"), {"country": "it"}

    state.view(x)

    assert {"country": "it"} == x
    assert ("d", "f") == state.known("country")


def test_an_absent_feature_stays_absent_and_teaches_nothing() -> None:
    state = make()

    assert {"n": 1.0} == state.learn({"n": 1.0})
    assert () == state.known("country")


def test_other_takes_no_place_in_the_set() -> None:
    state = make(most=1)

    assert [OTHER, "d"] == [state.learn({"country": value})["country"] for value in (OTHER, "d")]
    assert ("d",) == state.known("country")


def test_features_have_sets_of_their_own() -> None:
    state = CategoriesState({"b": 1, "a": 1})

    state.learn({"a": "x", "b": "y", "c": "z"})

    assert {"a": "y", "b": OTHER, "c": "z"} | {"a": OTHER} == state.view({"a": "y", "b": "x", "c": "z"})
    assert ["a", "b"] == list(state.dump())


def test_a_contract_without_open_categories_is_no_work() -> None:
    state, rows = CategoriesState(), [{"a": 1.0}]

    assert not state
    assert state.view_rows(rows) is rows
    assert make().view_rows([{"country": "a"}]) == [{"country": "a"}]


@given(values, st.integers(1, 4), st.integers(0, 30))
def test_a_state_that_was_restored_in_the_middle_goes_on_as_the_one_that_was_not(
    sent: list[str], most: int, cut: int
) -> None:
    straight, first = make(most), make(most)
    rows: list[Features] = [{"country": value} for value in sent]

    for x in rows[:cut]:
        first.learn(x)
    restored = CategoriesState.load(first.dump())
    learned = [restored.learn(x) for x in rows[cut:]]

    assert [straight.learn(x) for x in rows][cut:] == learned
    assert straight.dump() == restored.dump()
    assert len(restored.known("country")) <= most


@given(values, st.integers(1, 4))
def test_no_row_is_ever_seen_in_another_way_after_it_was_learned(sent: list[str], most: int) -> None:
    """So it does not matter how many examples are noted before the model learns them."""
    state = make(most)
    learned = [state.learn({"country": value}) for value in sent]

    assert learned == [state.view({"country": value}) for value in sent]


@pytest.mark.parametrize("kept", [["a", "b"], ["a", "a"], [1], [OTHER], None, 7])
def test_what_dump_never_writes_is_refused(kept: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        CategoriesState.load({"country": {"most": 1, "values": kept}})

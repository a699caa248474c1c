"""The allow list of classes is what River has, as it was last seen."""

from __future__ import annotations

from tests.house.generate_allow_list import TARGET, generate


def test_the_allow_list_is_the_one_that_river_gives() -> None:
    assert generate() == TARGET.read_text(), "run tests/house/generate_allow_list.py, read the difference, commit it"

"""Which state serves, and what is told of the labels that it contains."""

from types import SimpleNamespace

import pytest

from tailrace.domain.positions import position_of
from tailrace.streams.followers import Models, Serving


def published(offset):
    return Serving(f"published {offset}", None, "lineage", position_of(offset), "log")


def folded(offset):
    """Return a state as far as it is asked here."""
    champion = SimpleNamespace(model=f"folded {offset}", categories=None, lineage="lineage")
    return SimpleNamespace(
        position=position_of(offset), champion=champion, branches={}, ownership=SimpleNamespace(log_id="log")
    )


@pytest.fixture
def models():
    made = Models()
    made.follow(published(5))
    return made


def test_what_is_followed_in_this_process_serves_only_where_it_is_newer(models):
    models.replica = folded(4)
    assert models.current().model == "published 5"

    models.replica = folded(9)
    assert models.current().model == "folded 9"

    models.live = folded(10)
    assert models.current().model == "folded 10"


def test_without_the_replica_the_newest_publication_serves_and_a_later_replica_again(models):
    """Guards the way back: a server that may not go below what it has served would answer nothing newer than wrong."""
    models.replica = folded(9)
    models.current()
    models.follow(published(7))
    models.drop_replica()
    assert models.current().model == "published 7"

    models.replica = folded(8)
    assert models.current().model == "folded 8"


def test_dropping_what_is_not_there_changes_nothing(models):
    models.live = folded(9)
    models.current()

    models.drop_replica()

    assert models.highest == position_of(9)


def test_a_state_that_rests_serves_on_also_when_a_learner_had_just_taken_it(models):
    models.replica = folded(9)
    models.rest()

    assert models.replica is None
    assert models.current().model == "folded 9"


def test_each_block_is_told_once_whoever_learned_it_first(models):
    told = []
    models.on_learned = told.append
    for offset in (3, 4, 5, 6, 5, 6, 7):
        models.learned(offset, offset)
    models.retreat()
    models.learned(7, 7)

    assert told == [5, 6, 7]
    assert models.told_from(position_of(2)) == 8
    assert models.told_from(position_of(11)) == 11


def test_a_replica_that_was_first_keeps_no_publication_away():
    """Guards the way back: an untrained state would be kept ready beside it, and serve when it is dropped."""
    models = Models()
    models.replica = folded(9)
    models.current()

    assert models.lowest < position_of(7)
    models.follow(published(7))
    models.drop_replica()

    assert models.current().model == "published 7"

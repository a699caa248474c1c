"""What has become of topics while a loop runs: what ends the work, and what is only said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.streams.test_topic_plan import TOPICS, changed, make_existing

from tailrace.streams.log import Range, TopicPartition
from tailrace.streams.topic_watch import Differences, Look, compare, furthest

TRAINING = TopicPartition("phishing.training", 0)


def make_look(states=None) -> Look:
    states = states or make_existing()
    held = {TopicPartition(name, number): Range(0, 100) for name, s in states.items() for number in range(s.partitions)}
    return Look(states, held)


def with_range(look: Look, at: TopicPartition, start: int, end: int) -> Look:
    return replace(look, ranges={**look.ranges, at: Range(start, end)})


def test_nothing_is_said_of_topics_that_grow():
    now = with_range(make_look(), TRAINING, 0, 500)

    assert compare(TOPICS, make_look(), now) == Differences()


@pytest.mark.parametrize("name", ["pages", "verdicts", "phishing.scored", "phishing.training", "phishing.snapshots"])
def test_a_topic_that_is_gone_ends_the_work(name):
    now = make_look({each: state for each, state in make_existing().items() if each != name})

    refusal = compare(TOPICS, make_look(), now).refusals[0]

    assert refusal.startswith(f"{name} does not exist any more")
    assert "Restore" in refusal


@pytest.mark.parametrize("name", ["pages", "phishing.predictions", "phishing.scored", "phishing.training"])
def test_an_end_that_went_back_ends_the_work(name):
    now = with_range(make_look(), TopicPartition(name, 0), 0, 99)

    (refusal,) = compare(TOPICS, make_look(), now).refusals

    assert refusal.startswith(f"{name}/0 ends at offset 99 and ended at 100")


def test_an_end_is_held_against_the_furthest_that_was_seen():
    first, later = make_look(), with_range(make_look(), TRAINING, 0, 300)

    before = furthest(furthest(first, later), first)

    assert compare(TOPICS, before, with_range(make_look(), TRAINING, 0, 200)).refusals
    assert not compare(TOPICS, before, with_range(make_look(), TRAINING, 0, 300)).refusals


def test_fewer_partitions_are_another_topic():
    now = make_look(changed(make_existing(), "pages", partitions=1))

    assert "pages has 1 partitions and had 4" in compare(TOPICS, make_look(), now).refusals[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("verdicts", "phishing.scored has 4 partitions and must have 5, as many as verdicts"),
        ("phishing.scored", "phishing.scored has 5 partitions and must have 4"),
        ("pages", "phishing.predictions has 4 partitions and needs at least 5, as many as pages"),
        ("phishing.training", "phishing.training has 5 partitions and must have 1"),
    ],
)
def test_partitions_that_break_a_promise_end_the_work(name, words):
    found = compare(TOPICS, make_look(), make_look(changed(make_existing(), name, partitions=5)))

    assert any(words in refusal for refusal in found.refusals)


def test_events_may_get_partitions_after_the_predictions():
    states = changed(changed(make_existing(), "phishing.predictions", partitions=5), "pages", partitions=5)

    found = compare(TOPICS, make_look(), make_look(states))

    assert found.refusals == ()
    assert any("pages has 5 partitions and had 4" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", ["phishing.training", "phishing.scored"])
def test_compaction_ends_the_work(name):
    found = compare(TOPICS, make_look(), make_look(changed(make_existing(), name, cleanup_policy="compact")))

    assert f"{name}: cleanup.policy is compact and must be delete" in found.refusals[0]


def test_a_shorter_retention_of_the_training_log_is_said_and_one_of_scored_ends_the_work():
    training = compare(
        TOPICS, make_look(), make_look(changed(make_existing(), "phishing.training", retention_ms="1000"))
    )
    scored = compare(TOPICS, make_look(), make_look(changed(make_existing(), "phishing.scored", retention_ms="1000")))

    assert (training.refusals, len(training.remarks)) == ((), 1)
    assert "phishing.scored: retention.ms is 1000" in scored.refusals[0]


def test_a_training_log_that_loses_its_beginning_is_said():
    found = compare(TOPICS, make_look(), with_range(make_look(), TRAINING, 40, 100))

    assert found.refusals == ()
    assert "begins at offset 40 and began at 0" in found.remarks[0]


def without(look: Look, at: TopicPartition) -> Look:
    return replace(look, ranges={each: held for each, held in look.ranges.items() if each != at})


def test_a_partition_without_a_leader_is_no_refusal_and_is_held_against_what_was_seen_of_it():
    at = TopicPartition("pages", 1)
    first, away = make_look(), without(make_look(), at)

    before = furthest(first, away)

    assert compare(TOPICS, first, away) == Differences()
    assert away.without_leader == {"pages": [1]}
    assert compare(TOPICS, before, with_range(make_look(), at, 0, 99)).refusals


def test_a_partition_that_had_no_leader_at_first_is_held_against_what_was_seen_of_it_later():
    at = TopicPartition("pages", 1)
    first = without(make_look(), at)

    assert compare(TOPICS, first, make_look()) == Differences()
    assert compare(TOPICS, furthest(first, make_look()), with_range(make_look(), at, 0, 99)).refusals


def test_what_was_so_at_the_start_is_not_told_again():
    states = changed(make_existing(), "phishing.training", retention_ms="1000")

    assert compare(TOPICS, make_look(states), make_look(states)) == Differences()

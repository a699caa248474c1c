"""What the join's inputs must be when partitions are assigned."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tailrace.domain.errors import LogError
from tailrace.streams.join_agent import JoinAgent, JoinTopics
from tailrace.streams.log import TopicPartition

TOPICS = JoinTopics(scored="loop.scored", labels="verdicts", relabelled="loop.relabelled")


def make_agent(**partitions):
    """Make an agent whose topics have two partitions each, but for these."""
    counts = {"loop.scored": 2, "verdicts": 2, "loop.relabelled": 2} | partitions

    async def count(name):
        return counts[name]

    recorder = SimpleNamespace(rebalanced=lambda *_: None)
    agent = JoinAgent(SimpleNamespace(topics=TOPICS, reader=SimpleNamespace(partitions=count), recorder=recorder))
    agent.attach(SimpleNamespace(moved_in_s=None))
    return agent


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (3, "verdicts has 3 partitions"),
        (0, "verdicts did not exist when partitions were assigned: .* Restore it"),
    ],
)
async def test_inputs_without_one_number_of_partitions_are_refused(verdicts, words):
    """Guards what belongs together: labels of an id would lie on a partition that its events do not."""
    agent = make_agent(verdicts=verdicts)

    with pytest.raises(LogError, match=words):
        await agent.on_assigned(1, frozenset({TopicPartition("loop.scored", 0)}))

    assert not agent.joins

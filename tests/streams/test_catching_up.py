"""What an outage left in many partitions is read in the order of its time, so that nothing comes too late by that."""

from __future__ import annotations

from tests.streams.log_tools import Inbox, running, until

from tailrace.streams.log import Outgoing, TopicPartition

PER_PARTITION = 4_000
STEP_MS = 1_000
SLACK_MS = 100_000


async def test_no_partition_is_read_ahead_of_another_by_more_than_the_slack(log_form):
    topic = await log_form.create(partitions=4, retention_ms="-1")
    begin_ms = 1_700_000_000_000
    async with running(log_form.open().sink("test")) as sink:
        for number in range(4):
            records = [Outgoing(None, b"x" * 100, (), begin_ms + at * STEP_MS) for at in range(PER_PARTITION)]
            await (await sink.send(TopicPartition(topic, number), records))
    inbox = Inbox()
    spec = log_form.spec(topic, abreast_ms=SLACK_MS)

    async with running(log_form.open().source(spec, inbox)) as inbox.source:
        await until(lambda: len(inbox.values) == 4 * PER_PARTITION)

    reached = dict.fromkeys(range(4), begin_ms)
    for batch in inbox.batches:
        reached[batch.partition.partition] = batch.records[-1].timestamp
        assert max(reached.values()) - min(reached.values()) <= SLACK_MS
    values = {
        number: [b for batch in inbox.batches if batch.partition.partition == number for b in batch.records]
        for number in range(4)
    }
    assert all([record.offset for record in found] == list(range(PER_PARTITION)) for found in values.values())

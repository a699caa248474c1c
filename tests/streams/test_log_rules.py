"""What every form of the log promises. Each rule is tested on the embedded log and on real Kafka."""

from __future__ import annotations

import asyncio

import pytest
from tests.log_forms import LogForm
from tests.streams.log_tools import Inbox, outgoing, running, send, until

from tailrace.domain.errors import ForeignLogError, LogError, RecordTooLarge
from tailrace.streams.log import Commit, Outgoing, Range, Source, SourceSpec, TopicPartition


def open_source(form: LogForm, spec: SourceSpec, inbox: Inbox, log=None, assignment=None) -> Source:
    source = (log or form.open()).source(spec, inbox, assignment)
    inbox.source = source
    return source


async def read_all(form: LogForm, partition: TopicPartition) -> list[str]:
    async with running(form.open().reader()) as reader:
        held = await reader.range_of(partition)
        return [(r.value or b"").decode() async for batch in reader.read(partition, *held) for r in batch]


async def test_records_of_a_partition_are_read_in_the_order_of_the_sends(log_form):
    topic = await log_form.create()
    values = [str(number) for number in range(2_000)]
    inbox = Inbox()

    async with running(log_form.open().sink("test")) as sink:
        deliveries = [
            await sink.send(TopicPartition(topic, 0), outgoing(*values[at : at + 7])) for at in range(0, 2_000, 7)
        ]
        offsets = [offset for delivery in deliveries for offset in await delivery]
    async with running(open_source(log_form, log_form.spec(topic), inbox)):
        await until(lambda: len(inbox.values) == 2_000)

    assert offsets == list(range(2_000))
    assert inbox.values == values


async def test_key_value_headers_and_time_come_back_as_they_were_sent(log_form):
    topic = await log_form.create()
    sent = Outgoing(b"\x00key", b"\xffvalue", (("traceparent", b"00-\xff"), ("empty", b"")), 1_234)

    async with running(log_form.open().sink("test")) as sink:
        await (await sink.send(TopicPartition(topic, 0), [sent, Outgoing(b"gone", None)]))
    async with running(log_form.open().reader()) as reader:
        records = [r async for batch in reader.read(TopicPartition(topic, 0), 0, 2) for r in batch]

    first, second = records
    assert (first.key, first.value, tuple(first.headers), first.timestamp) == (
        b"\x00key",
        b"\xffvalue",
        (("traceparent", b"00-\xff"), ("empty", b"")),
        1_234,
    )
    assert (second.key, second.value, tuple(second.headers)) == (b"gone", None, ())


async def test_a_topic_with_append_time_ignores_the_senders_time(log_form):
    topic = await log_form.create(message_timestamp_type="LogAppendTime")

    async with running(log_form.open().sink("test")) as sink:
        await (await sink.send(TopicPartition(topic, 0), [Outgoing(None, b"x", (), 1_234)]))
    async with running(log_form.open().reader()) as reader:
        records = [r async for batch in reader.read(TopicPartition(topic, 0), 0, 1) for r in batch]

    assert records[0].timestamp > 1_600_000_000_000


async def test_no_more_batches_are_in_flight_than_allowed(log_form):
    topic = await log_form.create()
    inbox = Inbox(completes=False)
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, *map(str, range(100)))

    spec = log_form.spec(topic, max_records=10, max_in_flight=3, revoke_timeout_s=0.2)
    async with running(open_source(log_form, spec, inbox)) as source:
        await until(lambda: len(inbox.batches) == 3)
        await asyncio.sleep(0.3)
        held_back = len(inbox.batches)
        source.complete(inbox.batches[0])
        await until(lambda: len(inbox.batches) == 4)

    assert held_back == 3


async def test_only_the_completed_front_is_committed(log_form):
    topic = await log_form.create()
    partition = TopicPartition(topic, 0)
    inbox = Inbox(completes=False)
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, *map(str, range(30)))

    spec = log_form.spec(topic, max_records=10, revoke_timeout_s=0.2)
    async with running(open_source(log_form, spec, inbox)) as source:
        await until(lambda: len(inbox.batches) == 3)
        source.complete(inbox.batches[0])
        source.complete(inbox.batches[2])
        async with running(log_form.open().reader()) as reader:
            while (commit := (await reader.group_offsets(spec.group)).get(partition)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    assert commit.offset == 10


async def test_what_was_not_completed_is_delivered_again(log_form):
    topic = await log_form.create()
    first, second = Inbox(completes=False), Inbox()
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, *map(str, range(30)))
    spec = log_form.spec(topic, max_records=10, revoke_timeout_s=0.2)

    async with running(open_source(log_form, spec, first)) as source:
        await until(lambda: len(first.batches) == 3)
        source.complete(first.batches[0])
    async with running(open_source(log_form, spec, second)):
        await until(lambda: len(second.values) == 20)

    assert second.values == [str(number) for number in range(10, 30)]


async def test_stopping_waits_for_what_is_in_flight_and_commits_it(log_form):
    topic = await log_form.create()
    inbox = Inbox(completes=False)
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, "a", "b")
    spec = log_form.spec(topic, revoke_timeout_s=5.0)
    source = open_source(log_form, spec, inbox)
    await source.start()
    await until(lambda: len(inbox.values) == 2)

    stopping = asyncio.ensure_future(source.stop())
    await asyncio.sleep(0.05)
    for batch in inbox.batches:
        source.complete(batch)
    await stopping

    async with running(log_form.open().reader()) as reader:
        offsets = await reader.group_offsets(spec.group)
    assert offsets[TopicPartition(topic, 0)].offset == 2


async def test_a_commit_carries_text(log_form):
    topic = await log_form.create()
    partition = TopicPartition(topic, 0)
    spec = log_form.spec(topic, start_paused=True, commit_every_s=0)
    inbox = Inbox()

    async with running(open_source(log_form, spec, inbox)) as source:
        await until(lambda: partition in source.assigned)
        nothing_yet = await source.committed(partition)
        accepted = await source.commit({partition: Commit(0, "vector of block 7")})
        read_back = await source.committed(partition)
    async with running(log_form.open().reader()) as reader:
        from_outside = await reader.group_offsets(spec.group)

    assert nothing_yet is None
    assert accepted
    assert read_back == Commit(0, "vector of block 7")
    assert from_outside == {partition: Commit(0, "vector of block 7")}


async def test_a_group_without_members_keeps_a_position_and_a_text_for_commands(log_form):
    topic = await log_form.create(partitions=2)
    group, first, second = f"{log_form.prefix}.kept", TopicPartition(topic, 0), TopicPartition(topic, 1)
    admin = log_form.open().admin()

    await admin.commit(group, {first: Commit(3, "2+1")})
    await admin.commit(group, {first: Commit(5), second: Commit(1, "x" * 4_000)})
    await admin.close()

    async with running(log_form.open().reader()) as reader:
        assert {first: Commit(5), second: Commit(1, "x" * 4_000)} == await reader.group_offsets(group)


async def test_nobody_commits_for_a_group_that_reads(kafka_form):
    topic = await kafka_form.create()
    spec, inbox = kafka_form.spec(topic), Inbox()
    admin = kafka_form.open().admin()

    async with running(open_source(kafka_form, spec, inbox)) as source:
        await until(lambda: bool(source.assigned))
        with pytest.raises(LogError, match="the group has a member"):
            await admin.commit(spec.group, {TopicPartition(topic, 0): Commit(0)})
    await admin.close()


class Recorder:
    """Writes down what it is told, and the generation at that moment."""

    def __init__(self) -> None:
        self.source: Source | None = None
        self.told: list[tuple[str, int, frozenset[TopicPartition]]] = []

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("assigned", generation, partitions))

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        assert self.source is not None
        self.told.append(("revoked", self.source.generation, partitions))


async def test_a_second_member_takes_partitions_and_the_first_may_not_commit_them(log_form):
    topic = await log_form.create(partitions=2)
    both = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    spec = log_form.spec(topic, commit_every_s=0)
    log = log_form.open()
    recorder = Recorder()
    old = open_source(log_form, spec, Inbox(), log, recorder)
    recorder.source = old
    new = open_source(log_form, spec, Inbox(), log)

    async with running(old):
        await until(lambda: old.assigned == both)
        generation = old.generation
        async with running(new):
            await until(lambda: len(new.assigned) > 0 and old.assigned == both - new.assigned)
            lost = next(iter(both - old.assigned))
            refused = await old.commit({lost: Commit(1)})
            taken = await new.commit({lost: Commit(1)})

    assert not refused
    assert taken
    assert old.generation > generation
    assert recorder.told[:2] == [("assigned", generation, frozenset(both)), ("revoked", generation, frozenset(both))]


async def test_a_source_that_starts_paused_delivers_from_where_it_was_sought(log_form):
    topic = await log_form.create()
    partition = TopicPartition(topic, 0)
    inbox = Inbox()
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, *map(str, range(20)))

    async with running(open_source(log_form, log_form.spec(topic, start_paused=True), inbox)) as source:
        await until(lambda: partition in source.assigned)
        await asyncio.sleep(0.2)
        before = list(inbox.values)
        source.seek(partition, 15)
        source.resume([partition])
        await until(lambda: len(inbox.values) == 5)

    assert before == []
    assert inbox.values == ["15", "16", "17", "18", "19"]


async def test_nothing_is_delivered_of_a_paused_partition_and_the_other_goes_on(log_form):
    topic = await log_form.create(partitions=2)
    quiet, lively = TopicPartition(topic, 0), TopicPartition(topic, 1)
    inbox = Inbox()

    async with (
        running(log_form.open().sink("test")) as sink,
        running(open_source(log_form, log_form.spec(topic), inbox)) as source,
    ):
        await until(lambda: source.assigned == {quiet, lively})
        source.pause([quiet])
        await send(sink, topic, "quiet", partition=0)
        await send(sink, topic, "lively", partition=1)
        await until(lambda: inbox.values == ["lively"])
        await until(lambda: source.end_offset(quiet) == 1)
        lag = dict(source.lag())
        source.resume([quiet])
        await until(lambda: inbox.values == ["lively", "quiet"])

    assert lag == {quiet: 1, lively: 0}


async def test_a_range_is_read_exactly(log_form):
    topic = await log_form.create()
    partition = TopicPartition(topic, 0)
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, *map(str, range(1_200)))

    async with running(log_form.open().reader()) as reader:
        held = await reader.range_of(partition)
        offsets = [record.offset async for batch in reader.read(partition, 7, 1_107) for record in batch]
        nothing = [batch async for batch in reader.read(partition, 1_200, 1_200)]
        partitions = await reader.partitions(topic), await reader.partitions(topic + "x")

    assert held == Range(0, 1_200)
    assert offsets == list(range(7, 1_107))
    assert nothing == []
    assert partitions == (1, 0)


async def test_reading_from_beyond_the_end_is_refused_as_a_foreign_log(log_form):
    topic = await log_form.create()

    async with running(log_form.open().reader()) as reader:
        with pytest.raises(ForeignLogError, match="holds 0 to 0"):
            await anext(reader.read(TopicPartition(topic, 0), 5, 9))


async def test_asking_for_a_topic_that_does_not_exist_is_an_error_at_once(log_form):
    await log_form.create()

    async with running(log_form.open().reader()) as reader:
        with pytest.raises(LogError, match="does not exist"):
            await reader.range_of(TopicPartition(log_form.topic("missing"), 0))


async def test_a_follower_sees_what_is_appended_and_never_blocks_for_long(log_form):
    topic = await log_form.create()
    seen: list[str] = []
    empty = 0

    async with running(log_form.open().sink("test")) as sink, running(log_form.open().reader()) as reader:
        async with asyncio.timeout(20):
            async for records in reader.follow(TopicPartition(topic, 0), 0):
                seen += [(record.value or b"").decode() for record in records]
                empty += not records
                if seen == ["late"]:
                    break
                if empty == 1 and not seen:
                    await send(sink, topic, "late")

    assert seen == ["late"]
    assert empty >= 1


async def test_a_record_that_is_too_large_is_refused_and_its_neighbours_pass(log_form):
    topic = await log_form.create(max_message_bytes="100000")
    partition = TopicPartition(topic, 0)

    async with running(log_form.open().sink("test")) as sink:
        with pytest.raises(RecordTooLarge, match=r"max\.message\.bytes"):
            await sink.send(partition, [Outgoing(None, b"x"), Outgoing(None, b"x" * 100_000)])
        await (await sink.send(partition, [Outgoing(None, b"y" * 99_000)] * 5))
        await send(sink, topic, "after")

    assert (await read_all(log_form, partition))[5:] == ["after"]


async def test_the_largest_record_that_send_takes_passes(log_form):
    topic = await log_form.create()
    partition = TopicPartition(topic, 0)

    async with running(log_form.open().sink("test")) as sink:
        await (await sink.send(partition, [Outgoing(None, b"x" * sink.max_record_bytes)]))

    assert [len(value) for value in await read_all(log_form, partition)] == [sink.max_record_bytes]


async def test_a_source_waits_for_topics_that_come_later(log_form):
    await log_form.create("other")
    inbox = Inbox()

    async with running(open_source(log_form, log_form.spec(log_form.topic("late")), inbox)):
        await asyncio.sleep(0.1)
        topic = await log_form.create("late")
        async with running(log_form.open().sink("test")) as sink:
            await send(sink, topic, "x")
        await until(lambda: inbox.values == ["x"])


async def test_an_assignment_is_told_before_anything_is_delivered(log_form):
    topic = await log_form.create()
    order: list[str] = []
    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, "x")

    class Slow:
        async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
            await asyncio.sleep(0.2)
            order.append("assigned")

        async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
            order.append("revoked")

    class Noting(Inbox):
        async def __call__(self, batch) -> None:
            order.append("delivered")
            await super().__call__(batch)

    inbox = Noting()
    async with running(open_source(log_form, log_form.spec(topic), inbox, None, Slow())):
        await until(lambda: inbox.values == ["x"])

    assert order == ["assigned", "delivered", "revoked"]


async def test_partitions_that_are_added_are_assigned(log_form):
    topic = await log_form.create()
    inbox = Inbox()
    admin = log_form.open().admin()
    await admin.add_partitions(topic, 3)

    async with running(open_source(log_form, log_form.spec(topic), inbox)) as source:
        await until(lambda: len(source.assigned) == 3)
    state = (await admin.describe([topic, "missing"]))[topic]
    await admin.close()

    assert state.partitions == 3


async def test_a_setting_that_is_changed_leaves_the_others(log_form):
    topic = await log_form.create(retention_ms="86400000", max_message_bytes="200000")
    admin = log_form.open().admin()

    await admin.alter(topic, {"max.message.bytes": "300000"})
    state = (await admin.describe([topic]))[topic]
    brokers = await admin.brokers()
    await admin.close()

    assert {"retention.ms": "86400000", "max.message.bytes": "300000"}.items() <= state.settings.items()
    assert brokers == 1


async def test_what_was_acknowledged_is_there_for_a_log_opened_anew(log_form):
    topic = await log_form.create()

    async with running(log_form.open().sink("test")) as sink:
        await send(sink, topic, "a", "b")

    assert await read_all(log_form, TopicPartition(topic, 0)) == ["a", "b"]

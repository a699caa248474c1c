"""Groups of several members on a real broker."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import GroupAuthorizationFailedError
from tests.streams.log_tools import Inbox, running, send, until

from tailrace.domain.errors import ForeignLogError, LogError, UnexplainedState
from tailrace.streams.log import Commit, TopicPartition


async def test_co_partitioned_topics_give_each_member_the_same_numbers(kafka_form):
    left, right = await kafka_form.create("left", partitions=4), await kafka_form.create("right", partitions=4)
    spec = kafka_form.spec(left, right, co_partitioned=True)
    log = kafka_form.open()

    async with running(log.source(spec, Inbox())) as one, running(log.source(spec, Inbox())) as two:
        await until(lambda: len(one.assigned) == 4 and len(two.assigned) == 4)
        numbers = [{(name, p.partition) for name in (left, right) for p in m.assigned} for m in (one, two)]

        assert numbers[0] == set(one.assigned)
        assert numbers[1] == set(two.assigned)


async def test_a_member_that_leaves_hands_over_what_it_completed(kafka_form):
    topic = await kafka_form.create(partitions=2)
    spec = kafka_form.spec(topic)
    log = kafka_form.open()
    first, second = Inbox(), Inbox()

    async with running(log.sink("test")) as sink:
        one, two = log.source(spec, first), log.source(spec, second)
        first.source, second.source = one, two
        await one.start()
        await two.start()
        await until(lambda: len(one.assigned) == 1 and len(two.assigned) == 1)
        for partition in (0, 1):
            await send(sink, topic, *[f"{partition}/{n}" for n in range(50)], partition=partition)
        await until(lambda: len(first.values) + len(second.values) == 100)
        await one.stop()
        await until(lambda: len(two.assigned) == 2)
        await send(sink, topic, "last", partition=0)
        await send(sink, topic, "last", partition=1)
        await until(lambda: second.values.count("last") == 2)
        await two.stop()

    values = first.values + second.values
    assert len(values) == 102
    assert len(set(values)) == 101


async def test_a_batch_of_an_older_generation_can_be_told_apart(kafka_form):
    topic = await kafka_form.create(partitions=2)
    spec = kafka_form.spec(topic, revoke_timeout_s=0.3)
    log = kafka_form.open()
    inbox = Inbox(completes=False)

    async with running(log.sink("test")) as sink:
        await send(sink, topic, "x", partition=0)
    async with running(log.source(spec, inbox)) as one:
        await until(lambda: len(inbox.batches) == 1)
        async with running(log.source(spec, Inbox())) as two:
            await until(lambda: len(two.assigned) == 1 and len(one.assigned) == 1)
            old = inbox.batches[0]
            one.complete(old)
            offsets = await one.committed(old.partition) if old.partition in one.assigned else None

    assert old.generation < one.generation
    assert offsets is None


async def test_an_offset_that_kafka_does_not_hold_stops_a_source_that_was_sought_there(kafka_form):
    topic = await kafka_form.create()
    partition = TopicPartition(topic, 0)
    source = kafka_form.open().source(kafka_form.spec(topic, start_paused=True), Inbox())
    await source.start()
    await until(lambda: partition in source.assigned)

    source.seek(partition, 1_000)
    source.resume([partition])
    await until(lambda: source.crashed)
    await source.stop()

    assert isinstance(source.crash_reason, ForeignLogError)


async def test_a_group_without_offsets_is_refused_where_it_may_not_begin_at_the_start(kafka_form):
    topic = await kafka_form.create()
    source = kafka_form.open().source(kafka_form.spec(topic, from_earliest=False), Inbox())

    await source.start()
    await until(lambda: source.crashed)
    await source.stop()

    assert isinstance(source.crash_reason, LogError)
    assert "restore the group's offsets" in str(source.crash_reason)


async def test_a_coordinator_that_is_parked_ends_the_source(kafka_form):
    topic = await kafka_form.create()
    inbox = Inbox()
    stuck = asyncio.Event()

    class Full(Inbox):
        async def __call__(self, batch) -> None:
            await super().__call__(batch)
            await stuck.wait()

    inbox = Full()
    source = kafka_form.open().source(kafka_form.spec(topic, revoke_timeout_s=0.1), inbox)
    async with running(kafka_form.open().sink("test")) as sink:
        await send(sink, topic, "x")
    await source.start()
    await until(lambda: inbox.values == ["x"])

    source._consumer._coordinator._pending_exception = GroupAuthorizationFailedError("group")
    await until(lambda: source.crashed)
    source._consumer._coordinator._pending_exception = None
    await source.stop()

    assert isinstance(source.crash_reason, LogError)
    assert "GroupAuthorizationFailedError" in str(source.crash_reason)


async def test_a_commit_during_the_claim_is_refused_for_a_partition_that_is_not_held(kafka_form):
    topic = await kafka_form.create(partitions=1)
    source = kafka_form.open().source(kafka_form.spec(topic), Inbox())

    async with running(source):
        await until(lambda: len(source.assigned) == 1)
        refused = await source.commit({TopicPartition(topic, 7): Commit(0)})

    assert not refused


@pytest.mark.parametrize("compression", [None, "lz4"])
async def test_large_sends_are_cut_into_batches_and_keep_their_order(kafka_form, compression):
    from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
    from tailrace.streams.log import Outgoing

    topic = await kafka_form.create()
    partition = TopicPartition(topic, 0)
    log = KafkaLog(KafkaOptions(kafka_form.address.removeprefix("kafka://"), compression=compression))
    records = [Outgoing(b"%d" % n, bytes([n % 251]) * (n % 4_000)) for n in range(3_000)]

    async with running(log.sink("test")) as sink:
        deliveries = [await sink.send(partition, records[at : at + 1_000]) for at in (0, 1_000, 2_000)]
        offsets = [offset for delivery in deliveries for offset in await delivery]
    async with running(log.reader()) as reader:
        read = [(r.key, r.value) async for batch in reader.read(partition, 0, 3_000) for r in batch]

    assert offsets == list(range(3_000))
    assert read == [(record.key, record.value) for record in records]


async def test_a_source_whose_client_has_stopped_to_fetch_ends(kafka_form):
    """Fails when only the coordinator is watched: aiokafka tells its log of it, and nothing comes any more."""
    topic = await kafka_form.create()
    source = kafka_form.open().source(kafka_form.spec(topic), Inbox())
    await source.start()
    await until(lambda: source.assigned)

    source._consumer._fetcher._fetch_task.cancel()

    await until(lambda: source.crashed)
    await source.stop()
    assert isinstance(source.crash_reason, UnexplainedState)
    assert "the task that fetches has ended" in str(source.crash_reason)


async def test_a_reading_never_takes_an_idle_client_that_has_stopped_to_fetch(kafka_form):
    """Otherwise it reads nothing, and ends the process, through a fault of the time before it began."""
    topic = await kafka_form.create()
    partition = TopicPartition(topic, 0)
    log = kafka_form.open()
    async with running(log.sink("test")) as sink:
        await send(sink, topic, "one")
    async with running(log.reader()) as reader:
        await reader.range_of(partition)
        (idle,) = reader._idle

        idle._fetcher._fetch_task.cancel()
        await asyncio.sleep(0)
        read = [record.value async for batch in reader.read(partition, 0, 1) for record in batch]

        assert [b"one"] == read
        assert idle not in reader._open


async def test_a_source_with_a_pace_gathers_small_batches(kafka_form):
    topic = await kafka_form.create()
    log, inbox = kafka_form.open(), Inbox()
    begun_s = asyncio.get_running_loop().time()

    async with (
        running(log.sink("test")) as sink,
        running(log.source(kafka_form.spec(topic, pace_s=0.25), inbox)) as source,
    ):
        inbox.source = source
        for number in range(100):
            await send(sink, topic, str(number))
            await asyncio.sleep(0.01)
        await until(lambda: len(inbox.values) == 100)
    took_s = asyncio.get_running_loop().time() - begun_s

    assert len(inbox.batches) <= took_s / 0.25 + 1
    assert [str(number) for number in range(100)] == inbox.values


async def test_a_source_with_a_pace_does_not_rest_after_as_many_records_as_it_may_take(kafka_form):
    topic = await kafka_form.create()
    log, inbox = kafka_form.open(), Inbox()
    async with running(log.sink("test")) as sink:
        await send(sink, topic, *map(str, range(100)))

    async with running(log.source(kafka_form.spec(topic, pace_s=5.0, max_records=10), inbox)) as inbox.source:
        await until(lambda: len(inbox.values) == 100, within_s=10.0)

    assert 10 == len(inbox.batches)


async def test_a_poll_that_waits_is_left_alone_by_what_changes_nothing_for_it(kafka_form):
    """Each poll that is begun anew costs as much as a batch: many partitions complete and resume all the time."""
    topic = await kafka_form.create()
    partition = TopicPartition(topic, 0)
    log, inbox, polls = kafka_form.open(), Inbox(completes=False), []
    async with running(log.sink("test")) as sink, running(log.source(kafka_form.spec(topic), inbox)) as source:
        await send(sink, topic, "one")
        await until(lambda: inbox.batches)
        getmany = source._consumer.getmany
        source._consumer.getmany = lambda *at, **how: (polls.append(at), getmany(*at, **how))[1]

        async def polls_per_s(disturb):
            begun_s, before = asyncio.get_running_loop().time(), len(polls)
            for _ in range(50):
                disturb()
                await asyncio.sleep(0.01)
            return (len(polls) - before) / (asyncio.get_running_loop().time() - begun_s)

        def disturb():
            source.resume((partition,))
            source.complete(inbox.batches[0])

        undisturbed = await polls_per_s(lambda: None)
        assert await polls_per_s(disturb) <= 2 * undisturbed + 2


async def test_nothing_is_delivered_any_more_once_the_last_commit_is_on_its_way(kafka_form):
    """A poll that was waiting then brought records that were worked off and never committed."""
    topic = await kafka_form.create()
    log, inbox = kafka_form.open(), Inbox()
    async with running(log.sink("test")) as sink:
        inbox.source = source = log.source(kafka_form.spec(topic, commit_every_s=3_600.0), inbox)
        await source.start()
        await until(lambda: source.assigned)
        await send(sink, topic, "one")
        await until(lambda: inbox.values)
        commit = source.commit

        async def slow_commit(commits):
            await send(sink, topic, "two")
            await asyncio.sleep(0.5)
            return await commit(commits)

        source.commit = slow_commit
        await source.stop()
        assert ["one"] == inbox.values

        async with running(log.source(kafka_form.spec(topic), inbox)) as inbox.source:
            await until(lambda: len(inbox.values) > 1)
    assert ["one", "two"] == inbox.values


async def test_a_regular_commit_that_is_tried_again_never_comes_behind_the_last_one(kafka_form):
    """Otherwise the group goes back, and its next member reads again what was done."""
    topic = await kafka_form.create()
    partition = TopicPartition(topic, 0)
    log, inbox = kafka_form.open(), Inbox()
    begun, goes_on = asyncio.Event(), asyncio.Event()
    async with running(log.sink("test")) as sink, running(log.source(kafka_form.spec(topic), inbox)) as inbox.source:
        source = inbox.source
        await until(lambda: source.assigned)
        commit = source._consumer.commit

        async def slow_at_first(offsets):
            if not begun.is_set():
                begun.set()
                await goes_on.wait()
            await commit(offsets)

        source._consumer.commit = slow_at_first
        await send(sink, topic, "one")
        await begun.wait()
        await send(sink, topic, "two")
        await until(lambda: len(inbox.values) == 2)
        await source.lose()
        goes_on.set()
        await asyncio.sleep(0.5)
        async with running(log.reader()) as reader:
            committed = await reader.group_offsets(f"{kafka_form.prefix}.group")

    assert 2 == committed[partition].offset


async def test_a_member_that_stops_while_its_group_rebalances_leaves_it(kafka_form):
    """Otherwise its part stands still until its session ends."""
    topic = await kafka_form.create(partitions=3)
    spec = kafka_form.spec(topic, session_timeout_ms=20_000)
    log, goes_on = kafka_form.open(), asyncio.Event()
    one, two, three = (log.source(spec, Inbox()) for _ in range(3))
    lose = two.lose

    async def lose_slowly():
        await goes_on.wait()
        await lose()

    await one.start()
    await two.start()
    await until(lambda: len(one.assigned) + len(two.assigned) == 3 and one.assigned and two.assigned)
    two.lose = lose_slowly
    await three.start()
    await until(lambda: not one.assigned)
    await asyncio.sleep(0.5)
    await one.stop()
    goes_on.set()

    await until(lambda: len(two.assigned) + len(three.assigned) == 3 and two.assigned and three.assigned, 8.0)
    await two.stop()
    await three.stop()


@pytest.fixture
def leaderless(monkeypatch):
    """Partitions that no client finds a leader for, as the cluster says when a broker without replicas is away."""
    gone: set[TopicPartition] = set()
    genuine = ClusterMetadata.leader_for_partition
    monkeypatch.setattr(
        ClusterMetadata,
        "leader_for_partition",
        lambda cluster, theirs: -1 if theirs in gone else genuine(cluster, theirs),
    )
    return gone


@pytest.mark.parametrize("is_new", [True, False], ids=["without offsets", "with offsets"])
async def test_a_partition_without_a_leader_keeps_a_member_from_none_of_the_others(kafka_form, leaderless, is_new):
    """Fails when first offsets are asked for of all partitions at once: they come for all of them, or for none."""
    topic = await kafka_form.create(partitions=2)
    log, inbox, away = kafka_form.open(), Inbox(), TopicPartition(topic, 1)
    async with running(log.sink("test")) as sink:
        if not is_new:
            async with running(log.source(kafka_form.spec(topic), inbox)) as inbox.source:
                await send(sink, topic, "before", partition=0)
                await send(sink, topic, "before", partition=1)
                await until(lambda: len(inbox.values) == 2)
        await send(sink, topic, "held", partition=0)
        await send(sink, topic, "away", partition=1)
        leaderless.add(away)

        async with running(log.source(kafka_form.spec(topic), inbox)) as inbox.source:
            await until(lambda: "held" in inbox.values, 5.0)
            await send(sink, topic, "later", partition=0)
            await until(lambda: "later" in inbox.values, 5.0)
            assert "away" not in inbox.values
            leaderless.clear()
            await until(lambda: "away" in inbox.values)

    assert len(inbox.values) == len(set(inbox.values)) + (not is_new)


async def test_a_new_group_finds_the_first_record_of_a_partition_that_had_no_leader(kafka_form, leaderless):
    topic = await kafka_form.create(partitions=1)
    log, inbox, away = kafka_form.open(), Inbox(), TopicPartition(topic, 0)
    async with running(log.sink("test")) as sink:
        await send(sink, topic, *map(str, range(10)))
    await kafka_form.delete_before(away, 7)
    leaderless.add(away)

    async with running(log.source(kafka_form.spec(topic), inbox)) as inbox.source:
        await until(lambda: inbox.source.assigned)
        leaderless.clear()
        await until(lambda: len(inbox.values) == 3)

    assert ["7", "8", "9"] == inbox.values


async def test_paused_partitions_are_heard_while_another_one_has_no_leader(kafka_form, leaderless):
    topic = await kafka_form.create(partitions=2)
    here, away = TopicPartition(topic, 0), TopicPartition(topic, 1)
    leaderless.add(away)

    async with running(kafka_form.open().source(kafka_form.spec(topic, start_paused=True), Inbox())) as source:
        await until(lambda: source.hears(here), 8.0)
        assert not source.hears(away)


async def test_a_partition_without_a_leader_hides_no_other_range(kafka_form, leaderless):
    topic = await kafka_form.create(partitions=2)
    here, away = TopicPartition(topic, 0), TopicPartition(topic, 1)
    leaderless.add(away)

    async with running(kafka_form.open().reader()) as reader, asyncio.timeout(5.0):
        assert await reader.ranges_of([here, away]) == {here: (0, 0)}
        leaderless.clear()
        assert {here, away} == set(await reader.ranges_of([here, away]))


async def test_what_is_deleted_before_it_is_read_pauses_its_partition_where_somebody_sees_to_it(kafka_form):
    """Fails when it ends the source: whatever else the process does would end with it."""
    topic = await kafka_form.create()
    partition, log, inbox, told = TopicPartition(topic, 0), kafka_form.open(), Inbox(), []
    async with running(log.sink("test")) as sink:
        await send(sink, topic, *map(str, range(10)))
    await kafka_form.delete_before(partition, 5)

    async with running(log.source(kafka_form.spec(topic, start_paused=True), inbox)) as inbox.source:
        source = inbox.source
        source.on_deleted = lambda at: not told.append(at)
        await until(lambda: partition in source.assigned)
        source.seek(partition, 0)
        source.resume((partition,))
        await until(lambda: told and partition in source.paused)
        source.seek(partition, 5)
        source.resume((partition,))
        await until(lambda: len(inbox.values) == 5)
        assert not source.crashed
    assert [partition] == told

"""What may keep a loop from working, looked at one by one: each ok, warn or fail, with what to do next.

A check that cannot be made because another failed is left out: one cause, one finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from tailrace.domain.errors import CodecError, LogError, LogUnavailable, SettingsError, TailraceError
from tailrace.domain.records import Label
from tailrace.domain.status import HEARTBEAT_MS, Verdict
from tailrace.inspection.reading import Reading, opened
from tailrace.inspection.topics import plan_of
from tailrace.opening import label_decoder, open_store, topics_of
from tailrace.settings import LoopSettings, Settings
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.avro_codec import decode_status
from tailrace.wire.partitioner import crc32_partition_of, partitions_of

LABELS_SAMPLED: Final = 1_000
"""Labels that are looked at, over all partitions: the newest."""

SKEW_WARN_MS: Final = 2_000
"""Clocks further apart than this make ages and idleness wrong enough to be seen."""

HEARD_WITHIN_S: Final = 2.5 * HEARTBEAT_MS / 1_000

_PROBE: Final = b"written by `tailrace doctor` to see whether this store takes anything"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        next: What to do about it; "" when there is nothing to do.
    """

    name: str
    verdict: Verdict
    found: str
    next: str = ""
    loop: str | None = None


async def checks_of(settings: Settings, now_ms: Callable[[], int]) -> AsyncIterator[Check]:
    """Yield what can be checked without a model: the log, topics, labels, clocks, the store."""
    try:
        async with opened(settings) as reading:
            brokers = await reading.admin.brokers()
            where = f"{reading.log.address} answers"
            cluster = f"{where}, {brokers} broker{'s' * (brokers != 1)}"
            yield Check("log", Verdict.OK, cluster if settings.servers else where)
            for name, loop in settings.loops.items():
                async for check in _of_loop(reading, name, loop, now_ms):
                    yield check
    except LogUnavailable as problem:
        yield Check("log", Verdict.FAIL, str(problem), _next_for_log(settings))
    except LogError as problem:
        yield Check("log", Verdict.FAIL, str(problem), "read what it says, then run this again")
    yield await _store_of(settings)


async def _of_loop(reading: Reading, name: str, loop: LoopSettings, now_ms: Callable[[], int]) -> AsyncIterator[Check]:
    yield await _topics(reading, name, loop)
    looks: tuple[Callable[[], Awaitable[Check]], ...] = (
        lambda: _partitioner(reading, name, loop),
        lambda: _clocks(reading, name, loop, now_ms),
    )
    for look in looks:
        try:
            yield await look()
        except LogUnavailable:
            raise
        except LogError:
            continue  # A topic is missing, which the check of topics has told.


async def _topics(reading: Reading, name: str, loop: LoopSettings) -> Check:
    made = await plan_of(reading, name, loop)
    if made.refusals:
        return Check("topics", Verdict.FAIL, "; ".join(made.refusals), "repair them as said, then run this again", name)
    if made.missing:
        advice = "create them, or let `tailrace topics apply --with-inputs --yes` do it"
        return Check("topics", Verdict.FAIL, f"topics of yours are missing: {', '.join(made.missing)}", advice, name)
    if not made.is_empty:
        return Check("topics", Verdict.WARN, "; ".join(made.steps()), "`tailrace topics apply --yes` does it", name)
    found = "; ".join(made.remarks) or "every topic is as it must be"
    return Check("topics", Verdict.OK, found, loop=name)


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Placement:
    """Where labels lie.

    Attributes:
        labels: How many were looked at.
        elsewhere: How many of them lie on another partition than murmur2 of their event id gives.
        crc32: How many of those lie where CRC32 of the id gives, which librdkafka uses when nobody says otherwise.
        keyless, other_keys: How many of those have no key, and another key than the event id.
    """

    labels: int
    elsewhere: int
    crc32: int
    keyless: int
    other_keys: int


def placement_of(records: Sequence[Record], labels: Sequence[Label], partitions: int) -> Placement:
    """Compare where labels lie with where their event ids belong; `records` are the labels' own, in their order."""
    keys = [label.id.encode() for label in labels]
    homes = partitions_of(keys, partitions)
    away = [(record, key) for record, key, home in zip(records, keys, homes, strict=True) if record.partition != home]
    return Placement(
        labels=len(labels),
        elsewhere=len(away),
        crc32=sum(
            record.key == key and crc32_partition_of(key, partitions) == record.partition for record, key in away
        ),
        keyless=sum(record.key is None for record, _ in away),
        other_keys=sum(record.key is not None and record.key != key for record, key in away),
    )


async def _partitioner(reading: Reading, name: str, loop: LoopSettings) -> Check:
    decoder, topic = label_decoder(loop), loop.labels.topic
    held = await reading.ranges(topic)
    share = -(-LABELS_SAMPLED // len(held))
    records: list[Record] = []
    labels: list[Label] = []
    for partition, offsets in held.items():
        newest = Range(max(offsets.start, offsets.end - share), offsets.end)
        of_partition = [record async for record in reading.records(partition, newest)]
        decoded = decoder.decode_batch(of_partition) if of_partition else []
        for record, label in zip(of_partition, decoded, strict=True):
            if isinstance(label, Label):
                records.append(record)
                labels.append(label)
    return partitioner_check(topic, placement_of(records, labels, len(held)), len(held), name)


def partitioner_check(topic: str, placed: Placement, partitions: int, loop: str) -> Check:
    """Say whether the producer of labels puts them where the join looks for them."""
    if not placed.labels:
        return Check("partitioner", Verdict.OK, f"{topic} holds no label to look at yet", loop=loop)
    if partitions == 1:
        return Check(
            "partitioner", Verdict.OK, f"{topic} has one partition, so every label is where it belongs", loop=loop
        )
    if not placed.elsewhere:
        found = f"{placed.labels} labels looked at, each on murmur2's partition of its event id"
        return Check("partitioner", Verdict.OK, found, loop=loop)
    found = (
        f"{placed.elsewhere} of {placed.labels} labels lie on another partition than murmur2 of their event id gives"
    )
    costs = "; they are forwarded, so nothing is lost, at the price of another hop each"
    if placed.crc32 * 2 > placed.elsewhere:
        why = ", where CRC32 puts them: the producer is a librdkafka client"
        advice = "set partitioner=murmur2_random in the producer of labels (confluent-kafka, kcat, Go, .NET, Node)"
    elif placed.keyless * 2 > placed.elsewhere:
        why, advice = ", without a key", "key labels by the id of their event"
    elif placed.other_keys * 2 > placed.elsewhere:
        why, advice = ", with another key than the event id", "key labels by the id of their event"
    else:
        why = ""
        advice = "key labels by event id and use Kafka's default partitioner (partitioner=murmur2_random in librdkafka)"
    return Check("partitioner", Verdict.WARN, found + why + costs, advice, loop)


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _clocks(reading: Reading, name: str, loop: LoopSettings, now_ms: Callable[[], int]) -> Check:
    topic = topics_of(name, loop).status
    ((partition, held),) = (await reading.ranges(topic)).items()
    heard = await _next_heartbeat(reading, partition, held.end)
    if heard is None:
        found = "no process is running, so that no fresh record tells the broker's time"
        last = await reading.first_record(partition, Range(max(held.start, held.end - 1), held.end))
        if last is None or last.timestamp <= now_ms() + SKEW_WARN_MS:
            return Check("clocks", Verdict.OK, found, loop=name)
        heard = last
    return clocks_check(_skews(heard, now_ms()), loop.max_ahead, name)


def _skews(heard: Record, local_ms: int) -> dict[str, int]:
    """Return whose clock is how far ahead of the broker's, in milliseconds."""
    skews = {"this machine": local_ms - heard.timestamp}
    if heard.value is not None:
        try:
            heartbeat = decode_status(heard.value)
        except CodecError:
            return skews
        skews[heartbeat.member] = heartbeat.time_ms - heard.timestamp
    return skews


def clocks_check(skews: Mapping[str, int], max_ahead_ms: int, loop: str) -> Check:
    """Say whether clocks agree well enough."""
    worst = max(skews, key=lambda who: abs(skews[who]))
    apart_ms = skews[worst]
    direction = "ahead of" if apart_ms > 0 else "behind"
    found = f"the clock of {worst} is {abs(apart_ms) / 1_000:.1f} s {direction} the broker's"
    if abs(apart_ms) < SKEW_WARN_MS:
        return Check("clocks", Verdict.OK, found, loop=loop)
    verdict = Verdict.FAIL if abs(apart_ms) >= max_ahead_ms else Verdict.WARN
    return Check("clocks", verdict, found, "let NTP (chrony, systemd-timesyncd) set the clocks of all machines", loop)


async def _next_heartbeat(reading: Reading, partition: TopicPartition, end: int) -> Record | None:
    """Wait for the next record of the status topic, as it comes."""
    try:
        async with asyncio.timeout(HEARD_WITHIN_S):
            async for batch in reading.reader.follow(partition, end):
                if batch:
                    return batch[-1]
    except TimeoutError:
        return None
    return None


# ── store ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _store_of(settings: Settings) -> Check:
    try:
        store = open_store(settings)
    except SettingsError as refused:
        return Check("store", Verdict.FAIL, str(refused), "repair it, then run this again")
    advice = "make the folder, and let this user write there; or name another one in [snapshots] store"
    if settings.snapshots.folder is None:
        advice = "look at [snapshots] endpoint, at the bucket, and whether its keys may put, get, list and delete"
    return await asyncio.to_thread(_store, store, advice)


def _store(store: SnapshotStore, advice: str) -> Check:
    path = f"doctor/{token_hex(8)}"
    try:
        store.put(path, _PROBE)
        is_same = store.get(path, len(_PROBE)) == _PROBE
        store.delete(path)
    except (OSError, TailraceError) as problem:
        return Check("store", Verdict.FAIL, f"{store.address}: {problem}", advice)
    if not is_same:
        return Check("store", Verdict.FAIL, f"{store.address} gives back other bytes than it was given", advice)
    return Check("store", Verdict.OK, f"{store.address} takes, gives back and deletes")


def _next_for_log(settings: Settings) -> str:
    if settings.servers is None:
        return "start `tailrace run`, or make it with `tailrace topics apply --yes`"
    return "look whether Kafka runs, then at `log` and [kafka] in the configuration"

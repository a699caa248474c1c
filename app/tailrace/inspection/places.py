"""Where the data of certain events still is: every topic of a loop, with how long each keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass

from tailrace.domain.branches import hash_of_id
from tailrace.domain.errors import CodecError
from tailrace.domain.records import Forward, Rejection
from tailrace.inspection.reading import Reading
from tailrace.opening import event_decoder, label_decoder
from tailrace.settings import LoopSettings
from tailrace.streams.log import Record
from tailrace.wire.avro_codec import decode_relabelled, decode_scored
from tailrace.wire.prediction_codec import decode_prediction
from tailrace.wire.topics import LoopTopics

_DAY_MS = 24 * 60 * 60 * 1_000
_AT_ONCE = 1_000  # records that are decoded together

Ids = Callable[[list[Record]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """One topic that holds something of the events.

    Attributes:
        mentions: Rows or records in it that are of one of them.
        kept: How long the topic keeps a record, in words.
    """

    topic: str
    mentions: int
    kept: str


async def places_of(reading: Reading, topics: LoopTopics, loop: LoopSettings, events: Collection[str]) -> list[Place]:
    """Return the topics beside the training log that hold one of these events; reads them whole.

    Args:
        events: Hashes of ids, as `branches.hash_of_id` makes them.

    Raises:
        LogError: A topic does not exist.
    """
    of_events, of_labels = _event_ids(loop), _label_ids(loop)
    readers: dict[str, Ids] = {
        topics.events: of_events,
        topics.labels: of_labels,
        topics.predictions: _prediction_ids,
        topics.scored: _scored_ids,
        topics.relabelled: _relabelled_ids,
        topics.dead_events: of_events,
        topics.dead_labels: of_labels,
    }
    wanted, states = set(events), await reading.admin.describe(readers)
    found = []
    for topic, ids in readers.items():
        mentions = 0
        async for records in _batches(reading, topic):
            mentions += sum(hash_of_id(event_id) in wanted for event_id in ids(records))
        if mentions:
            found.append(Place(topic, mentions, _kept(states[topic].settings.get("retention.ms"))))
    return found


async def _batches(reading: Reading, topic: str) -> AsyncIterator[list[Record]]:
    for partition, held in (await reading.ranges(topic)).items():
        waiting: list[Record] = []
        async for record in reading.records(partition, held):
            waiting.append(record)
            if len(waiting) == _AT_ONCE:
                yield waiting
                waiting = []
        if waiting:
            yield waiting


def _event_ids(loop: LoopSettings) -> Ids:
    decoder = event_decoder(loop)
    return lambda records: decoder.decode_batch(records).ids


def _label_ids(loop: LoopSettings) -> Ids:
    decoder = label_decoder(loop)

    def ids(records: list[Record]) -> Iterable[str]:
        return [label.id for label in decoder.decode_batch(records) if not isinstance(label, Rejection)]

    return ids


def _prediction_ids(records: list[Record]) -> Iterable[str]:
    for record in records:
        try:
            yield str(decode_prediction(record.value or b"")["event_id"])
        except CodecError:
            continue


def _scored_ids(records: list[Record]) -> Iterable[str]:
    for record in records:
        yield from decode_scored(record.value or b"").ids


def _relabelled_ids(records: list[Record]) -> Iterable[str]:
    for record in records:
        content = decode_relabelled(record.value or b"")
        if isinstance(content, Forward):
            yield content.label.id


def _kept(retention_ms: str | None) -> str:
    if retention_ms is None:
        return "as long as the broker's default says"
    if int(retention_ms) < 0:
        return "for ever; delete its records yourself"
    return f"{int(retention_ms) / _DAY_MS:.3g} days after they were written"

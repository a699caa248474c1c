"""Where the data of certain events still is: every topic of a loop, with how long each keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

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


class Found(NamedTuple):
    """What records say: the ids of their events, and how many of them cannot be read."""

    ids: list[str]
    unreadable: int = 0


Ids = Callable[[list[Record]], Found]


@dataclass(frozen=True, slots=True)
class Place:
    """One topic that holds something of the events.

    Attributes:
        mentions: Rows or records in it that are of one of them.
        unreadable: Records that are damaged, or of a newer version: whether they are of one cannot be told.
        kept: How long the topic keeps a record, in words.
    """

    topic: str
    mentions: int
    unreadable: int
    kept: str


async def places_of(reading: Reading, topics: LoopTopics, loop: LoopSettings, events: Collection[str]) -> list[Place]:
    """Return the topics beside the training log that hold one of these events, or may; reads them whole.

    It is asked when an erasure was done, so nothing that stands in a topic, or does not, makes it fail.

    Args:
        events: Hashes of ids, as `branches.hash_of_id` makes them.
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
        if topic not in states:
            continue
        mentions = unreadable = 0
        async for records in _batches(reading, topic):
            said = ids(records)
            mentions += sum(hash_of_id(event_id) in wanted for event_id in said.ids)
            unreadable += said.unreadable
        if mentions or unreadable:
            found.append(Place(topic, mentions, unreadable, _kept(states[topic].settings.get("retention.ms"))))
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
    return lambda records: Found(decoder.decode_batch(records).ids)


def _label_ids(loop: LoopSettings) -> Ids:
    decoder = label_decoder(loop)

    def ids(records: list[Record]) -> Found:
        return Found([label.id for label in decoder.decode_batch(records) if not isinstance(label, Rejection)])

    return ids


def _prediction_ids(records: list[Record]) -> Found:
    return _found(records, lambda value: (str(decode_prediction(value)["event_id"]),))


def _scored_ids(records: list[Record]) -> Found:
    return _found(records, lambda value: decode_scored(value).ids)


def _relabelled_ids(records: list[Record]) -> Found:
    def ids_in(value: bytes) -> Iterable[str]:
        content = decode_relabelled(value)
        return (content.label.id,) if isinstance(content, Forward) else ()

    return _found(records, ids_in)


def _found(records: list[Record], ids_in: Callable[[bytes], Iterable[str]]) -> Found:
    ids: list[str] = []
    unreadable = 0
    for record in records:
        try:
            ids += ids_in(record.value or b"")
        except CodecError:
            unreadable += 1
    return Found(ids, unreadable)


def _kept(retention_ms: str | None) -> str:
    if retention_ms is None:
        return "as long as the broker's default says"
    if int(retention_ms) < 0:
        return "for ever; delete its records yourself"
    return f"{int(retention_ms) / _DAY_MS:.3g} days after they were written"

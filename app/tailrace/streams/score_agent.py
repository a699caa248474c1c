"""The score agent: events in, predictions and scored blocks out.

It waits for nothing but the log: not for the join, for learning, for the store or for a label. A record that cannot
be used goes to the dead-letter topic; its neighbours are not disturbed.

What is written of a batch, and in which order, numbered as the code repeats it:
    1. Predictions and dead letters are put in line.
    2. When the predictions are acknowledged, the scored blocks are put in line. So whatever `scored` holds was
       published, whenever the process is killed: the model is judged by what was served, and by nothing else.
    3. When everything is acknowledged, the batch is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np
import structlog
from mode import Service

from tailrace.domain.blocks import Ints, ScoredBlock, Served, XColumns
from tailrace.domain.contract import TargetContract
from tailrace.domain.positions import show
from tailrace.domain.records import Code, Rejection, Stage, Task
from tailrace.domain.status import Role, RoleState
from tailrace.streams import failpoints
from tailrace.streams.answers import ask, block_of
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.followers import Models, Serving
from tailrace.streams.freshness import Freshness
from tailrace.streams.log import Headers, Outgoing, Record, RecordBatch, Sink, Source, TopicPartition
from tailrace.streams.role import RoleReport
from tailrace.streams.sizes import headers_bytes, read_bytes
from tailrace.telemetry.recorder import Recorder
from tailrace.telemetry.traces import TRACEPARENT, Traces, pack, sampled, trace_id_of, traceparent_of
from tailrace.wire.avro_codec import encode_scored
from tailrace.wire.json_codec import EventDecoder
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.prediction_codec import PredictionEncoder

log = structlog.get_logger(__name__)

_TRACE_HEADERS = frozenset({TRACEPARENT, "tracestate"})
_MODEL_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """What the score agent works with.

    Attributes:
        scored_partitions: As many as `labels` has.
        max_block_bytes: Half of the largest message of `scored`.
    """

    decoder: EventDecoder
    encoder: PredictionEncoder
    target: TargetContract
    models: Models
    predictions: Sink
    scored: Sink
    predictions_topic: str
    scored_topic: str
    scored_partitions: int
    max_block_bytes: int
    dead_letters: DeadLetters
    recorder: Recorder
    freshness: Freshness
    report: RoleReport
    now_ms: Callable[[], int]
    traces: Traces | None = None


@dataclass(frozen=True, slots=True)
class _Sent:
    """What was sent for one batch, and what is to be sent.

    Attributes:
        answered_ms: Kafka times of the answered events.
        scored: (partition, block), in order.
        sent_s: When the predictions were in line.
        traced: Kafka time and trace id of the oldest of the events that has a sampled trace; None: none has.
        end_spans: Ends those of the batch.
    """

    predictions: Awaitable[object] | None
    dead_letters: Awaitable[object] | None
    answered_ms: Ints
    scored: Sequence[tuple[int, Outgoing]]
    sent_s: float = 0.0
    traced: tuple[int, str] | None = None
    end_spans: Callable[[], None] = lambda: None


class ScoreAgent(Service):
    """Scores batches; several of a partition may await their acknowledgements at once, in order."""

    def __init__(self, parts: ScoreParts) -> None:
        super().__init__()
        self._parts = parts
        self._source: Source | None = None
        self._lets_go = False
        self._in_line = asyncio.Lock()  # held until all blocks of a batch are in line: sends of two would interleave

    def attach(self, source: Source) -> None:
        """Give the source whose batches come, before it starts."""
        self._source = source
        recorder = self._parts.recorder
        source.on_commit = lambda done: recorder.committed(Role.SCORE, "ok" if done else "refused")
        source.on_complete = lambda batch, seconds: recorder.completed(Role.SCORE, len(batch.records), seconds)

    @property
    def source(self) -> Source:
        """The group member."""
        assert self._source is not None, "attach() comes first"
        return self._source

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Note that a rebalance is over."""
        del generation
        self._lets_go = False
        self._parts.recorder.rebalanced(Role.SCORE, self.source.moved_in_s)
        if partitions:
            self._parts.report.set(RoleState.RUNNING)
        else:
            self._parts.report.set(
                RoleState.WAITING, "no partition is assigned; there are more members than partitions"
            )

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Score nothing that waits for a model; the source waits for what else is in flight."""
        self._lets_go = True
        for partition in partitions:
            self._parts.recorder.forget_partition(Role.SCORE, partition.topic, partition.partition)

    async def run(self, batches: AsyncIterable[RecordBatch]) -> None:
        """The Faust agent."""
        async for batch in batches:
            serving = await self._serving()
            if batch.generation != self.source.generation:
                continue  # Of an older assignment (rule 4): whoever has the partition reads it again.
            if serving is None:
                self.source.give_back(batch)
                continue
            sent = await self._score(batch, serving)
            self.add_future(self._finish(batch, sent))

    async def _serving(self) -> Serving | None:
        while not self.should_stop:
            serving = self._parts.models.current()
            if serving is None and self._lets_go:
                return None
            if serving is not None:
                if self._parts.report.state is RoleState.RESTORING:
                    self._parts.report.set(RoleState.RUNNING)
                return serving
            self._parts.report.set(RoleState.RESTORING, "the newest published state is being loaded")
            await self.sleep(_MODEL_WAIT_S)
        return None

    async def _score(self, batch: RecordBatch, serving: Serving) -> _Sent:
        parts, recorder, records = self._parts, self._parts.recorder, batch.records
        partition = batch.partition
        recorder.consumed(Role.SCORE, partition.topic, partition.partition, len(records), read_bytes(records))
        traces = parts.traces
        spans = {} if traces is None else traces.scoring(records)
        with recorder.timed("decode"):
            events = parts.decoder.decode_batch(records)
        rejected = dict(events.rejected)
        with recorder.timed("predict"):
            scores = ask(serving, events, parts.target)
        block = block_of(batch.partition.partition, records, events, scores.served, serving, parts.decoder.contract.id)
        for row, rejection in scores.failed:
            rejected[events.indexes[row]] = rejection
        for index, size in _heavy(records, events.indexes, parts.max_block_bytes):
            rejected.setdefault(index, _carries_too_much(size, parts.max_block_bytes))
        kept = [row for row, index in enumerate(events.indexes) if index not in rejected]
        with recorder.timed("encode"):
            parents = {row: traceparent_of(spans[index]) for row, index in enumerate(events.indexes) if index in spans}
            encoded, too_large = self._encode_scored(block, kept, parents)
            for row, size in too_large:
                rejected[events.indexes[row]] = _row_too_large(size, parts.max_block_bytes)
                kept.remove(row)
            served = block if len(kept) == len(events.ids) else take(block, kept)
            predictions = parts.encoder.encode(served)
        with recorder.timed("send"):
            used = records if len(kept) == len(records) else [records[events.indexes[row]] for row in kept]
            outgoing = _outgoing(used, predictions)
            for place, row in enumerate(kept) if parents else ():
                if row in parents:
                    outgoing[place] = _child_of(outgoing[place], parents[row])
        published: Awaitable[object] | None = None
        letters: Awaitable[object] | None = None
        if outgoing:
            target = TopicPartition(parts.predictions_topic, batch.partition.partition)
            published = await parts.predictions.send(target, outgoing)  # 1
        if rejected:
            letters = await parts.dead_letters.send([(records[index], rejected[index]) for index in sorted(rejected)])
        self._count(served, len(rejected), events.extra_fields)
        answered = np.array([record.timestamp for record in used], np.int64)
        sent = _Sent(published, letters, answered, encoded, perf_counter(), slowest_trace(used, parents, kept))
        if traces is None or not spans:
            return sent
        failed = {index: rejection.code.value for index, rejection in rejected.items()}
        facts = {"model": block.model, "version": block.version, "position": show(block.state_position)}
        return replace(sent, end_spans=partial(traces.scored, spans, failed, facts))

    async def _finish(self, batch: RecordBatch, sent: _Sent) -> None:
        parts, recorder = self._parts, self._parts.recorder
        if sent.predictions is not None:
            await sent.predictions
            failpoints.reached("score.predictions_acknowledged")
            recorder.produced(parts.predictions_topic, len(sent.answered_ms), perf_counter() - sent.sent_s)
            now_ms = parts.now_ms()
            traced = None if sent.traced is None else (now_ms - sent.traced[0], sent.traced[1])
            recorder.end_to_end(now_ms - sent.answered_ms, traced)
        # Batches of a partition come here in their order, since their predictions are acknowledged in it.
        async with self._in_line:
            begun_s = perf_counter()
            scored = [
                await parts.scored.send(TopicPartition(parts.scored_topic, partition), [outgoing])  # 2
                for partition, outgoing in sent.scored
            ]
        for delivery in scored:
            await delivery
        recorder.produced(parts.scored_topic, len(sent.scored), perf_counter() - begun_s)
        if sent.dead_letters is not None:
            await sent.dead_letters
        failpoints.reached("score.scored_acknowledged")
        sent.end_spans()
        self.source.complete(batch)  # 3

    def _encode_scored(
        self, block: ScoredBlock, kept: Sequence[int], parents: Mapping[int, bytes]
    ) -> tuple[list[tuple[int, Outgoing]], list[tuple[int, int]]]:
        """Return (partition, block) in order, and (row, bytes) of rows that alone are too large.

        Args:
            parents: Row → the span that scored it, of those that are traced.
        """
        homes = partitions_of([block.ids[row].encode() for row in kept], self._parts.scored_partitions)
        rows_of: dict[int, list[int]] = {}
        for row, home in zip(kept, homes, strict=True):
            rows_of.setdefault(home, []).append(row)
        encoded: list[tuple[int, Outgoing]] = []
        too_large: list[tuple[int, int]] = []
        for home in sorted(rows_of):
            whole = len(rows_of) == 1 and len(kept) == len(block.ids)
            lines = [block if whole else take(block, rows_of[home])]
            rows = [rows_of[home]]
            while lines:
                part, part_rows = lines.pop(), rows.pop()
                value = encode_scored(part)
                if len(value) <= self._parts.max_block_bytes:
                    places = enumerate(part_rows) if parents else ()
                    traced = pack((place, parents[row]) for place, row in places if row in parents)
                    encoded.append((home, Outgoing(None, value, traced)))
                elif len(part_rows) == 1:
                    too_large.append((part_rows[0], len(value)))
                else:
                    middle = len(part_rows) // 2
                    # The later half first: lines are taken from the end, and the order of rows is kept.
                    lines += [take(block, part_rows[middle:]), take(block, part_rows[:middle])]
                    rows += [part_rows[middle:], part_rows[:middle]]
        return encoded, sorted(too_large)

    def _count(self, block: ScoredBlock, rejected: int, extra_fields: int) -> None:
        parts, recorder, y_pred = self._parts, self._parts.recorder, block.served.y_pred
        abstained = int(np.isnan(y_pred).sum())
        outcomes = {"scored": len(block.ids) - abstained, "abstained": abstained, "rejected": rejected}
        recorder.events({name: count for name, count in outcomes.items() if count})
        if extra_fields:
            recorder.unknown_fields(extra_fields)
        if not block.ids:
            return
        recorder.serves(block.model, block.version)
        if parts.target.task is Task.BINARY:
            recorder.predicted_classes(block.model, ("negative", "positive"), y_pred)
            recorder.predicted_probabilities(block.model, block.served.proba[:, 0])
        elif parts.target.task is Task.MULTICLASS:
            recorder.predicted_classes(block.model, list(map(str, parts.target.classes)), y_pred)
        if block.x.absent is not None:
            recorder.features_missing(parts.decoder.contract.names, block.x.absent)
        parts.freshness.scored(block.times_ms)


def take(block: ScoredBlock, rows: Sequence[int]) -> ScoredBlock:
    """Return some rows of a block, in the order given."""
    at = np.array(rows, np.intp)
    x, served = block.x, block.served
    return ScoredBlock(
        contract_id=block.contract_id,
        log_id=block.log_id,
        model=block.model,
        version=block.version,
        state_position=block.state_position,
        source_partition=block.source_partition,
        source_offsets=block.source_offsets[at],
        ids=[block.ids[row] for row in rows],
        times_ms=block.times_ms[at],
        served=Served(served.y_pred[at], served.proba[at]),
        x=XColumns(
            x.numbers[at],
            x.integers[at],
            [x.strings[row] for row in rows],
            None if x.absent is None else x.absent[at],
        ),
    )


def _heavy(records: Sequence[Record], indexes: Sequence[int], allowed: int) -> Iterator[tuple[int, int]]:
    """Yield place and size of every record of which a prediction would repeat more than allowed."""
    if sum(len(record.key or b"") for record in records) <= allowed and not _have_headers(records):
        return  # as a rule: not even all keys of a batch together are too much
    for index in indexes:
        record = records[index]
        size = len(record.key or b"") + headers_bytes(_trace(record))
        if size > allowed:
            yield index, size


def _outgoing(records: Sequence[Record], predictions: Sequence[bytes]) -> list[Outgoing]:
    """Return predictions with the keys and the trace of their events."""
    keys = [record.key for record in records]
    if not _have_headers(records):
        return list(map(Outgoing, keys, predictions))
    return list(map(Outgoing, keys, predictions, map(_trace, records)))


def _have_headers(records: Sequence[Record]) -> bool:
    return any(record.headers for record in records)


def _carries_too_much(size: int, allowed: int) -> Rejection:
    return Rejection(
        Code.ROW_TOO_LARGE, Stage.VALIDATE, f"key and trace headers take {size} bytes; a prediction carries {allowed}"
    )


def _child_of(outgoing: Outgoing, parent: bytes) -> Outgoing:
    others = [header for header in outgoing.headers if header[0] != TRACEPARENT]
    return outgoing._replace(headers=[(TRACEPARENT, parent), *others])


def _trace(record: Record) -> Headers:
    return [header for header in record.headers if header[0] in _TRACE_HEADERS]


def slowest_trace(
    records: Sequence[Record], parents: Mapping[int, bytes], rows: Sequence[int]
) -> tuple[int, str] | None:
    """Return time and trace id of the oldest record whose trace is sampled; None: of none.

    Args:
        parents: Row → the span that scored it, of those that are traced here; `rows` are those of the records.
    """
    found = [(record.timestamp, sampled(record.headers)) for record in records if record.headers]
    if parents:
        found += [(record.timestamp, parents.get(row)) for record, row in zip(records, rows, strict=True)]
    oldest = min(((at_ms, trace) for at_ms, trace in found if trace is not None), default=None)
    return None if oldest is None else (oldest[0], trace_id_of(oldest[1]))


def _row_too_large(size: int, allowed: int) -> Rejection:
    return Rejection(
        Code.ROW_TOO_LARGE, Stage.VALIDATE, f"the event takes {size} bytes as a scored row; allowed are {allowed}"
    )

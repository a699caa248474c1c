"""The records of the internal topics as rows: a block becomes one row per row of it, the rest one row each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Final, TypeAlias

from tailrace.domain.blocks import (
    ERASED,
    IMPLICIT,
    JOINED,
    WITHDRAWN,
    Corrections,
    Examples,
    ScoredBlock,
    Served,
    TrainingBlock,
    XColumns,
)
from tailrace.domain.errors import CodecError
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position, offset_of, position_of, show
from tailrace.domain.records import LEARNER, Admit, Claim, Command, LearnerRecord, Mark, Skip
from tailrace.domain.times import rfc3339_of
from tailrace.inspection.reading import Reading
from tailrace.opening import topics_of
from tailrace.settings import LoopSettings
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.avro_codec import decode_relabelled, decode_scored, decode_training

Row: TypeAlias = dict[str, Any]


@dataclass
class RowReader:
    """Reads one internal topic of a loop as rows.

    Attributes:
        shows_values: Whether features, targets and predictions are among the columns.
        only_id: The rows of this event alone; None: every row.
    """

    reading: Reading
    name: str
    loop: LoopSettings
    shows_values: bool = False
    only_id: str | None = None
    _ownership: OwnershipState = field(default_factory=OwnershipState)

    async def rows(
        self, purpose: str, partition: int | None, start: Position | None, end: Position | None
    ) -> AsyncGenerator[Row, None]:
        """Yield the rows between two positions of a topic, partition by partition.

        Args:
            purpose: "training", "scored" or "relabelled".
            partition: None: all.
            start, end: None: from the first that is there, to the present end.

        Raises:
            LogError: There is no such topic or partition.
            CodecError: A record is not Tailrace's.
        """
        topic = str(getattr(topics_of(self.name, self.loop), purpose))
        partitions = await self.reading.ranges(topic)
        if partition is not None:
            at = TopicPartition(topic, partition)
            partitions = {at: await self.reading.reader.range_of(at)}
        for at, held in partitions.items():
            first = held.start if start is None else max(held.start, min(offset_of(start), held.end))
            last = held.end if end is None else min(held.end, offset_of(end - 1) + 1 if end else 0)
            async for record in self.reading.records(at, Range(first, last)):
                for position, row in self._rows(purpose, record):
                    if (start is None or position >= start) and (end is None or position < end):
                        yield row

    def _rows(self, purpose: str, record: Record) -> Iterator[tuple[Position, Row]]:
        if record.value is None:
            message = f"offset {record.offset} of {record.topic} has no value; only Tailrace may write this topic"
            raise CodecError(f"{message}. Find out who wrote it")
        made = {"training": self._training, "scored": self._scored, "relabelled": self._relabelled}[purpose]
        # Blocks hold ids as they are: what does not hold this one need not become rows.
        is_sought = self.only_id is None or self.only_id.encode("utf-8", "surrogatepass") in record.value
        if not is_sought and purpose != "training":
            return
        for index, row in enumerate(made(record, record.value)):
            position = position_of(record.offset, index)
            if self.only_id is None or row.get("id") == self.only_id:
                yield position, {"position": show(position), **row}
            if not is_sought:
                return  # It was counted, so that ownership goes on.

    # ── training ────────────────────────────────────────────────────────────────────────────────────────────────

    def _training(self, record: Record, value: bytes) -> Iterator[Row]:
        content = decode_training(value)
        logged_at = rfc3339_of(record.timestamp)
        if isinstance(content, Claim):
            yield {
                "kind": "claim",
                "counts": self._claim_counts(content),
                "partition": _part(content.partition),
                "owner": content.owner,
                "after": content.after,
                "log_id": content.log_id,
                "logged_at": logged_at,
            }
        elif isinstance(content, TrainingBlock):
            counts = self._counts(content.partition, content.owner, content.number)
            head = {"partition": content.partition, "owner": content.owner, "number": content.number}
            yield from self._block(content, {"counts": counts}, head | {"logged_at": logged_at})
        else:
            counts = self._counts(LEARNER, content.owner, content.number)
            head = {"partition": _part(LEARNER), "owner": content.owner, "number": content.number}
            yield {"kind": _KINDS[type(content)], "counts": counts, **head, **_notice(content), "logged_at": logged_at}

    def _block(self, block: TrainingBlock, counts: Row, head: Row) -> Iterator[Row]:
        examples, dropped = block.examples, block.dropped
        shown = self._example_values(examples, block.contract_id)
        for row in range(len(examples)):
            kind = int(examples.kinds[row])
            has_label = kind == JOINED
            label = _source(examples.label_partitions, examples.label_offsets, row) if has_label else None
            yield {
                "kind": _EXAMPLES[kind],
                **counts,
                "id": examples.ids[row],
                "time": rfc3339_of(int(examples.times_ms[row])),
                "event": _source(examples.source_partitions, examples.source_offsets, row),
                "label": label,
                **_word(examples, row),
                "state": show(int(examples.state_positions[row])),
                **head,
                **shown(row),
            }
        for row in range(len(dropped)):
            yield {
                "kind": "dropped",
                **counts,
                "id": dropped.ids[row],
                "time": rfc3339_of(int(dropped.times_ms[row])),
                "event": _source(dropped.source_partitions, dropped.source_offsets, row),
                **head,
            }
        yield from self._corrections(block.corrections, counts, head)
        if not len(examples) and not len(dropped) and not len(block.corrections):
            yield {"kind": "positions", **counts, **head}

    def _corrections(self, corrections: Corrections, counts: Row, head: Row) -> Iterator[Row]:
        for row in range(len(corrections)):
            is_withdrawn = corrections.kinds[row] == WITHDRAWN
            yield {
                "kind": "withdrawn" if is_withdrawn else "corrected",
                **counts,
                "id": corrections.ids[row],
                "time": rfc3339_of(int(corrections.times_ms[row])),
                "label": _source(corrections.label_partitions, corrections.label_offsets, row),
                **_word(corrections, row),
                **head,
                **self._target(None if is_withdrawn else float(corrections.y[row])),
            }

    def _claim_counts(self, claim: Claim) -> bool | None:
        known = claim.after is None or claim.partition in self._ownership.owners
        if not known:
            # The owner before it was claimed earlier than where reading began: nobody here can say.
            self._ownership.owners[claim.partition] = claim.after or ""
            self._ownership.claim(claim)
            return None
        return self._ownership.claim(claim)

    def _counts(self, partition: int, owner: str, number: int) -> bool | None:
        """Say whether a record counts; None where its claim lies before what is read."""
        if partition not in self._ownership.owners:
            return None
        return self._ownership.accept(partition, owner, number)

    # ── the others ──────────────────────────────────────────────────────────────────────────────────────────────

    def _scored(self, record: Record, value: bytes) -> Iterator[Row]:
        block = decode_scored(value)
        shown = self._scored_values(block)
        for row, event_id in enumerate(block.ids):
            yield {
                "kind": "scored",
                "id": event_id,
                "time": rfc3339_of(int(block.times_ms[row])),
                "event": f"{block.source_partition}/{block.source_offsets[row]}",
                "partition": record.partition,
                "model": block.model,
                "version": block.version,
                "state": show(block.state_position),
                "logged_at": rfc3339_of(record.timestamp),
                **shown(row),
            }

    def _relabelled(self, record: Record, value: bytes) -> Iterator[Row]:
        content = decode_relabelled(value)
        head = {"partition": record.partition, "logged_at": rfc3339_of(record.timestamp)}
        if isinstance(content, Mark):
            label = f"{content.partition}/{content.next_offset}"
            yield {"kind": "mark", "label": label, "watermark": rfc3339_of(content.watermark_ms), **head}
            return
        sent = content.label
        yield {
            "kind": "forward",
            "id": sent.id,
            "time": rfc3339_of(sent.time_ms),
            "label": f"{sent.partition}/{sent.offset}",
            "watermark": rfc3339_of(content.watermark_ms),
            **head,
            **self._target(sent.y),
        }

    # ── values ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _target(self, y: float | None) -> Row:
        return {"y": None if y is None else self.loop.target.show(y)} if self.shows_values else {}

    def _example_values(self, examples: Examples, contract_id: str) -> _RowValues:
        targets = [self.loop.target.show(y) for y in examples.y.tolist()] if self.shows_values else []
        return self._values(examples.served, examples.x, contract_id, targets)

    def _scored_values(self, block: ScoredBlock) -> _RowValues:
        return self._values(block.served, block.x, block.contract_id, [])

    def _values(self, served: Served, x: XColumns, contract_id: str, targets: Sequence[object]) -> _RowValues:
        if not self.shows_values:
            return _RowValues([], [], [], [])
        contract = self.loop.contract
        # Under another contract the columns have a layout that nobody knows here.
        features: list[Any] = contract.rows(x) if contract_id == contract.id and len(x.strings) else []
        proba = [[None if isnan(p) else p for p in row] for row in served.proba.tolist()]
        predicted = [self.loop.target.show(y) for y in served.y_pred.tolist()]
        return _RowValues(list(targets), predicted, proba, features)


@dataclass(frozen=True, slots=True)
class _RowValues:
    """Values of the rows of one block, where they are shown."""

    targets: Sequence[object]
    predicted: Sequence[object]
    proba: Sequence[object]
    features: Sequence[object]

    def __call__(self, row: int) -> Mapping[str, object]:
        columns = {"y": self.targets, "y_pred": self.predicted, "proba": self.proba, "x": self.features}
        return {name: column[row] for name, column in columns.items() if column}


def _word(rows: Examples | Corrections, row: int) -> Row:
    revision, source = int(rows.revisions[row]), rows.sources[row]
    return ({"revision": revision} if revision else {}) | ({"source": source} if source else {})


def _source(partitions: Any, offsets: Any, row: int) -> str:
    return f"{partitions[row]}/{offsets[row]}"


def _part(partition: int) -> int | str:
    return "learner" if partition == LEARNER else partition


_EXAMPLES: Final = {JOINED: "joined", IMPLICIT: "implicit", ERASED: "erased"}
_KINDS: Final[dict[type, str]] = {Skip: "skip", Admit: "admit", Command: "command"}


def _notice(record: LearnerRecord) -> Row:
    if isinstance(record, Skip):
        return {"skipped": show(record.position), "branch": record.branch, "error": record.error}
    by = {"branch": record.branch, "by": record.by, "why": record.why}
    if isinstance(record, Command):
        return {"asked": record.kind.value, "id": record.id, "expected_epoch": record.expected_epoch, **by}
    state = {"state_position": show(record.position), "digest": record.digest}
    return {**by, "definition": record.definition, **state, "left_out_ids": len(record.ids), "skips": len(record.skips)}

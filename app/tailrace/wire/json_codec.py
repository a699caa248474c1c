"""Events and labels as users bring them → records, or a `Rejection` with its code; one record per message.

Nothing in a value makes a decoder raise, and what becomes of one record depends on that record alone: a batch is
read column by column, which gives for each record the same as reading it alone. The seam for the formats of user
topics is `ObjectReader`, what turns the bytes of a value into fields: `json_object` here, `avro_objects` for Avro.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import le
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

import numpy as np
import orjson

from tailrace.domain.blocks import XColumns
from tailrace.domain.contract import FeatureContract, ReadBatch, TargetContract, find
from tailrace.domain.features import INT64_MAX, Raw, json_type
from tailrace.domain.records import Code, Event, Features, Label, Rejection, Stage
from tailrace.domain.times import GREATEST_TIME_MS, EventTimeMs, TimeUnit, time_of

MAX_VALUE_BYTES: Final = 1 << 20
MAX_ID_CHARS: Final = 256
MAX_SOURCE_CHARS: Final = 100
MAX_AHEAD_MS: Final = 5 * 60 * 1000

MAX_DEPTH: Final = 1024
"""Nested arrays and objects in a value: orjson refuses more before it builds anything."""

T = TypeVar("T")


class Incoming(Protocol):
    """What a decoder needs of a Kafka record."""

    @property
    def partition(self) -> int:
        """Of the input topic."""

    @property
    def offset(self) -> int:
        """In that partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970; -1: the record has none."""

    @property
    def value(self) -> bytes | None:
        """None: a tombstone."""


ObjectReader: TypeAlias = Callable[[bytes], Raw | Rejection]
"""Turns the bytes of one value into its fields; never raises on what they hold."""


def json_object(value: bytes) -> Raw | Rejection:
    """Read a JSON object."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as problem:
        if _is_too_deep(value):
            return _undecodable(Code.TOO_LARGE, f"the value is nested deeper than {MAX_DEPTH} levels")
        return _undecodable(Code.NOT_JSON, f"the value is not JSON from character {problem.pos} on")
    if type(found) is not dict:
        return _undecodable(Code.NOT_AN_OBJECT, f"the value is {json_type(found)}; an object is needed")
    return found


def _json_objects(values: Sequence[bytes]) -> list[Raw | Rejection] | None:
    # None: at least one value must be looked at by itself.
    try:
        found = list(map(orjson.loads, values))
    except orjson.JSONDecodeError:
        return None
    return found if set(map(type, found)) == {dict} else None


@dataclass(frozen=True)
class RecordFields:
    """Where id and time of a record are, and what they may be.

    Attributes:
        id: Field or dotted path of the id.
        time: Field or dotted path of the event time; None: the timestamp of the Kafka record.
        time_unit: Of times that are numbers.
        max_ahead_ms: How far a time may lie past the timestamp of its Kafka record.
    """

    id: str
    time: str | None = None
    time_unit: TimeUnit = "ms"
    max_ahead_ms: int = MAX_AHEAD_MS
    max_bytes: int = MAX_VALUE_BYTES
    read_object: ObjectReader = json_object

    def object_of(self, value: bytes | None) -> Raw | Rejection:
        """Return the fields of a value."""
        if value is None:
            return _undecodable(Code.EMPTY_VALUE, "the value is null; an object is needed")
        if len(value) > self.max_bytes:
            return _undecodable(Code.TOO_LARGE, f"the value has {len(value)} bytes; allowed are {self.max_bytes}")
        return self.read_object(value)

    def objects_of(self, values: Sequence[bytes | None]) -> list[Raw | Rejection]:
        """Return `object_of` each."""
        if None in values or max(map(len, cast(Sequence[bytes], values)), default=0) > self.max_bytes:
            return [self.object_of(value) for value in values]
        present = cast(Sequence[bytes], values)
        if self.read_object is json_object and (objects := _json_objects(present)) is not None:
            return objects
        return list(map(self.read_object, present))

    def id_of(self, raw: Raw) -> str | Rejection:
        """Return the id as text."""
        found = find(raw, self.id)
        if found is None:
            return _invalid(Code.ID_MISSING, f"the id field {self.id!r} is missing or null")
        if type(found) is int:
            return str(found)
        if type(found) is not str:
            problem = f"is {json_type(found)}; text or an integer is needed"
            return _invalid(Code.ID_INVALID, f"the id field {self.id!r} {problem}")
        if not 0 < len(found) <= MAX_ID_CHARS or "\0" in found:
            problem = f"is empty, longer than {MAX_ID_CHARS} characters, or contains NUL"
            return _invalid(Code.ID_INVALID, f"the id field {self.id!r} {problem}")
        return found

    def time_of(self, raw: Raw, timestamp_ms: int) -> EventTimeMs | Rejection:
        """Return the event time."""
        if self.time is None:
            if 0 <= timestamp_ms <= GREATEST_TIME_MS:
                return timestamp_ms
            problem = "the Kafka record has no usable timestamp; set one, or configure a time field"
            return _invalid(Code.TIME_INVALID, problem)
        found = find(raw, self.time)
        if found is None:
            return _invalid(Code.TIME_MISSING, f"the time field {self.time!r} is missing or null")
        time_ms = time_of(found, self.time_unit)
        if time_ms is None:
            allowed = f"RFC 3339 with an offset, or a number in {self.time_unit} since 1970, up to the year 9999"
            return _invalid(Code.TIME_INVALID, f"the time field {self.time!r} holds none; allowed is {allowed}")
        if time_ms > timestamp_ms + self.max_ahead_ms:
            problem = f"lies more than {self.max_ahead_ms} ms past the record's Kafka timestamp"
            return _invalid(Code.TIME_AHEAD, f"the time field {self.time!r} {problem}; is a clock or a unit wrong?")
        return time_ms

    def ids_of(self, raws: Sequence[Raw]) -> Sequence[str | Rejection]:
        """Return `id_of` each."""
        ids = [raw.get(self.id) for raw in raws]
        if set(map(type, ids)) == {str}:
            texts = cast(list[str], ids)
            lengths = list(map(len, texts))
            if min(lengths) > 0 and max(lengths) <= MAX_ID_CHARS and "\0" not in "".join(texts):
                return texts
        return [self.id_of(raw) for raw in raws]

    def times_of(self, raws: Sequence[Raw], timestamps_ms: Sequence[int]) -> Sequence[EventTimeMs | Rejection]:
        """Return `time_of` each."""
        if self.time is not None and self.time_unit == "ms":
            times = [raw.get(self.time) for raw in raws]
            if set(map(type, times)) == {int}:
                times_ms = cast(list[int], times)
                latest = [timestamp_ms + self.max_ahead_ms for timestamp_ms in timestamps_ms]
                if min(times_ms) >= 0 and max(times_ms) <= GREATEST_TIME_MS and all(map(le, times_ms, latest)):
                    return times_ms
        return [self.time_of(raw, timestamp_ms) for raw, timestamp_ms in zip(raws, timestamps_ms, strict=True)]

    @property
    def roots(self) -> frozenset[str]:
        """Top-level fields that are looked at."""
        paths = [self.id] if self.time is None else [self.id, self.time]
        return frozenset(paths) | {path.partition(".")[0] for path in paths}


@dataclass(frozen=True)
class EventBatch:
    """What became of the records of one batch.

    Attributes:
        contract: That they were read by.
        indexes: n places in the batch, rising, of the accepted events.
        ids, times_ms, x: n of each.
        rejected: Place in the batch → why.
        extra_fields: Top-level fields of accepted events that nothing looks at.
    """

    contract: FeatureContract
    indexes: list[int]
    ids: list[str]
    times_ms: list[EventTimeMs]
    x: XColumns
    rejected: Mapping[int, Rejection]
    extra_fields: int

    @cached_property
    def rows(self) -> list[Features]:
        """The features as River takes them, n rows; made when asked for."""
        return self.contract.rows(self.x)


@dataclass(frozen=True)
class EventDecoder:
    """Decodes the values of an events topic."""

    fields: RecordFields
    contract: FeatureContract

    def decode(self, value: bytes | None, timestamp_ms: int) -> Event | Rejection:
        """Decode one event.

        Args:
            timestamp_ms: Of the Kafka record.
        """
        raw = self.fields.object_of(value)
        if isinstance(raw, Rejection):
            return raw
        event_id = self.fields.id_of(raw)
        if isinstance(event_id, Rejection):
            return event_id
        time_ms = self.fields.time_of(raw, timestamp_ms)
        if isinstance(time_ms, Rejection):
            return time_ms
        x = self.contract.read(raw)
        return x if isinstance(x, Rejection) else Event(event_id, time_ms, x)

    def decode_batch(self, records: Sequence[Incoming]) -> EventBatch:
        """Decode many events: for each the same as `decode`."""
        objects = _Objects.of(records, self.fields)
        ids = self.fields.ids_of(objects.raws)
        times_ms = self.fields.times_of(objects.raws, objects.timestamps_ms)
        read = self.contract.read_many(objects.raws)
        all_ids, all_times_ms, x = _unless_rejected(ids), _unless_rejected(times_ms), self._columns(read)
        if all_ids is None or all_times_ms is None or x is None:
            return self._some(objects, ids, times_ms, read)
        extra = self._extra_fields(objects.raws, read)
        return EventBatch(self.contract, objects.indexes, all_ids, all_times_ms, x, objects.rejected, extra)

    def _columns(self, read: ReadBatch) -> XColumns | None:
        """Return the columns of all records; None where one was rejected."""
        if read.x is not None:
            return read.x
        rows = _unless_rejected(read.read)
        return None if rows is None else self.contract.columns(rows)

    def _some(
        self,
        objects: _Objects,
        ids: Sequence[str | Rejection],
        times_ms: Sequence[EventTimeMs | Rejection],
        read: ReadBatch,
    ) -> EventBatch:
        rejected = dict(objects.rejected)
        accepted = []
        for row, parts in enumerate(zip(objects.indexes, ids, times_ms, read.read, strict=True)):
            refusal = next((part for part in parts[1:] if isinstance(part, Rejection)), None)
            if refusal is None:
                accepted.append((row, *parts))
            else:
                rejected[parts[0]] = refusal
        kept: Any = [list(column) for column in zip(*accepted, strict=True)] or [[], [], [], [], []]
        rows, indexes, kept_ids, kept_times_ms, kept_rows = kept
        extra = sum(len(objects.raws[row].keys() - self._known) for row in rows)
        x = self.contract.columns(kept_rows)
        rejected = dict(sorted(rejected.items()))
        return EventBatch(self.contract, indexes, kept_ids, kept_times_ms, x, rejected, extra)

    @cached_property
    def _known(self) -> frozenset[str]:
        return self.fields.roots | self.contract.roots

    @cached_property
    def _is_flat(self) -> bool:
        return not any("." in name for name in self._known)

    def _extra_fields(self, raws: Sequence[Raw], read: ReadBatch) -> int:
        if read.x is not None and self._is_flat:
            # Every known field is in every record, so that counting is enough.
            return sum(map(len, raws)) - len(raws) * len(self._known)
        return sum(len(raw.keys() - self._known) for raw in raws)


@dataclass(frozen=True)
class LabelDecoder:
    """Decodes the values of a labels topic.

    Attributes:
        target: Field or dotted path of the target.
        revision, source: Likewise; None: no label has one.
        takes_withdrawals: Whether a target that is null takes back what was said; a target that is absent never does.
    """

    fields: RecordFields
    target: str
    contract: TargetContract
    revision: str | None = None
    source: str | None = None
    takes_withdrawals: bool = False

    def decode(self, record: Incoming) -> Label | Rejection:
        """Decode one label."""
        (decoded,) = self.decode_batch([record])
        return decoded

    def decode_batch(self, records: Sequence[Incoming]) -> list[Label | Rejection]:
        """Decode many labels, in their order."""
        objects = _Objects.of(records, self.fields)
        used = records if not objects.rejected else [records[index] for index in objects.indexes]
        said = [
            self.fields.ids_of(objects.raws),
            self.fields.times_of(objects.raws, objects.timestamps_ms),
            self._targets_of(objects.raws),
        ]
        places = [
            [record.partition for record in used],
            [record.offset for record in used],
            objects.timestamps_ms,
        ]
        words = self._words_of(objects.raws)
        if any(Rejection in set(map(type, column)) for column in (*said, *words)):
            labels = list(map(_label, *said, *places, *words))
        else:
            labels = list(map(Label, *said, *places, *words))
        if not objects.rejected:
            return labels
        decoded = {**objects.rejected, **dict(zip(objects.indexes, labels, strict=True))}
        return [decoded[index] for index in range(len(records))]

    def _targets_of(self, raws: Sequence[Raw]) -> Sequence[float | Rejection | None]:
        found = [find(raw, self.target) for raw in raws]
        targets = self.contract.read_many(found)
        if not self.takes_withdrawals or None not in found:
            return targets
        return [
            None if value is None and _is_null(raw, self.target) else target
            for raw, value, target in zip(raws, found, targets, strict=True)
        ]

    def _words_of(self, raws: Sequence[Raw]) -> list[Sequence[Any]]:
        """Return revisions and sources; nothing where no label has either."""
        if self.revision is None and self.source is None:
            return []
        revision, source = self.revision, self.source
        return [
            [0] * len(raws) if revision is None else [_revision(find(raw, revision), revision) for raw in raws],
            [""] * len(raws) if source is None else [_source(find(raw, source), source) for raw in raws],
        ]


def _label(*parts: Any) -> Label | Rejection:
    refusal = next((part for part in parts if isinstance(part, Rejection)), None)
    return Label(*parts) if refusal is None else refusal


def _is_null(raw: Raw, path: str) -> bool:
    if path in raw:
        return True
    *parents, last = path.split(".")
    holder: object = find(raw, ".".join(parents)) if parents else raw
    return isinstance(holder, dict) and last in holder


def _revision(value: object, name: str) -> int | Rejection:
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= INT64_MAX:
        return value
    problem = f"is {json_type(value)}; allowed is a whole number from 0 to 2^63 - 1"
    return _invalid(Code.REVISION_INVALID, f"the revision field {name!r} {problem}")


def _source(value: object, name: str) -> str | Rejection:
    if value is None:
        return ""
    if type(value) is str and len(value) <= MAX_SOURCE_CHARS and "\0" not in value:
        return value
    problem = f"is {json_type(value)}; allowed is text of at most {MAX_SOURCE_CHARS} characters, without NUL"
    return _invalid(Code.SOURCE_INVALID, f"the source field {name!r} {problem}")


@dataclass(frozen=True, slots=True)
class _Objects:
    """The records of a batch whose values are objects, by their places, and the rejections of the others."""

    indexes: list[int]
    raws: Sequence[Raw]
    timestamps_ms: list[int]
    rejected: dict[int, Rejection]

    @classmethod
    def of(cls, records: Sequence[Incoming], fields: RecordFields) -> _Objects:
        found = fields.objects_of([record.value for record in records])
        if (raws := _unless_rejected(found)) is not None:
            return cls(list(range(len(found))), raws, [record.timestamp for record in records], {})
        rejected = {index: raw for index, raw in enumerate(found) if isinstance(raw, Rejection)}
        indexes = [index for index in range(len(found)) if index not in rejected]
        raws = [raw for raw in found if not isinstance(raw, Rejection)]
        return cls(indexes, raws, [records[index].timestamp for index in indexes], rejected)


_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def _unless_rejected(column: Sequence[T | Rejection]) -> list[T] | None:
    return None if Rejection in set(map(type, column)) else cast(list[T], column)


def _is_too_deep(value: bytes) -> bool:
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    brackets = np.frombuffer(_STRINGS.sub(b"", value), np.uint8)
    steps = np.isin(brackets, list(b"[{")).astype(np.int64) - np.isin(brackets, list(b"]}"))
    return bool(np.cumsum(steps).max(initial=0) > MAX_DEPTH)


def _undecodable(code: Code, detail: str) -> Rejection:
    return Rejection(code, Stage.DECODE, detail)


def _invalid(code: Code, detail: str) -> Rejection:
    return Rejection(code, Stage.VALIDATE, detail)

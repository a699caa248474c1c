"""Predictions and what happens to models as they come, for whoever listens and may come back.

Every event is told with a cursor: the offsets of all partitions as they are behind it. Who comes back with the cursor
of the last event that arrived misses nothing that the log still holds, and gets nothing twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import orjson

from tailrace.domain.errors import CodecError
from tailrace.domain.positions import show
from tailrace.domain.times import rfc3339_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.avro_codec import decode_model_event
from tailrace.wire.prediction_codec import decode_prediction
from tailrace.wire.topics import LoopTopics

PREDICTION: Final = "prediction"
MODEL_EVENT: Final = "model-event"
GAP: Final = "gap"

_BATCHES_AHEAD: Final = 4


class Told(NamedTuple):
    """One event.

    Attributes:
        kind: PREDICTION, MODEL_EVENT or GAP.
        cursor: Where to go on behind it.
        data: JSON on one line.
    """

    kind: str
    cursor: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Cursor:
    """Next offsets.

    Attributes:
        predictions: Per partition of the topic of predictions.
        model_events: Of the topic of model events.
    """

    predictions: tuple[int, ...]
    model_events: int

    @property
    def text(self) -> str:
        """The cursor as clients hold it."""
        return f"{'.'.join(map(str, self.predictions))}/{self.model_events}"

    @classmethod
    def read(cls, text: str) -> Cursor | None:
        """Return the cursor of a text; None: it is none."""
        if not re.fullmatch(r"[0-9]{1,19}(\.[0-9]{1,19})*/[0-9]{1,19}", text):
            return None
        predictions, _, model_events = text.partition("/")
        return cls(tuple(map(int, predictions.split("."))), int(model_events))


class Tail:
    """The events of one loop from some place on."""

    def __init__(self, reading: Reading, topics: LoopTopics, kinds: Collection[str]) -> None:
        self._reading = reading
        self._topics = topics
        self._kinds = kinds
        self._ready: asyncio.Queue[tuple[int, Sequence[Record]] | BaseException] = asyncio.Queue(_BATCHES_AHEAD)
        self._tasks: list[asyncio.Task[None]] = []
        self._next: list[int] = []
        self._gaps: list[Told] = []

    async def open(self, last: str | None) -> None:
        """Begin, behind the event of a cursor, or at the end.

        Raises:
            LogError: A topic does not exist.
        """
        predictions = await self._reading.ranges(self._topics.predictions)
        news = await self._reading.ranges(self._topics.model_events)
        held = [*predictions.items(), *news.items()]
        self._next = [offsets.end for _, offsets in held]
        cursor = None if last is None else Cursor.read(last)
        if cursor is not None:
            self._go_back((*cursor.predictions, cursor.model_events), held)
        elif last is not None:
            self._gaps.append(self._gap("the cursor is none of this loop; events go on from now"))
        for index, (partition, _) in enumerate(held):
            kind = MODEL_EVENT if partition.topic == self._topics.model_events else PREDICTION
            if kind in self._kinds:
                self._tasks.append(asyncio.create_task(self._pump(index, partition, self._next[index])))

    @property
    def opening(self) -> str:
        """Where to go on before anything was told; "" where a gap comes first, which must not be passed over."""
        return "" if self._gaps else self._cursor

    async def take(self, within_s: float) -> list[Told]:
        """Return the events that came next, in the order of their partition; none when none came in time.

        Raises:
            LogError: The log cannot be read on.
        """
        if self._gaps:
            gaps, self._gaps = self._gaps, []
            return gaps
        try:
            async with asyncio.timeout(within_s):
                found = await self._ready.get()
        except TimeoutError:
            return []
        if isinstance(found, BaseException):
            raise found
        index, records = found
        told = []
        for record in records:
            self._next[index] = record.offset + 1
            data = _data(record, is_news=index == len(self._next) - 1)
            if data is not None:
                told.append(Told(MODEL_EVENT if index == len(self._next) - 1 else PREDICTION, self._cursor, data))
        return told

    async def close(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _cursor(self) -> str:
        return Cursor(tuple(self._next[:-1]), self._next[-1]).text

    def _go_back(self, offsets: Sequence[int], held: Sequence[tuple[TopicPartition, Range]]) -> None:
        if len(offsets) > len(held):
            self._gaps.append(self._gap("the cursor is none of this loop; events go on from now"))
            return
        # Partitions that were added since are read from their beginning.
        known = [*offsets[:-1], *(each.start for _, each in held[len(offsets) - 1 : -1]), offsets[-1]]
        lost = 0
        for index, (offset, (_, each)) in enumerate(zip(known, held, strict=True)):
            is_held = each.start <= offset <= each.end
            self._next[index] = offset if is_held else each.start
            lost += not is_held
        if lost:
            self._gaps.append(self._gap("the log holds no more, or never held, what follows this cursor"))

    def _gap(self, why: str) -> Told:
        return Told(GAP, self._cursor, orjson.dumps({"detail": why}))

    async def _pump(self, index: int, partition: TopicPartition, start: int) -> None:
        try:
            async for batch in self._reading.reader.follow(partition, start):
                if batch:
                    await self._ready.put((index, batch))
        except Exception as problem:  # noqa: BLE001 - raised again where the events are taken
            await self._ready.put(problem)


def _data(record: Record, *, is_news: bool) -> bytes | None:
    try:
        if not is_news:
            return orjson.dumps(decode_prediction(record.value or b""))
        event: dict[str, Any] = asdict(decode_model_event(record.value or b""))
    except CodecError:
        return None  # Another program's record.
    shown = {"at": rfc3339_of(event.pop("at_ms")), "position": show(event.pop("position"))}
    return orjson.dumps(event | shown, option=orjson.OPT_NON_STR_KEYS)

"""What a serving model answers to events: the one way for the stream and for those who ask by HTTP.

`ask` and `block_of` are what the score agent does with a batch. `Answerer` does the same with events that are in no
topic: nothing is written, nothing is counted as an event, and no model changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from tailrace.domain.blocks import ScoredBlock, Served
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import is_stop
from tailrace.domain.explanation import Explanation, explain
from tailrace.domain.features import find
from tailrace.domain.records import Code, Features, Rejection, Stage
from tailrace.domain.scoring import Scores, score_columns
from tailrace.streams.followers import Models, Serving
from tailrace.wire.json_codec import EventBatch, EventDecoder, Incoming, json_object
from tailrace.wire.prediction_codec import PredictionEncoder

_AT_ONCE: Final = 16
"""Events that are answered before others get their turn of the event loop."""

_NOWHERE: Final = -1
_NO_ID: Final = "-"


def ask(serving: Serving, events: EventBatch, target: TargetContract) -> Scores:
    """Ask the model that serves about every event."""
    return score_columns(serving.model, events.contract, events.x, target, serving.categories)


def block_of(
    partition: int, records: Sequence[Incoming], events: EventBatch, served: Served, serving: Serving, contract_id: str
) -> ScoredBlock:
    """Return what was served, and by which state.

    Args:
        partition: Of the events topic.
        records: Those that `events` was decoded from.
    """
    return ScoredBlock(
        contract_id=contract_id,
        log_id=serving.log_id,
        model=serving.name,
        version=serving.version[:12],
        state_position=serving.position,
        source_partition=partition,
        source_offsets=np.array([records[index].offset for index in events.indexes], np.int64),
        ids=events.ids,
        times_ms=np.array(events.times_ms, np.int64),
        served=served,
        x=events.x,
    )


class _Given(NamedTuple):
    """An event that is in no topic, as the decoder takes it."""

    value: bytes | None
    timestamp: int
    partition: int = _NOWHERE
    offset: int = _NOWHERE


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one event.

    Attributes:
        prediction: As on the topic of predictions, without a prediction id; None: it was rejected.
        rejection: Why.
        explanation: Where it was asked for.
    """

    prediction: dict[str, Any] | None
    rejection: Rejection | None = None
    explanation: Explanation | None = None


class Answerer:
    """Answers events with the model that serves in this process.

    Args:
        decoder, encoder, target, models: As the score agent has them.
    """

    def __init__(
        self, decoder: EventDecoder, encoder: PredictionEncoder, target: TargetContract, models: Models
    ) -> None:
        # What is asked by HTTP is JSON, whatever the topic holds.
        self._decoder = replace(decoder, fields=replace(decoder.fields, read_object=json_object))
        self._encoder = encoder
        self._target = target
        self._models = models

    @property
    def serving(self) -> Serving | None:
        """What answers now; None: nothing yet."""
        return self._models.current()

    async def answer(
        self, events: Sequence[dict[str, Any]], now_ms: int, *, with_reasons: bool
    ) -> list[Answered] | None:
        """Answer events, in their order, a few at a time; None: there is no model yet.

        The state that answers may have moved on between two of them; each says which one it was.
        """
        found: list[Answered] = []
        for start in range(0, len(events), 1 if with_reasons else _AT_ONCE):
            serving = self.serving
            if serving is None:
                return None
            part = events[start : start + (1 if with_reasons else _AT_ONCE)]
            found += self._answer(part, serving, now_ms, with_reasons=with_reasons)
            await asyncio.sleep(0)
        return found

    def _answer(
        self, events: Sequence[dict[str, Any]], serving: Serving, now_ms: int, *, with_reasons: bool
    ) -> list[Answered]:
        records = [_Given(self._value(event, now_ms), now_ms) for event in events]
        decoded = self._decoder.decode_batch(records)
        scores = ask(serving, decoded, self._target)
        block = block_of(_NOWHERE, records, decoded, scores.served, serving, self._decoder.contract.id)
        rejected = dict(decoded.rejected) | {decoded.indexes[row]: each for row, each in scores.failed}
        rejected |= {index: TOO_DEEP for index, record in enumerate(records) if record.value is None}
        found: dict[int, Answered] = {}
        for row, (index, value) in enumerate(zip(decoded.indexes, self._encoder.encode(block), strict=True)):
            prediction = orjson.loads(value)
            del prediction["prediction_id"], prediction["event_time"]
            if find(events[index], self._decoder.fields.id) is None:
                prediction["event_id"] = None
            is_explained = with_reasons and index not in rejected
            reasons = self._reasons(serving, decoded.rows[row]) if is_explained else None
            found[index] = Answered(prediction, None, reasons)
        return [Answered(None, rejected[index]) if index in rejected else found[index] for index in range(len(events))]

    def _reasons(self, serving: Serving, x: Features) -> Explanation | None:
        try:
            return explain(serving.model, serving.categories.view(x), self._target)
        except BaseException as error:
            if is_stop(error):
                raise
            return None  # River's panics are no Exceptions; the answer itself stands

    def _value(self, event: dict[str, Any], now_ms: int) -> bytes | None:
        """Return an event as its topic would hold it; one that is only asked about needs neither id nor time."""
        fields, filled = self._decoder.fields, dict(event)
        if find(event, fields.id) is None:
            filled = _with(filled, fields.id, _NO_ID)
        if fields.time is not None and find(event, fields.time) is None:
            filled = _with(filled, fields.time, _as_unit(now_ms, fields.time_unit))
        return encoded(filled)


def encoded(record: dict[str, Any]) -> bytes | None:
    """Return a JSON object as bytes; None where it is nested deeper than anything that is read here."""
    try:
        return orjson.dumps(record)
    except orjson.JSONEncodeError:
        return None


TOO_DEEP: Final = Rejection(Code.TOO_LARGE, Stage.DECODE, "the value is nested deeper than anything that is read here")


def _with(record: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    head, _, rest = path.partition(".")
    if not rest:
        return record | {path: value}
    below = record.get(head)
    return record | {head: _with(dict(below) if isinstance(below, dict) else {}, rest, value)}


def _as_unit(now_ms: int, unit: str) -> int:
    return {"s": now_ms // 1_000, "ms": now_ms, "us": now_ms * 1_000, "ns": now_ms * 1_000_000}[unit]

"""Predictions ↔ JSON, one record per Kafka message (`schemas/prediction.avsc` says the same in Avro).

A prediction's id is the place of its event in the events topic, so that a redelivery repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import Any, Final

import numpy as np
import orjson

from tailrace.domain.blocks import Ints, ScoredBlock, Served
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import CodecError
from tailrace.domain.positions import show
from tailrace.domain.records import Task

SERVED: Final = "served"
ABSTAINED: Final = "abstained"

_json: Final = orjson.dumps
_SERVED: Final = b'"outcome":"%b"' % SERVED.encode()
_ABSTAINED: Final = b'"y_pred":null,"outcome":"%b"' % ABSTAINED.encode()


@dataclass(frozen=True)
class PredictionEncoder:
    """Encodes what was served.

    Attributes:
        topic: The events topic, which names the events in prediction ids.
    """

    topic: str
    target: TargetContract

    def encode(self, block: ScoredBlock) -> list[bytes]:
        """Encode one prediction per row of a scored block, in the order of its rows."""
        prefix = _json(f"{self.topic}/{block.source_partition}/")[:-1]
        state = {"model": block.model, "version": block.version, "position": show(block.state_position)}
        end = _json(state)[1:]
        rows = zip(
            block.source_offsets.tolist(),
            map(_json, block.ids),
            rfc3339(block.times_ms),
            self._answers(block.served),
            strict=True,
        )
        # Only what differs from row to row is written as JSON; a dictionary per row would cost three times as much.
        line = b'{"prediction_id":%b%%d","event_id":%%b,"event_time":"%%b",%%b,%b' % _escaped(prefix, end)
        return [line % (offset, event_id, at.encode(), answer) for offset, event_id, at, answer in rows]

    def _answers(self, served: Served) -> Iterator[bytes]:
        """Yield the fields `y_pred`, `proba` where the task has one, and `outcome` of each row."""
        y_preds: list[float] = served.y_pred.tolist()
        if self.target.task.answers_numbers:
            return (_ABSTAINED if isnan(y_pred) else b'"y_pred":%b,%b' % (_json(y_pred), _SERVED) for y_pred in y_preds)
        probas: Iterable[object]
        if self.target.task is Task.BINARY:
            probas = served.proba[:, 0].tolist()
        else:
            probas = map(self._by_class, served.proba.tolist())
        return (
            _ABSTAINED if shown is None else b'"y_pred":%b,"proba":%b,%b' % (shown, _json(proba), _SERVED)
            for shown, proba in zip(map(self._shown.get, y_preds), probas, strict=True)
        )

    @cached_property
    def _shown(self) -> Mapping[float, bytes]:
        """Index of a class → how it is shown; an abstention, NaN, has none."""
        return {float(index): _json(self.target.show(index)) for index in range(max(2, len(self.target.classes)))}

    def _by_class(self, proba: list[float]) -> dict[str, float]:
        # A class that the model's answer did not name is NaN.
        return {name: p for name, p in zip(self._class_names, proba, strict=True) if not isnan(p)}

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(map(str, self.target.classes))


def decode_prediction(value: bytes) -> dict[str, Any]:
    """Decode one value of `<loop>.predictions`.

    Raises:
        CodecError: It is none.
    """
    try:
        prediction = orjson.loads(value)
    except orjson.JSONDecodeError as cause:
        raise CodecError("a prediction is not JSON; is this topic another program's?") from cause
    if type(prediction) is not dict or not _REQUIRED <= prediction.keys():
        raise CodecError(f"a prediction lacks one of {', '.join(sorted(_REQUIRED))}; is this topic another program's?")
    return prediction


def rfc3339(times_ms: Ints) -> list[str]:
    """Write event times as RFC 3339 in UTC, to the millisecond."""
    texts: list[str] = np.datetime_as_string(times_ms.astype("M8[ms]"), unit="ms", timezone="UTC").tolist()
    return texts


def _escaped(*texts: bytes) -> tuple[bytes, ...]:
    """Make texts that stand for themselves in a format."""
    return tuple(text.replace(b"%", b"%%") for text in texts)


_REQUIRED: Final = frozenset(
    {"prediction_id", "event_id", "event_time", "y_pred", "outcome", "model", "version", "position"}
)

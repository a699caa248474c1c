"""Predictions ↔ JSON, one record per Kafka message (`schemas/prediction.avsc` says the same in Avro).

A prediction's id is the place of its event in the events topic, so that a redelivery repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

import numpy as np
import orjson

from tailrace.domain.blocks import Ints, ScoredBlock
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import CodecError
from tailrace.domain.positions import show
from tailrace.domain.records import Task

SERVED: Final = "served"
ABSTAINED: Final = "abstained"


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
        prefix = f"{self.topic}/{block.source_partition}/"
        state = {"model": block.model, "version": block.version, "position": show(block.state_position)}
        show_proba = self._show_proba()
        rows = zip(
            block.source_offsets.tolist(),
            block.ids,
            rfc3339(block.times_ms),
            map(self.target.show, block.served.y_pred.tolist()),
            block.served.proba.tolist(),
            strict=True,
        )
        encoded = []
        for offset, event_id, event_time, y_pred, proba in rows:
            prediction: dict[str, object] = {
                "prediction_id": f"{prefix}{offset}",
                "event_id": event_id,
                "event_time": event_time,
                "y_pred": y_pred,
            }
            if y_pred is None:
                prediction["outcome"] = ABSTAINED
            else:
                if show_proba is not None:
                    prediction["proba"] = show_proba(proba)
                prediction["outcome"] = SERVED
            # orjson's result keeps a buffer of a kilobyte or more for as long as it lives; the copy keeps its length.
            encoded.append(bytes(memoryview(orjson.dumps(prediction | state))))
        return encoded

    def _show_proba(self) -> Callable[[list[float]], object] | None:
        if self.target.task is Task.REGRESSION:
            return None
        if self.target.task is Task.BINARY:
            return lambda proba: proba[0]
        names = [str(name) for name in self.target.classes]
        # A class that the model's answer did not name is NaN.
        return lambda proba: {name: p for name, p in zip(names, proba, strict=True) if not isnan(p)}


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


_REQUIRED: Final = frozenset(
    {"prediction_id", "event_id", "event_time", "y_pred", "outcome", "model", "version", "position"}
)

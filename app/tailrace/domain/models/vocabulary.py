"""Whether a model grows with every new text that it learns: asked before a contract lets strangers' text into it.

Found out by trying, since it depends on the whole pipeline: the model learns as many different texts as equal ones,
and the two states are compared by size. Hashing has a bound of its own and is tried with a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from river import preprocessing

from tailrace.domain.errors import CodecError, is_stop
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.records import Features

TRIED: Final = 256
"""Rows; River's trees look for splits after 200 by default."""

_BYTES_PER_TEXT: Final = 4
"""A state that keeps every text grows by more than its length; one that does not, by a digit of a counter in all."""

_BUCKETS_TRIED: Final = 8


def grows_with_texts(
    build: Callable[[], Any], codec: StateCodec, row: Features, texts: Sequence[str], targets: Sequence[Any]
) -> bool:
    """Tell whether a model holds on to every text that these features bring.

    Args:
        row: A row that the contract accepts.
        texts: Features of open text.
        targets: A few that the model can learn, used in turn.

    Returns:
        False as well where the model cannot learn such rows, or cannot be encoded: others refuse it for that.
    """
    sizes = []
    for word in ("w{}", "w"):
        model = build()
        _narrow(model)
        teach = teacher_of(model)
        try:
            for number in range(TRIED):
                text = f"{word} {word}x".format(number, number)
                teach(row | dict.fromkeys(texts, text), targets[number % len(targets)])
            sizes.append(len(codec.encode(model)))
        except CodecError:
            return False
        except BaseException as error:  # what native code of a model raises is no Exception
            if is_stop(error):
                raise
            return False
    many, one = sizes
    return many - one > TRIED * _BYTES_PER_TEXT


def _narrow(part: Any) -> None:
    """Give every hasher inside of a model few buckets."""
    if isinstance(part, preprocessing.FeatureHasher):
        part.n_features = _BUCKETS_TRIED
    for inner in _inside(part):
        _narrow(inner)


def _inside(part: Any) -> list[Any]:
    steps = getattr(part, "steps", None) or getattr(part, "transformers", None)
    if isinstance(steps, dict):
        return list(steps.values())
    wrapped = [getattr(part, name, None) for name in ("model", "classifier", "regressor")]
    return [each for each in wrapped if each is not None]

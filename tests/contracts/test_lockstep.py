"""Scoring and learning against River itself, driven in lockstep: every due label is folded before the next event.

River's `iter_progressive_val_score` is the oracle: same predictions, same metrics, to the last digit. River is fed
the rows that the contract makes: sorted, typed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
from river import datasets, evaluate, linear_model, metrics, naive_bayes, preprocessing, tree
from river.datasets import synth
from tests.log_builders import begun, make_claim, make_dropped, make_fold

from tailrace.domain.blocks import Examples, Served, TrainingBlock, Vector
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.records import Features, Task
from tailrace.domain.scoring import score
from tailrace.domain.state import LoopState

Row = tuple[Features, Any]


@dataclass
class Stream:
    """Rows as the contract reads them, with River's targets."""

    contract: FeatureContract
    target: TargetContract
    rows: list[Row]


def typed(task: Task, raw: Iterator[tuple[dict[str, Any], Any]]) -> Stream:
    rows = [({str(name): value for name, value in x.items()}, y) for x, y in raw]
    contract = FeatureContract(tuple(FeatureSpec(name, "number") for name in rows[0][0]))
    classes = tuple(sorted({y for _, y in rows})) if task is Task.MULTICLASS else ()
    read = [contract.read(x) for x, _ in rows]
    assert all(isinstance(x, dict) for x in read)
    target = TargetContract(task, classes=classes)
    return Stream(contract, target, [(x, y) for x, (_, y) in zip(read, rows, strict=True)])  # type: ignore[misc]


def phishing() -> Stream:
    return typed(Task.BINARY, iter(datasets.Phishing()))


def drifting() -> Stream:
    parts = [synth.SEA(variant=variant, seed=variant).take(700) for variant in (0, 3)]
    return typed(Task.BINARY, chain.from_iterable(parts))


def segments() -> Stream:
    return typed(Task.MULTICLASS, islice(iter(datasets.ImageSegments()), 1_200))


def bikes() -> Stream:
    return typed(Task.REGRESSION, iter(synth.Friedman(seed=1).take(1_300)))


def in_lockstep(stream: Stream, build_model: Callable[[], Any], delay: int) -> tuple[list[Served], LoopState]:
    """Score each row with the live model after folding every label that is due, in blocks of whatever is due."""
    fold = make_fold(build_model, stream.target, contract=stream.contract)
    state = begun(fold)
    fold.open(state, 0, make_claim(), "")
    waiting: deque[tuple[int, Features, Any, Served]] = deque()
    found = []

    def learn(due: list[tuple[int, Features, Any, Served]]) -> None:
        offset = state.last_offset + 1
        block = block_of(stream, due, number=offset)
        assert fold.open(state, offset, block, "") is block
        fold.learn(state, block, offset, 0, len(due))
        fold.close(state, offset)

    for i, (x, y) in enumerate(stream.rows):
        due = [waiting.popleft() for _ in range(len(waiting)) if waiting[0][0] + delay <= i]
        if due:
            learn(due)
        served = score(state.champion.model, [x], stream.target).served
        found.append(served)
        waiting.append((i, x, y, served))
    learn(list(waiting))
    return found, state


def block_of(stream: Stream, due: list[tuple[int, Features, Any, Served]], number: int) -> TrainingBlock:
    read = {Task.BINARY: float, Task.REGRESSION: float, Task.MULTICLASS: stream.target.read}[stream.target.task]
    zeros = np.zeros(len(due), np.int64)
    served = Served(np.concatenate([one.y_pred for *_, one in due]), np.concatenate([one.proba for *_, one in due]))
    examples = Examples(
        kinds=zeros,
        ids=[str(i) for i, *_ in due],
        times_ms=zeros,
        y=np.array([read(y) for _, _, y, _ in due], np.float64),
        source_partitions=zeros,
        source_offsets=zeros,
        label_partitions=zeros,
        label_offsets=zeros,
        label_broker_ms=zeros,
        state_positions=zeros,
        revisions=zeros,
        sources=[""] * len(due),
        served=served,
        x=stream.contract.columns([x for _, x, _, _ in due]),
    )
    return TrainingBlock(stream.contract.id, "log", 0, "joiner-a", number, examples, make_dropped(), Vector())


def by_river(stream: Stream, model: Any, metric: Any, delay: int) -> list[Any]:
    """Return River's predictions in the order of its answers, which is the order of the rows."""
    steps = evaluate.iter_progressive_val_score(
        stream.rows, model, metric, moment=None, delay=delay, step=1, yield_predictions=True
    )
    return [step["Prediction"] for step in steps]


def scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


CASES = [
    (phishing, lambda: scaled(linear_model.LogisticRegression())),
    (phishing, naive_bayes.GaussianNB),
    (phishing, lambda: tree.HoeffdingTreeClassifier(grace_period=50)),
    (drifting, lambda: scaled(linear_model.LogisticRegression())),
    (drifting, lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1)),
    (segments, lambda: scaled(linear_model.SoftmaxRegression())),
    (bikes, lambda: scaled(linear_model.LinearRegression())),
]


@pytest.mark.parametrize("delay", [1, 40])
@pytest.mark.parametrize(("make_stream", "build_model"), CASES)
def test_predictions_and_metrics_equal_rivers_to_the_last_digit(
    make_stream: Callable[[], Stream], build_model: Callable[[], Any], delay: int
) -> None:
    stream = make_stream()

    served, state = in_lockstep(stream, build_model, delay)

    if stream.target.task is Task.REGRESSION:
        metric = metrics.MAE() + metrics.RMSE()
        assert by_river(stream, build_model(), metric, delay) == [one.y_pred.item() for one in served]
    else:
        metric = metrics.Accuracy()
        classes = [stream.target.show(one.y_pred.item()) for one in served]
        assert by_river(stream, build_model(), metric, delay) == classes
        by_proba = metrics.LogLoss() + metrics.ROCAUC() if stream.target.task is Task.BINARY else metrics.CrossEntropy()
        answers = by_river(stream, build_model(), by_proba, delay)
        assert [named(answer, stream.target) for answer in answers] == [spelled(one) for one in served]
        metric = [metric, *(by_proba if isinstance(by_proba, metrics.base.Metrics) else [by_proba])]
    values = {figure.metric: figure.value for figure in state.quality.figures() if figure.window == "all"}
    expected = {type(one).__name__.lower(): one.get() for one in metric}
    assert expected == {name.replace("_", ""): values[name] for name in values if name.replace("_", "") in expected}
    assert len(stream.rows) == state.champion.learned


def named(answer: dict[Any, float], target: TargetContract) -> list[float | None]:
    if not answer:
        return [None] * target.width
    if target.task is Task.BINARY:
        return [answer.get(True, 0.0)]
    return [answer.get(name) for name in target.classes]


def spelled(served: Served) -> list[float | None]:
    return [None if math.isnan(p) else p for p in served.proba[0].tolist()]

"""The whole loop against River itself, in lockstep: every due label is folded before the next event is scored.

River's `iter_progressive_val_score` is the oracle. It is fed the rows as the contract types them; the loop gets them
as JSON through its topics. What was served (read from the predictions topic) and the quality that the fold keeps are
equal to River's to the last digit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from river import datasets, evaluate, linear_model, metrics, preprocessing, tree
from river.datasets import synth
from tests.scenarios.harness import Scenario

from tailrace.domain.positions import position_of

Row = tuple[dict[str, float], bool]

DELAY = 7
AT_MS = 1_750_000_000_000
STEP_WITHIN_S = 20.0

MODELS: dict[str, tuple[str, Callable[[], Any]]] = {
    "regression": (
        "StandardScaler() | LogisticRegression()",
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    ),
    "adaptive-tree": (
        "HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1)",
        lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1),
    ),
}


def phishing() -> list[Row]:
    return typed(datasets.Phishing())


def drifting() -> list[Row]:
    return typed(chain.from_iterable(synth.SEA(variant=variant, seed=variant).take(500) for variant in (0, 3)))


def typed(rows: Any) -> list[Row]:
    return [({str(name): float(value) for name, value in sorted(x.items())}, bool(y)) for x, y in rows]


@dataclass(frozen=True)
class Answered:
    """What the loop served, in the order of the events, and the quality it came to."""

    predictions: list[dict[str, Any]]
    quality: dict[str, float]
    learned: int


async def in_lockstep(scenario: Scenario, rows: Sequence[Row]) -> Answered:
    """Send each event after the labels that are due were folded; reveal the labels that are left at the end."""
    process = await scenario.start()
    loop, user = scenario.loop_of(process), scenario.user

    async def reveal(number: int) -> None:
        await user.labels({"id": number, "at": AT_MS + number, "y": rows[number][1]}, partition=0)
        await reached(lambda: loop.models.live.champion.learned > number, f"label {number} is folded")

    async def scored(number: int) -> None:
        (join,) = loop.join.joins
        await reached(lambda: join.join.scored_next > position_of(number), f"event {number} is scored")

    for number, (x, _) in enumerate(rows):
        if number >= DELAY:
            await reveal(number - DELAY)
        await user.events({"id": number, "at": AT_MS + number, **x}, partition=0)
        await scored(number)
    for number in range(max(0, len(rows) - DELAY), len(rows)):
        await reveal(number)
    quality = {each.metric: each.value for each in loop.models.live.quality.figures() if each.window == "all"}
    return Answered(await user.predictions(), quality, loop.models.live.champion.learned)


async def reached(is_there: Callable[[], bool], what: str) -> None:
    """Wait in this process, turn by turn of its event loop."""
    clock = asyncio.get_running_loop().time
    end_s = clock() + STEP_WITHIN_S
    while not is_there():
        assert clock() < end_s, f"waited {STEP_WITHIN_S} s in vain until {what}"
        await asyncio.sleep(0)


def by_river(rows: Sequence[Row], model: Any, metric: Any) -> list[Any]:
    """Return River's predictions in the order of the rows; the metric is updated."""
    steps = evaluate.iter_progressive_val_score(
        rows, model, metric, moment=None, delay=DELAY, step=1, yield_predictions=True
    )
    return [step["Prediction"] for step in steps]


async def served_as_by_river(form: Any, folder: Any, rows: list[Row], model: str) -> None:
    text, build = MODELS[model]
    features = dict.fromkeys(rows[0][0], "number")
    scenario = await Scenario.make(
        form, folder, partitions=1, features=features, champion={"model": text, "compiled": "never"}
    )
    try:
        answered = await in_lockstep(scenario, rows)
    finally:
        await scenario.close()

    accuracy, by_proba = metrics.Accuracy(), metrics.LogLoss() + metrics.ROCAUC()
    classes = by_river(rows, build(), accuracy)
    probabilities = by_river(rows, build(), by_proba)
    assert [str(number) for number in range(len(rows))] == [each["event_id"] for each in answered.predictions]
    assert classes == [each["y_pred"] for each in answered.predictions]
    assert [answer.get(True, 0.0) if answer else None for answer in probabilities] == [
        each.get("proba") for each in answered.predictions
    ]
    log_loss, roc_auc = by_proba
    expected = {"accuracy": accuracy.get(), "log_loss": log_loss.get(), "roc_auc": roc_auc.get()}
    assert expected == {name: answered.quality[name] for name in expected}
    assert len(rows) == answered.learned


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("make_rows", [phishing, drifting], ids=lambda make: make.__name__)
async def test_the_loop_serves_and_judges_as_river_to_the_last_digit(
    embedded_form, tmp_path, monkeypatch, make_rows, model
):
    # One view of the file for user and process: what one appends, the other sees at once instead of at the next poll.
    view = embedded_form.open()
    monkeypatch.setattr(embedded_form, "open", lambda: view)
    monkeypatch.setattr("tailrace.main.process.open_log", lambda settings: view)

    await served_as_by_river(embedded_form, tmp_path, make_rows(), model)


async def test_the_loop_on_kafka_serves_and_judges_as_river_to_the_last_digit(kafka_form, tmp_path):
    await served_as_by_river(kafka_form, tmp_path, phishing()[:250], "regression")

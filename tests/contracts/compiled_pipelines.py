"""The pipelines that are compiled, beside River's own: the same rows, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.models.fused import FusedModel
from tailrace.domain.models.plans import Feature
from tailrace.domain.models.spec import ModelSpec

Floats = NDArray[np.float64]

SCALERS = ("", "StandardScaler() | ", "MinMaxScaler() | ")
HEADS = {
    "binary": (
        "LogisticRegression()",
        "LogisticRegression(optimizer=SGD(0.05), l2=0.001, intercept_lr=0.1, clip_gradient=0.5)",
        "LogisticRegression(l1=0.0005, intercept_init=0.5)",
        "LogisticRegression(optimizer=FTRLProximal(alpha=0.1, l1=0.1, l2=0.5))",
        "LogisticRegression(loss=Log(weight_pos=3.0, weight_neg=0.5))",
        "LogisticRegression(loss=Hinge(threshold=0.5))",
        "Perceptron(l2=0.0001)",
        "PAClassifier(C=0.1)",
        "PAClassifier(C=0.5, mode=2, learn_intercept=False)",
        "SoftmaxRegression()",
    ),
    "regression": (
        "LinearRegression()",
        "LinearRegression(optimizer=SGD(0.001), l1=0.0001)",
        "LinearRegression(optimizer=FTRLProximal())",
    ),
    "multiclass": (
        "SoftmaxRegression()",
        "SoftmaxRegression(optimizer=FTRLProximal(l1=0.01), l2=0.0001)",
        'SoftmaxRegression(loss=optim.losses.CrossEntropy(class_weight={"b": 2.0}))',
    ),
}
PIPELINES = tuple((task, f"{scaler}{head}") for task, heads in HEADS.items() for head in heads for scaler in SCALERS)
CLASSES = {"binary": (False, True), "regression": (), "multiclass": ("a", "b", "c")}


def spec_of(task: str, text: str) -> ModelSpec:
    def no_functions(name: str) -> Any:
        raise ImportError(name)

    return ModelSpec.load(task, text, no_functions, experimental="FTRL" in text)


def names_of(width: int) -> tuple[str, ...]:
    return tuple(f"f{place:02d}" for place in range(width))


def numbers(width: int) -> tuple[Feature, ...]:
    return tuple(Feature(name, float) for name in names_of(width))


def compiled(spec: ModelSpec, features: Sequence[Feature]) -> FusedModel:
    plan = spec.plan(features, CLASSES[spec.task])
    assert not isinstance(plan, str), plan
    return FusedModel(plan, spec.build())


def rows(task: str, count: int, width: int, seed: int = 1) -> tuple[Floats, Floats]:
    """Features of several sizes, one of them constant and one of two values, and targets that lean on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width)) * np.geomspace(0.1, 2.0, width)
    x[:, 0] = 1.5
    x[:, 1] = rng.random(count) < 0.3
    raw = x @ rng.normal(size=width) * 0.5 + rng.normal(size=count) * 0.3
    if task == "regression":
        return x, raw
    return x, np.digitize(raw, [-0.5, 0.5] if task == "multiclass" else [0.0]).astype(np.float64)


@dataclass
class Apart:
    """The greatest difference of anything that was compared, relative to the greater of both and at least to 1."""

    most: float = 0.0

    def note(self, one: float, other: float) -> None:
        self.most = max(self.most, abs(one - other) / max(1.0, abs(one), abs(other)))


class Lockstep:
    """River and a compiled model on the same rows: each block is answered, then learned."""

    def __init__(self, task: str, text: str, features: Sequence[Feature]) -> None:
        self.spec = spec_of(task, text)
        self.river = self.spec.build()
        self.model = compiled(self.spec, features)
        self.apart = Apart()
        self._names = [feature.name for feature in features]
        self._classes = CLASSES[task]

    def block(self, x: Floats, y: Floats, answered: int) -> None:
        """Answer the first rows of a block of numbers, then learn all of it."""
        self.learn(self.named(x), y.tolist(), answered)

    def learn(self, rows: Sequence[dict[str, Any]], ys: Sequence[float], answered: int) -> None:
        """Answer the first rows, then learn all of them."""
        self.ask(rows[:answered])
        self.model.learn_many(self.model.matrix_of(rows), np.array(ys))
        for features, target in zip(rows, ys, strict=True):
            self.river.learn_one(features, self._classes[int(target)] if self._classes else target)

    def ask(self, rows: Sequence[dict[str, Any]]) -> None:
        """Ask both, and River's object that the compiled model stands for."""
        exported, answers = self.model.to_river(), self.model.answer_many(self.model.matrix_of(rows))
        for row, features in enumerate(rows):
            for name, ours in self._ours(answers, row):
                for model in (self.river, exported):
                    self.apart.note(ours, self._rivers(model, features, name))

    def named(self, x: Floats) -> list[dict[str, float]]:
        return [dict(zip(self._names, row, strict=True)) for row in x.tolist()]

    def weights(self) -> None:
        """Compare what both have learned."""
        ours, theirs = dict(_numbers(self.model.to_river())), dict(_numbers(self.river))
        for name in ours.keys() | theirs.keys():
            self.apart.note(ours.get(name, 0.0), theirs.get(name, 0.0))

    def _ours(self, answers: Any, row: int) -> list[tuple[Any, float]]:
        if self.spec.task == "regression":
            return [(None, answers.y_pred[row].item())]
        columns = (True,) if self.spec.task == "binary" else self._classes
        proba = answers.proba[row].tolist()
        return [(name, p) for name, p in zip(columns, proba, strict=True) if not isnan(p)]

    def _rivers(self, model: Any, features: dict[str, float], name: Any) -> float:
        return float(model.predict_one(features) if name is None else model.predict_proba_one(features)[name])


def _numbers(model: Any) -> Iterator[tuple[str, float]]:
    """Yield every number that a pipeline has learned, by a name."""
    head = model
    if hasattr(model, "steps"):
        *before, head = model.steps.values()
        for step in before:
            yield from _numbers_of_step(step)
    yield "intercept", float(getattr(head, "intercept", 0.0))
    for name, weight in head.weights.items():
        if isinstance(weight, dict):
            yield from ((f"weight {name} {feature}", number) for feature, number in weight.items())
        else:
            yield f"weight {name}", weight
    optimizers = getattr(head, "optimizers", {"": getattr(head, "optimizer", None)})
    for label, optimizer in optimizers.items():
        yield f"steps {label}", getattr(optimizer, "n_iterations", 0)
        for kind in ("z", "n"):
            yield from ((f"{kind} {label} {name}", number) for name, number in getattr(optimizer, kind, {}).items())
    if getattr(head, "l1", 0.0):
        yield "greatest penalty", head.max_cum_l1
        yield from ((f"penalty {name}", number) for name, number in head.cum_l1.to_dict().items())


def _numbers_of_step(step: Any) -> Iterator[tuple[str, float]]:
    for inner in (*getattr(step, "steps", {}).values(), *getattr(step, "transformers", {}).values()):
        yield from _numbers_of_step(inner)
    for kind in ("counts", "means", "vars"):
        yield from ((f"{kind} {name}", number) for name, number in vars(step).get(kind, {}).items())
    for kind in ("min", "max"):
        yield from ((f"{kind} {name}", extreme.get()) for name, extreme in vars(step).get(kind, {}).items())
    for name, values in vars(step).get("values", {}).items():
        yield from ((f"known {name} {value}", 1.0) for value in values)

"""Compiled pipelines: the linear ones that River most often runs, over matrices of numbers, a block at a time.

A `FusedModel` learns strictly example by example, in River's order, and comes to River's numbers up to rounding
(sums are added in another order), so a branch that is compiled is of another lineage than River's own. `to_river`
gives the River object that it stands for.

What River lets become infinite or no number is refused here, by the example that would do it: `Refused`.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from river import compose, preprocessing
from river.utils import VectorDict

from tailrace.domain.errors import CodecError
from tailrace.domain.models import kernels
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.plans import Column, Feature, Plan, columns_of

Floats: TypeAlias = NDArray[np.float64]


ABSENT: Final = -1
"""The number of a category that a row lacks."""


class Refused(ArithmeticError):
    """An example that cannot be learned: its numbers, or those that it would make of the model, are not finite.

    Attributes:
        learned: How many rows before it, of the same call, were learned.
    """

    def __init__(self, learned: int) -> None:
        super().__init__("the example has a number that is not finite, or makes one of the model's so")
        self.learned = learned


@dataclass(frozen=True, slots=True)
class Answers:
    """What was answered to n rows, as `blocks.Served` has it."""

    y_pred: Floats
    proba: Floats


class FusedModel:
    """One compiled pipeline.

    Attributes:
        plan: What it consists of.
        count: Examples that it has learned.
    """

    def __init__(self, plan: Plan, river: Any) -> None:
        """Begin with what a freshly built River model is.

        Args:
            river: The model that `plan` was made from; kept, never taught.
        """
        self.plan = plan
        self._river = river
        p, k = len(plan.columns), len(plan.classes)
        shape = (k, p) if plan.kind == "softmax" else (p,)
        self._columns = (
            np.array([column.source for column in plan.columns], np.int64),
            np.array([column.scaler for column in plan.columns], np.int64),
            np.array([column.code for column in plan.columns], np.float64),
        )
        ranges = self._columns[1] == kernels.MIN_MAX
        self._settings = np.array(plan.settings, np.float64)
        self._class_weights = np.array(plan.class_weights, np.float64)
        self._scaled = np.zeros(p)
        self._proba = np.zeros((1, k))
        self._state: dict[str, NDArray[Any]] = {
            "first": np.where(ranges, np.inf, 0.0),
            "second": np.where(ranges, -np.inf, 0.0),
            "met": np.zeros(p),
            "own": np.zeros(kernels.OWN),
            "weights": np.zeros(shape),
            "a": np.zeros(shape),
            "b": np.zeros(shape),
            "steps": np.zeros(k),
            "order": np.zeros(k, np.int64),
        }
        if plan.kind == "linear":
            self._state["own"][kernels.INTERCEPT] = _head_of(river).intercept

    @property
    def count(self) -> int:
        """Examples that it has learned."""
        return int(self._state["own"][kernels.COUNT])

    def learn_many(self, x: Floats, y: Floats) -> None:
        """Learn rows, one after the other.

        Args:
            x: n × features, as `FeatureContract.matrix` makes it.
            y: n targets, as `records.Label.y`.

        Raises:
            Refused: An example cannot be learned; the model is useless then.
        """
        matrix, targets = _matrix(x, len(self.plan.features)), np.array(y, np.float64)
        stop = self._usable(matrix, targets)
        learned = self._learn(matrix[:stop], targets[:stop])
        self._meet(matrix)
        if learned < len(targets):
            raise Refused(learned)

    def answer_many(self, x: Floats) -> Answers:
        """Answer rows.

        Returns:
            y_pred and proba; of a binary task the one column is the probability of True, of a regression there is none.
        """
        plan, state, matrix = self.plan, self._state, _matrix(x, len(self.plan.features))
        n = len(matrix)
        y_pred = np.empty(n)
        learned = state["first"], state["second"], state["own"], state["weights"]
        if plan.kind == "softmax":
            proba = np.empty((n, len(plan.classes)))
            given = *self._columns, *learned, state["order"], self._scaled
            kernels.run(kernels.answer_softmax, matrix, *given, y_pred, proba)
            if plan.is_binary:  # a class that is not known yet has no probability
                proba = np.where(np.isnan(y_pred), np.nan, np.nan_to_num(proba[:, 1], nan=0.0)).reshape(n, 1)
            return Answers(y_pred, proba)
        proba = np.empty((n, int(plan.is_binary)))
        places = *self._columns, plan.is_binary, *learned, self._scaled
        kernels.run(kernels.answer_linear, matrix, *places, y_pred, proba)
        return Answers(y_pred, proba)

    def matrix_of(self, rows: Sequence[Mapping[str, Any]]) -> Floats:
        """Return rows of features as a matrix; a category that a row lacks has no value there.

        Raises:
            KeyError: A row lacks a number.
        """
        features = self.plan.features
        numbers = [[_number(feature, row) for feature in features] for row in rows]
        return np.array(numbers, np.float64).reshape(len(rows), len(features))

    def learn_one(self, x: Mapping[str, Any], y: Any) -> None:
        """Learn one example as River's models take it.

        Raises:
            Refused: See `learn_many`.
            ValueError: The class is none of the task's.
        """
        target = self.plan.classes.index(y) if self.plan.kind == "softmax" else float(y)
        self.learn_many(self.matrix_of([x]), np.array([target], np.float64))

    def warm(self) -> None:
        """Compile what this model runs, by letting a copy of it learn and answer one row."""
        fresh = FusedModel(self.plan, self._river)
        row = np.zeros((1, len(self.plan.features)))
        fresh.learn_many(row, np.zeros(1))
        fresh.answer_many(row)

    # States

    def dump(self) -> dict[str, Any]:
        """Return what it has learned, for the codec; the arrays are the live ones."""
        return dict(self._state)

    def load(self, plain: Any) -> None:
        """Take on a state that `dump` gave.

        Raises:
            CodecError: It is none of a model of this plan.
        """
        state = self._state
        fits = isinstance(plain, dict) and plain.keys() == state.keys()
        if not fits or any(not _is_like(plain[name], state[name]) for name in state) or not _is_sound(plain):
            raise CodecError("the state of a compiled model does not fit its pipeline; use another snapshot")
        self._state = {name: np.array(plain[name]) for name in state}

    # River

    def to_river(self) -> Any:
        """Return the River model that this one stands for: it goes on where this one is."""
        model = copy.deepcopy(self._river)
        if not self.count:
            return model
        columns_of(model, self.plan.features, self._give_step)
        head, plan, state = _head_of(model), self.plan, self._state
        if plan.kind == "softmax":
            self._give_softmax(head)
            return model
        weights = self._named(state["weights"])
        head.intercept = float(state["own"][kernels.INTERCEPT])
        if plan.kind == "passive-aggressive":
            head.weights.update(weights)
            return model
        head._weights = VectorDict(weights)  # noqa: SLF001 - River has no public way
        head.optimizer.n_iterations = self.count
        if plan.optimizer == kernels.FTRL:
            head.optimizer.z.update(self._named(state["a"]))
            head.optimizer.n.update(self._named(state["b"]))
        elif head.l1:
            head.max_cum_l1 = float(state["own"][kernels.MOST_L1])
            for name, cumulated in self._named(state["a"]).items():
                head.cum_l1[name] = cumulated
        return model

    # Inside

    def _usable(self, x: Floats, y: Floats) -> int:
        """Return how many rows stand before the first that has no finite number or no class."""
        good = np.isfinite(x).all(axis=1) & np.isfinite(y)
        if self.plan.kind == "softmax":
            good &= (y >= 0) & (y < len(self.plan.classes))
        return len(y) if good.all() else int(np.argmin(good))

    def _learn(self, x: Floats, y: Floats) -> int:
        plan, state, settings = self.plan, self._state, self._settings
        learner = state["first"], state["second"], state["own"], state["weights"]
        sums = state["a"], state["b"]
        kernel: Callable[..., int]
        given: tuple[Any, ...]
        if plan.kind == "passive-aggressive":
            kernel, given = kernels.learn_passive_aggressive, (plan.mode, settings, *learner, self._scaled)
        elif plan.kind == "linear":
            kernel, given = kernels.learn_linear, (plan.loss, plan.optimizer, settings, *learner, *sums, self._scaled)
        else:
            classes = state["steps"], state["order"], self._scaled, self._proba
            kernel = kernels.learn_softmax
            given = plan.optimizer, settings, self._class_weights, *learner, *sums, *classes
        return int(kernels.run(kernel, x, y, *self._columns, *given))

    def _meet(self, x: Floats) -> None:
        """Note which values of categories were there: River has columns for those alone."""
        source, scalers, codes = self._columns
        for place in np.flatnonzero((scalers == kernels.ONE_HOT) & (self._state["met"] == 0.0)).tolist():
            self._state["met"][place] = float((x[:, source[place]] == codes[place]).any())

    def _named(self, row: NDArray[Any]) -> dict[str, float]:
        """Return the numbers of the columns that River has by now, by its names for them."""
        columns = zip(self.plan.columns, row.tolist(), self._state["met"].tolist(), strict=True)
        return {column.name: number for column, number, met in columns if met or column.scaler != kernels.ONE_HOT}

    def _give_step(self, step: Any, columns: Sequence[Column]) -> None:
        first, second = self._named(self._state["first"]), self._named(self._state["second"])
        names = [column.name for column in columns if column.name in first]
        if type(step) is preprocessing.StandardScaler:
            step.counts.update(dict.fromkeys(names, self.count))
            step.means.update((name, first[name]) for name in names)
            step.vars.update((name, second[name]) for name in names)
        elif type(step) is preprocessing.MinMaxScaler:
            for name in names:
                step.min[name].min, step.max[name].max = first[name], second[name]
        else:
            for column in columns:
                if column.name in first:
                    feature = self.plan.features[column.source]
                    step.values[feature.name].add(feature.values[column.code])
                    step._zero_dict[column.name] = 0  # noqa: SLF001 - as its `learn_one` does

    def _give_softmax(self, head: Any) -> None:
        state = self._state
        for label in state["order"][: int(state["own"][kernels.KNOWN])].tolist():
            name = self.plan.classes[label]
            head.weights[name] = defaultdict(float, self._named(state["weights"][label]))
            optimizer = head.optimizers[name]
            optimizer.n_iterations = int(state["steps"][label])
            if self.plan.optimizer == kernels.FTRL:
                optimizer.z.update(self._named(state["a"][label]))
                optimizer.n.update(self._named(state["b"][label]))


class FusedCodec:
    """Encodes compiled models, and branches that hold one, by the codec of states.

    Only what was learned is written; the pipeline itself comes from the branch's definition.
    """

    def __init__(self, build: Callable[[], FusedModel]) -> None:
        self._build = build
        self._codec = StateCodec([])

    def encode(self, state: Any) -> bytes:
        """Return canonical bytes of a model, or of a branch's plain form with the model in it.

        Raises:
            CodecError: See `StateCodec.encode`.
        """
        plain = state.dump() if isinstance(state, FusedModel) else {**state, "model": state["model"].dump()}
        return self._codec.encode(plain)

    def decode(self, body: bytes) -> Any:
        """Return the branch's plain form that encodes to exactly `body`.

        Raises:
            CodecError: The bytes are not what `encode` writes of a branch whose model is of this pipeline.
        """
        plain = self._codec.decode(body)
        if not isinstance(plain, dict) or "model" not in plain:
            raise CodecError("the bytes are not a branch with a compiled model; use another snapshot")
        model = self._build()
        model.load(plain["model"])
        return {**plain, "model": model}


def as_river(model: Any) -> Any:
    """Return a model as River has it."""
    return model.to_river() if isinstance(model, FusedModel) else model


def _head_of(model: Any) -> Any:
    return list(model.steps.values())[-1] if type(model) is compose.Pipeline else model


def _number(feature: Feature, row: Mapping[str, Any]) -> float:
    if feature.type is not str:
        return float(row[feature.name])
    value = row.get(feature.name)
    return feature.values.index(value) if value in feature.values else ABSENT


def _matrix(x: Floats, width: int) -> Floats:
    """Return an array of one's own, of the one layout that kernels are compiled for."""
    made = np.array(x, np.float64, order="C")
    assert made.ndim == 2
    assert made.shape[1] == width, "the contract checks the shape of its columns"
    return made


def _is_like(one: Any, other: NDArray[Any]) -> bool:
    return isinstance(one, np.ndarray) and one.dtype == other.dtype and one.shape == other.shape


def _is_sound(plain: Mapping[str, NDArray[Any]]) -> bool:
    """Tell whether no kernel would leave its arrays: compiled code does not look."""
    if not 0 <= plain["own"][kernels.COUNT] < np.inf:
        return False
    known, order = plain["own"][kernels.KNOWN], plain["order"]
    in_bounds = bool(((order >= 0) & (order < max(1, len(order)))).all())
    is_whole = known == np.floor(known) and 0 <= known <= len(order)
    met = set(order[: int(known)].tolist()) if is_whole else set()
    return bool(in_bounds and is_whole and len(met) == known and met == set(np.flatnonzero(plain["steps"]).tolist()))

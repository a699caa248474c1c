"""Which of River's pipelines can be compiled: what stands in their constructors, as the numbers that kernels take.

A pipeline fits when it makes columns of the features, each by itself (selected, scaled, one-hot encoded), and ends in
one linear model. Whatever else stays River's, and `plan_of` says in one sentence why.

River gives a category a column once it has met it; here every value of the contract has one from the start. That comes
to the same numbers: a column that has always been 0 moves no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from river import compose, linear_model, optim, preprocessing

from tailrace.domain.models import kernels

Kind: TypeAlias = Literal["linear", "passive-aggressive", "softmax"]

_SCALERS: Final[Mapping[type, int]] = {
    preprocessing.StandardScaler: kernels.STANDARD,
    preprocessing.MinMaxScaler: kernels.MIN_MAX,
}
_GLMS: Final = (linear_model.LogisticRegression, linear_model.LinearRegression, linear_model.Perceptron)
_LOSSES: Final[Mapping[type, int]] = {
    optim.losses.Log: kernels.LOG,
    optim.losses.Squared: kernels.SQUARED,
    optim.losses.Hinge: kernels.HINGE,
}
_WHAT_FITS: Final = (
    "compiled are SelectType, StandardScaler, MinMaxScaler and OneHotEncoder, before LogisticRegression, "
    "LinearRegression, Perceptron, PAClassifier or SoftmaxRegression"
)


MOST_COLUMNS: Final = 1_000
"""Of one compiled model."""


class Feature(NamedTuple):
    """One feature of a contract.

    Attributes:
        type: As models see its values: float, int, bool or str.
        values: Of a category: all that it can be, by their numbers.
    """

    name: str
    type: type
    values: tuple[str, ...] = ()


class Column(NamedTuple):
    """One input of the linear model.

    Attributes:
        name: As River names it.
        source: Number of the feature.
        scaler: How it is made of the feature, by the numbers of `kernels`.
        code: Of a one-hot column: the number of its value; else -1.
    """

    name: str
    source: int
    scaler: int = kernels.NO_SCALER
    code: int = -1


Visit: TypeAlias = Callable[[Any, Sequence[Column]], None]
"""Told a scaler or an encoder, and the columns that come out of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline that can be compiled consists of; its numbers are those of `kernels`.

    Attributes:
        features: In the order of the matrix.
        columns: In the order of River's.
        classes: Softmax: the classes in the order of their indexes; the two of a binary task are False and True.
        is_binary: The model answers with the probability of True; of softmax: the task is binary.
        mode: Of a passive-aggressive classifier.
        settings: As kernels take them.
        class_weights: Softmax: of the loss, one for each class.
    """

    kind: Kind
    features: tuple[Feature, ...]
    columns: tuple[Column, ...]
    classes: tuple[Any, ...]
    is_binary: bool
    loss: int
    optimizer: int
    mode: int
    settings: tuple[float, ...]
    class_weights: tuple[float, ...]


class _Misfit(Exception):
    """A pipeline stays River's; the message is the reason."""


def plan_of(model: Any, features: Sequence[Feature], classes: Sequence[Any]) -> Plan | str:
    """Return how a freshly built model is compiled, or in one sentence why it is not.

    Args:
        model: Only read.
        features: In their order.
        classes: Every target that a classifier may see; () of a regression.
    """
    try:
        return _plan(model, tuple(features), tuple(classes))
    except _Misfit as misfit:
        return str(misfit)


def columns_of(model: Any, features: Sequence[Feature], visit: Visit) -> tuple[Column, ...]:
    """Return the columns that the steps before the last one make, and show each scaler and encoder to `visit`."""
    columns = tuple(Column(feature.name, number) for number, feature in enumerate(features))
    for step in _steps_of(model)[:-1]:
        columns = _after(step, columns, features, visit)
    return columns


def _plan(model: Any, features: tuple[Feature, ...], classes: tuple[Any, ...]) -> Plan:
    head = _steps_of(model)[-1]
    columns, kind = columns_of(model, features, lambda _step, _columns: None), type(head)
    texts = [column.name for column in columns if features[column.source].type is str and column.code < 0]
    if texts:
        raise _Misfit(f"the feature {texts[0]} is a text to the model; put OneHotEncoder() before it, or leave it out")
    if not 0 < len(columns) <= MOST_COLUMNS or len({column.name for column in columns}) < len(columns):
        raise _Misfit(f"{len(columns)} columns are not compiled: 1 to {MOST_COLUMNS} are, each with a name of its own")
    if kind in _GLMS:
        return _linear(head, features, columns, is_binary=kind is not linear_model.LinearRegression)
    if kind is linear_model.PAClassifier:
        return _passive_aggressive(head, features, columns)
    if kind is linear_model.SoftmaxRegression:
        return _softmax(head, features, columns, classes)
    raise _Misfit(f"{kind.__name__} is not compiled: {_WHAT_FITS}")


def _steps_of(model: Any) -> list[Any]:
    return list(model.steps.values()) if type(model) is compose.Pipeline else [model]


def _after(step: Any, columns: tuple[Column, ...], features: Sequence[Feature], visit: Visit) -> tuple[Column, ...]:
    """Return the columns that come out of a step."""
    kind = type(step)
    if kind is compose.Pipeline:
        for inner in _steps_of(step):
            columns = _after(inner, columns, features, visit)
        return columns
    if kind is compose.TransformerUnion:
        # As River puts them together: the last of them comes first.
        parts = [_after(part, columns, features, visit) for part in reversed(step.transformers.values())]
        return tuple(column for part in parts for column in part)
    if kind is compose.SelectType:
        return tuple(column for column in columns if issubclass(features[column.source].type, step.types))
    if kind is preprocessing.OneHotEncoder:
        made = _encoded(step, columns, features)
    else:
        made = _scaled(step, columns, features)
    visit(step, made)
    return made


def _encoded(step: Any, columns: tuple[Column, ...], features: Sequence[Feature]) -> tuple[Column, ...]:
    if step.categories is not None or step.drop_zeros or step.drop_first:
        raise _Misfit("OneHotEncoder is compiled without arguments only")
    made = []
    for column in columns:
        values = features[column.source].values
        if not values or column.code >= 0:
            raise _Misfit(f"OneHotEncoder is compiled over categories with a list only, and {column.name} is none")
        named = [f"{column.name}_{value}" for value in values]
        made += [Column(name, column.source, kernels.ONE_HOT, code) for code, name in enumerate(named)]
    return tuple(made)


def _scaled(step: Any, columns: tuple[Column, ...], features: Sequence[Feature]) -> tuple[Column, ...]:
    kind = type(step)
    if kind not in _SCALERS:
        raise _Misfit(f"{kind.__name__} is not compiled: {_WHAT_FITS}")
    if step.window_size is not None or not getattr(step, "with_std", True):
        raise _Misfit(f"{kind.__name__} is compiled without arguments only")
    for column in columns:
        if features[column.source].type is str or column.scaler != kernels.NO_SCALER:
            raise _Misfit(f"{kind.__name__} is compiled over numbers as they come only, and {column.name} is none")
    return tuple(column._replace(scaler=_SCALERS[kind]) for column in columns)


def _linear(head: Any, features: tuple[Feature, ...], columns: tuple[Column, ...], *, is_binary: bool) -> Plan:
    loss, settings = head.loss, [0.0] * kernels.SETTINGS
    if type(loss) not in _LOSSES or (type(loss) is optim.losses.Squared) is is_binary:
        raise _Misfit(f"the loss {type(loss).__name__} is not compiled: Log and Hinge are, Squared of a regression")
    if type(head.initializer) is not optim.initializers.Zeros:
        raise _Misfit("weights that begin elsewhere than at zero are not compiled")
    optimizer = _optimizer(head.optimizer, settings)
    if head.l1 and optimizer == kernels.FTRL:
        raise _Misfit("l1 beside FTRL is not compiled; FTRL(l1=…) is")
    settings[kernels.INTERCEPT_RATE] = _rate(head.intercept_lr)
    settings[kernels.L1], settings[kernels.L2] = head.l1, head.l2
    settings[kernels.CLIP] = head.clip_gradient
    settings[kernels.WEIGHT_POS] = getattr(loss, "weight_pos", 1.0)
    settings[kernels.WEIGHT_NEG] = getattr(loss, "weight_neg", 1.0)
    settings[kernels.THRESHOLD] = getattr(loss, "threshold", 0.0)
    _finite([head.intercept_init])
    numbers = _finite(settings)
    return Plan("linear", features, columns, (), is_binary, _LOSSES[type(loss)], optimizer, 0, numbers, ())


def _passive_aggressive(head: Any, features: tuple[Feature, ...], columns: tuple[Column, ...]) -> Plan:
    if head.mode == 0:
        raise _Misfit("PAClassifier with mode=0 is not compiled; modes 1 and 2 are")
    if not head.C > 0:
        raise _Misfit("PAClassifier is compiled with C above 0 only")
    settings = [0.0] * kernels.SETTINGS
    settings[kernels.C] = head.C
    settings[kernels.INTERCEPT_RATE] = 1.0 if head.learn_intercept else 0.0
    return Plan("passive-aggressive", features, columns, (), True, 0, 0, head.mode, _finite(settings), ())


def _softmax(head: Any, features: tuple[Feature, ...], columns: tuple[Column, ...], classes: tuple[Any, ...]) -> Plan:
    if type(head.loss) is not optim.losses.CrossEntropy:
        raise _Misfit(f"the loss {type(head.loss).__name__} is not compiled: CrossEntropy is")
    settings = [0.0] * kernels.SETTINGS
    optimizer = _optimizer(head.optimizer, settings)
    settings[kernels.L2] = head.l2
    weights = _finite([head.loss.class_weight.get(name, 1.0) for name in classes])
    is_binary = set(map(type, classes)) == {bool}
    return Plan("softmax", features, columns, classes, is_binary, 0, optimizer, 0, _finite(settings), weights)


def _optimizer(optimizer: Any, settings: list[float]) -> int:
    """Write what an optimizer was given among the settings; return its number."""
    if type(optimizer) is optim.SGD:
        settings[kernels.RATE] = _rate(optimizer.lr)
        return kernels.SGD
    if type(optimizer) is optim.FTRLProximal:
        if not (optimizer.alpha > 0 and optimizer.beta > 0 and optimizer.l1 >= 0 and optimizer.l2 >= 0):
            raise _Misfit("FTRLProximal is compiled with alpha and beta above 0, and l1 and l2 of at least 0, only")
        settings[kernels.ALPHA], settings[kernels.BETA] = optimizer.alpha, optimizer.beta
        settings[kernels.FTRL_L1], settings[kernels.FTRL_L2] = optimizer.l1, optimizer.l2
        return kernels.FTRL
    raise _Misfit(f"the optimizer {type(optimizer).__name__} is not compiled: SGD and FTRLProximal are")


def _rate(schedule: Any) -> float:
    if type(schedule) is not optim.schedulers.Constant:
        raise _Misfit(f"the schedule {type(schedule).__name__} of a learning rate is not compiled: a number is")
    rate: float = schedule.learning_rate
    return rate


def _finite(numbers: Iterable[float]) -> tuple[float, ...]:
    found = tuple(map(float, numbers))
    if not all(map(isfinite, found)):
        raise _Misfit("a setting that is no finite number is not compiled")
    return found

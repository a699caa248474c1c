"""Which of River's pipelines can be compiled: what stands in their constructors, as the numbers that kernels take.

A pipeline fits when it is a scaler or none and then one linear model; that its features are a matrix of numbers is the
contract's business. Whatever else stays River's, and `plan_of` says in one sentence why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

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
    "compiled are StandardScaler, MinMaxScaler or no scaler, before LogisticRegression, LinearRegression, Perceptron, "
    "PAClassifier or SoftmaxRegression"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pipeline that can be compiled consists of; its numbers are those of `kernels`.

    Attributes:
        names: Of the features, in their order.
        classes: Softmax: the classes in the order of their indexes; the two of a binary task are False and True.
        is_binary: The model answers with the probability of True; of softmax: the task is binary.
        mode: Of a passive-aggressive classifier.
        settings: As kernels take them.
        class_weights: Softmax: of the loss, one for each class.
    """

    kind: Kind
    names: tuple[str, ...]
    classes: tuple[Any, ...]
    is_binary: bool
    scaler: int
    loss: int
    optimizer: int
    mode: int
    settings: tuple[float, ...]
    class_weights: tuple[float, ...]


class _Misfit(Exception):
    """A pipeline stays River's; the message is the reason."""


def plan_of(model: Any, names: Sequence[str], classes: Sequence[Any]) -> Plan | str:
    """Return how a freshly built model is compiled, or in one sentence why it is not.

    Args:
        model: Only read.
        names: Of the features, in their order.
        classes: Every target that a classifier may see; () of a regression.
    """
    try:
        return _plan(model, tuple(names), tuple(classes))
    except _Misfit as misfit:
        return str(misfit)


def _plan(model: Any, names: tuple[str, ...], classes: tuple[Any, ...]) -> Plan:
    step, head = _steps(model)
    scaler, kind = _scaler(step), type(head)
    if kind in _GLMS:
        return _linear(head, scaler, names, is_binary=kind is not linear_model.LinearRegression)
    if kind is linear_model.PAClassifier:
        return _passive_aggressive(head, scaler, names)
    if kind is linear_model.SoftmaxRegression:
        return _softmax(head, scaler, names, classes)
    raise _Misfit(f"{kind.__name__} is not compiled: {_WHAT_FITS}")


def _steps(model: Any) -> tuple[Any, Any]:
    if type(model) is not compose.Pipeline:
        return None, model
    *before, head = model.steps.values()
    if len(before) > 1:
        raise _Misfit(f"{len(before)} steps before the model are not compiled: {_WHAT_FITS}")
    return (before[0] if before else None), head


def _scaler(scaler: Any) -> int:
    if scaler is None:
        return kernels.NO_SCALER
    kind = type(scaler)
    if kind not in _SCALERS:
        raise _Misfit(f"{kind.__name__} is not compiled: {_WHAT_FITS}")
    if scaler.window_size is not None or not getattr(scaler, "with_std", True):
        raise _Misfit(f"{kind.__name__} is compiled without arguments only")
    return _SCALERS[kind]


def _linear(head: Any, scaler: int, names: tuple[str, ...], *, is_binary: bool) -> Plan:
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
    return Plan("linear", names, (), is_binary, scaler, _LOSSES[type(loss)], optimizer, 0, numbers, ())


def _passive_aggressive(head: Any, scaler: int, names: tuple[str, ...]) -> Plan:
    if head.mode == 0:
        raise _Misfit("PAClassifier with mode=0 is not compiled; modes 1 and 2 are")
    if not head.C > 0:
        raise _Misfit("PAClassifier is compiled with C above 0 only")
    settings = [0.0] * kernels.SETTINGS
    settings[kernels.C] = head.C
    settings[kernels.INTERCEPT_RATE] = 1.0 if head.learn_intercept else 0.0
    return Plan("passive-aggressive", names, (), True, scaler, 0, 0, head.mode, _finite(settings), ())


def _softmax(head: Any, scaler: int, names: tuple[str, ...], classes: tuple[Any, ...]) -> Plan:
    if type(head.loss) is not optim.losses.CrossEntropy:
        raise _Misfit(f"the loss {type(head.loss).__name__} is not compiled: CrossEntropy is")
    settings = [0.0] * kernels.SETTINGS
    optimizer = _optimizer(head.optimizer, settings)
    settings[kernels.L2] = head.l2
    weights = _finite([head.loss.class_weight.get(name, 1.0) for name in classes])
    is_binary = set(map(type, classes)) == {bool}
    return Plan("softmax", names, classes, is_binary, scaler, 0, optimizer, 0, _finite(settings), weights)


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

"""Which models of a loop are compiled, and what folds their branches."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from tailrace.domain.branches import Branch, Kit
from tailrace.domain.models.fused import FusedCodec, FusedModel
from tailrace.domain.models.plans import Feature, Plan
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.records import Task
from tailrace.settings import LoopSettings

_TYPES: Final = {"number": float, "integer": int, "boolean": bool, "category": str, "text": str}
"""Type of a feature → that of its values."""


def why_not_compiled(spec: ModelSpec, settings: LoopSettings) -> str:
    """Return in one sentence why River's own code runs the configured model; "" where it is compiled."""
    if settings.champion.compiled == "never":
        return 'the setting compiled is "never"'
    plan = _plan(spec, settings)
    if isinstance(plan, str):
        return plan
    return "" if find_spec("numba") else "the package numba is not installed; pip install tailrace[fast]"


def compiled_kit(branch: Branch, spec: ModelSpec, settings: LoopSettings) -> Kit | None:
    """Return what folds a compiled branch; None where its model is none that is compiled.

    A process without numba folds it with the same kernels in plain Python, slowly and to the same bits.
    """
    plan = _plan(spec, settings)
    if isinstance(plan, str):
        return None

    def build() -> FusedModel:
        return FusedModel(plan, spec.build())

    return Kit(branch, build, FusedCodec(build))


def _plan(spec: ModelSpec, settings: LoopSettings) -> Plan | str:
    contract, target = settings.contract, settings.target
    count = 0 if target.task.answers_numbers else 2 if target.task is Task.BINARY else len(target.classes)
    classes = [target.river(float(index)) for index in range(count)]
    features = [
        Feature(each.name, _TYPES[each.type], tuple(contract.codes.get(each.name, ()))) for each in contract.features
    ]
    return contract.why_no_matrix or spec.plan(features, classes)

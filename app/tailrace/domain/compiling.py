"""What folds a compiled branch: a plan of its model over the columns of the contract, kernels, and their codec."""

from __future__ import annotations

from typing import Final

from tailrace.domain.branches import Branch, Kit
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.models.fused import FusedCodec, FusedModel
from tailrace.domain.models.plans import Feature, Plan
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.records import Task

_TYPES: Final = {"number": float, "integer": int, "boolean": bool, "category": str, "text": str}
"""Type of a feature → that of its values."""


def plan_over(spec: ModelSpec, contract: FeatureContract, target: TargetContract) -> Plan | str:
    """Return how a model is compiled for a contract, or in one sentence why it is not."""
    count = 0 if target.task.answers_numbers else 2 if target.task is Task.BINARY else len(target.classes)
    classes = [target.river(float(index)) for index in range(count)]
    features = [
        Feature(each.name, _TYPES[each.type], tuple(contract.codes.get(each.name, ()))) for each in contract.features
    ]
    return contract.why_no_matrix or spec.plan(features, classes)


def compiled_kit(branch: Branch, spec: ModelSpec, contract: FeatureContract, target: TargetContract) -> Kit | None:
    """Return what folds a compiled branch; None where its model is none that is compiled.

    A process without numba folds it with the same kernels in plain Python, to the same bits, about as fast as
    River's code.
    """
    plan = plan_over(spec, contract, target)
    if isinstance(plan, str):
        return None

    def build() -> FusedModel:
        return FusedModel(plan, spec.build())

    return Kit(branch, build, FusedCodec(build), lambda: build().warm())

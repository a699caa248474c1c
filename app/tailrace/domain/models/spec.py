"""What makes two models the same model, and two folds the same fold.

A `ModelSpec` is a task and a model's canonical text. A *lineage* is the hash of everything that must be equal for two
folds of one log to be equal. That of a branch stands for the spec, the contract, where the fold starts, what it leaves
out, the versions of our fold and codec and of the libraries whose arithmetic it uses; that of the loop's own part for
the contract and the versions. States of different lineages are never compared.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import river
import scipy  # type: ignore[import-untyped]

from tailrace.domain.branches import COMPILED, Branch, Filter
from tailrace.domain.errors import ExpressionError
from tailrace.domain.models.catalog import family_of, misfits, samples_of, supported, uses_blas
from tailrace.domain.models.codec import CODEC_VERSION, StateCodec
from tailrace.domain.models.expression import BuildFunction, Recipe, load
from tailrace.domain.models.kernels import KERNELS_VERSION
from tailrace.domain.models.plans import Feature, Plan, plan_of
from tailrace.domain.models.repairs import apply_repairs
from tailrace.domain.positions import Position

FOLD_VERSION: Final = 2
"""Raised whenever the fold of the same records would give another state."""

PYTHON_MINOR: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model that a loop may run. Equal specs make equal models.

    Attributes:
        task: "binary", "multiclass", "regression" or "anomaly".
        model: Canonical text of an expression, or `module:function`.
        experimental: The model may hold classes that are not on the support list.
    """

    task: str
    model: str
    experimental: bool
    _recipe: Recipe = field(compare=False, repr=False)

    @classmethod
    def load(cls, task: str, text: str, build_function: BuildFunction, *, experimental: bool = False) -> ModelSpec:
        """Accept a model for a task, or refuse it.

        Args:
            task: "binary", "multiclass", "regression" or "anomaly".
            text: An expression, or `module:function`.
            build_function: Imports the function of a `module:function`; our caller's business.
            experimental: Accept classes that are not on the support list.

        Raises:
            ExpressionError: The text is no model, breaks a rule, does not fit the task or is not supported; every
                reason is in the message, each with what to use instead.
        """
        apply_repairs()
        recipe = load(text, build_function)
        model = recipe.build()
        problems = [*misfits(model, task), *([] if experimental else supported(model))]
        if problems:
            raise ExpressionError("; ".join(problems), 0)
        return cls(task, recipe.text, experimental, recipe)

    def build(self) -> Any:
        """Make a fresh model, each time a new one.

        Raises:
            ExpressionError: A `module:function` failed this time.
        """
        return self._recipe.build()

    def plan(self, features: Sequence[Feature], classes: Sequence[Any]) -> Plan | str:
        """Return how this model is compiled, or in one sentence why it is not.

        Args:
            features: In their order.
            classes: Every target as River's models take it; () of numbers.
        """
        return plan_of(self.build(), features, classes)

    def codec(self, beside: Sequence[object] = ()) -> StateCodec:
        """Return the codec for states of this model, or of this model and what stands `beside` it.

        Args:
            beside: Freshly built objects that are encoded together with the model.
        """
        model = self.build()
        return StateCodec([model, *beside, *samples_of(model)], family_of(model, experimental=self.experimental))

    def uses_blas(self) -> bool:
        """Tell whether the last digits of this model's numbers depend on the kind of processor."""
        return uses_blas(self.build())


def library_versions() -> dict[str, str]:
    """Return the versions that two folds must have in common to come to equal states."""
    return {
        "fold": str(FOLD_VERSION),
        "codec": str(CODEC_VERSION),
        "river": str(vars(river)["__version__"]),
        "numpy": np.__version__,
        "scipy": str(scipy.__version__),
        "python": PYTHON_MINOR,
    }


def branch_of(
    spec: ModelSpec,
    *,
    contract_id: str,
    cpu_class: str,
    start: Position = 0,
    drop: Filter | None = None,
    is_compiled: bool = False,
) -> Branch:
    """Return the branch that folds this model with the libraries of this process.

    Args:
        spec: The model that learns.
        contract_id: Of the feature contract and the targets.
        cpu_class: Kind of processor; counts only where the model's arithmetic depends on it.
        start: Position at which the fold starts.
        drop: Which examples it leaves out; None: none.
        is_compiled: Our kernels fold it instead of River.
    """
    versions = library_versions() | ({"cpu": cpu_class} if spec.uses_blas() else {})
    versions |= {COMPILED: KERNELS_VERSION} if is_compiled else {}
    return Branch(spec.task, spec.model, spec.experimental, contract_id, versions, start, drop or Filter())


def loop_lineage(contract_id: str) -> str:
    """Return what names everything besides the log that the loop's own part of a state depends on: 64 hex digits."""
    parts = {"contract": contract_id, "versions": library_versions()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

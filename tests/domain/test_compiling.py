"""Which models are compiled over which contracts."""

from __future__ import annotations

import pytest
from tests.contracts.compiled_pipelines import spec_of

from tailrace.domain.compiling import compiled_kit, plan_over
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.models.fused import FusedModel
from tailrace.domain.models.plans import Plan
from tailrace.domain.models.spec import branch_of
from tailrace.domain.records import Task

LINEAR = "StandardScaler() | LogisticRegression()"
NUMBERS = FeatureContract((FeatureSpec("b", "number"), FeatureSpec("a", "integer")))
WORDS = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("word", "text")))
COLOURS = FeatureContract((FeatureSpec("colour", "category", values=("red", "blue")),))
CLASSES = TargetContract(Task.MULTICLASS, classes=("x", "y", "z"))


@pytest.mark.parametrize(
    ("task", "text", "target", "classes"),
    [
        ("binary", LINEAR, TargetContract(Task.BINARY), ()),
        ("multiclass", "StandardScaler() | SoftmaxRegression()", CLASSES, ("x", "y", "z")),
        ("regression", "StandardScaler() | LinearRegression()", TargetContract(Task.REGRESSION), ()),
    ],
)
def test_a_plan_has_the_features_of_the_contract_and_the_classes_of_a_softmax(
    task: str, text: str, target: TargetContract, classes: tuple[object, ...]
):
    plan = plan_over(spec_of(task, text), NUMBERS, target)

    assert isinstance(plan, Plan)
    assert (["a", "b"], classes) == ([each.name for each in plan.features], tuple(plan.classes))


def test_a_category_brings_the_numbers_that_stand_for_its_values():
    plan = plan_over(spec_of("binary", "OneHotEncoder() | LogisticRegression()"), COLOURS, TargetContract(Task.BINARY))

    assert isinstance(plan, Plan)
    assert [("blue", "red")] == [each.values for each in plan.features]


def test_a_branch_is_folded_by_kernels_where_its_model_has_a_plan():
    spec, target = spec_of("binary", LINEAR), TargetContract(Task.BINARY)
    branch = branch_of(spec, contract_id=NUMBERS.id, cpu_class="any", is_compiled=True)

    kit = compiled_kit(branch, spec, NUMBERS, target)

    assert kit is not None
    assert (branch, FusedModel) == (kit.branch, type(kit.build_model()))
    assert compiled_kit(branch, spec, WORDS, target) is None

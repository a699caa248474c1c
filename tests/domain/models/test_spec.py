"""Specs and lineages: what is the same, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from river import linear_model
from tests.domain.models.parts import Mine

from tailrace.domain.branches import Filter
from tailrace.domain.errors import ExpressionError
from tailrace.domain.models import spec as spec_module
from tailrace.domain.models.spec import ModelSpec, branch_of, loop_lineage


def make_spec(text: str = "StandardScaler() | LogisticRegression()", **overrides: Any) -> ModelSpec:
    """Return the spec of a model; override what the test is about."""
    given: dict[str, Any] = {"task": "binary", "build_function": lambda _: Mine, "experimental": False} | overrides
    return ModelSpec.load(given["task"], text, given["build_function"], experimental=given["experimental"])


def make_lineage(spec: ModelSpec | None = None, **overrides: Any) -> str:
    """Return the lineage of a branch; override what the test is about."""
    given: dict[str, Any] = {"contract_id": "contract", "cpu_class": "x86_64 avx2"}
    return branch_of(spec or make_spec(), **(given | overrides)).lineage


def test_two_spellings_of_one_model_are_one_spec() -> None:
    assert make_spec("LogisticRegression(SGD(0.1))") == make_spec("LogisticRegression(optimizer=SGD(lr=.1))")


def test_task_and_model_and_experiment_tell_specs_apart() -> None:
    specs = [
        make_spec("GaussianNB()"),
        make_spec("BernoulliNB()"),
        make_spec("GaussianNB()", task="multiclass"),
        make_spec("GaussianNB()", experimental=True),
    ]

    assert 4 == len({(each.task, each.model, each.experimental) for each in specs})
    assert specs[0] != specs[2]


def test_every_reason_is_given_at_once() -> None:
    with pytest.raises(ExpressionError, match=r"task is binary.*RobustScaler is not on"):
        make_spec("RobustScaler() | LinearRegression()")


def test_an_experimental_model_is_accepted_when_it_was_asked_for() -> None:
    spec = make_spec("ARFClassifier(seed=1, n_models=2)", experimental=True)
    model = spec.build()
    for number in range(60):
        model.learn_one({"f": number % 7}, number % 2 == 0)
    codec = spec.codec()

    assert codec.encode(model) == codec.encode(codec.decode(codec.encode(model)))


def test_a_users_own_function_is_experimental() -> None:
    with pytest.raises(ExpressionError, match="Mine is not on the support list"):
        make_spec("my_models:build")

    assert isinstance(make_spec("my_models:build", experimental=True).build(), linear_model.LogisticRegression)


def test_a_codec_takes_what_stands_beside_the_model() -> None:
    spec = make_spec()
    codec = spec.codec(["loop"])

    assert "loop" == codec.decode(codec.encode((spec.build(), "loop")))[1]


@pytest.mark.parametrize(
    "change",
    [
        {"contract_id": "other"},
        {"start": 1},
        {"drop": Filter(sources=("crowd",))},
        {"spec": make_spec("LogisticRegression()")},
        {"spec": make_spec(experimental=True)},
    ],
)
def test_whatever_a_branch_depends_on_changes_its_lineage(change: dict[str, Any]) -> None:
    assert 64 == len(make_lineage())
    assert make_lineage() != make_lineage(**change)


@pytest.mark.parametrize("version", ["FOLD_VERSION", "CODEC_VERSION", "PYTHON_MINOR"])
def test_another_version_is_another_lineage(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_lineage(), loop_lineage("contract")

    monkeypatch.setattr(spec_module, version, 99)

    assert before[0] != make_lineage()
    assert before[1] != loop_lineage("contract")


def test_the_lineage_of_a_loop_depends_on_its_contract() -> None:
    assert loop_lineage("contract") == loop_lineage("contract")
    assert loop_lineage("contract") != loop_lineage("other")


def test_the_processor_counts_only_where_the_model_multiplies_matrices() -> None:
    plain, matrices = make_spec(), make_spec("BayesianLinearRegression()", task="regression", experimental=True)

    assert make_lineage(plain) == make_lineage(plain, cpu_class="aarch64")
    assert make_lineage(matrices) != make_lineage(matrices, cpu_class="aarch64")

"""Measures what one encoding of each family of models costs, and writes benchmarks/models.json.

    python -m benchmarks.models                       # all of them
    python -m benchmarks.models "half-space trees"    # these families; the other rows stay as they are

Examples are made up (`tailrace.inspection.encode_cost`): ten numbers, and five categories where a model takes them.
docs/models.md shows the figures; run tests/house/generate_docs.py after this.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import orjson

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.records import Task
from tailrace.inspection.encode_cost import encode_cost

RESULTS = Path(__file__).with_name("models.json")
SIZES = (2_000, 10_000)
MOST_S = 15.0
MIXED = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler())"
NUMBERS = "SelectType(float) | StandardScaler()"

MODELS: tuple[tuple[str, Task, str], ...] = (
    ("linear models", Task.BINARY, f"{MIXED} | LogisticRegression()"),
    ("linear models", Task.MULTICLASS, f"{MIXED} | SoftmaxRegression()"),
    ("naive Bayes", Task.MULTICLASS, "SelectType(float) | GaussianNB()"),
    ("nearest neighbours", Task.BINARY, f"{NUMBERS} | KNNClassifier(engine=LazySearch(window_size=1000))"),
    ("Hoeffding trees", Task.BINARY, "HoeffdingTreeClassifier()"),
    ("Hoeffding trees", Task.REGRESSION, f"{NUMBERS} | HoeffdingTreeRegressor()"),
    ("Hoeffding adaptive trees", Task.BINARY, "HoeffdingAdaptiveTreeClassifier(seed=1)"),
    ("random forests", Task.BINARY, "ARFClassifier(n_models=10, seed=1)"),
    ("random forests", Task.REGRESSION, f"{NUMBERS} | ARFRegressor(n_models=10, seed=1)"),
    ("bagging", Task.BINARY, f"{MIXED} | BaggingClassifier(LogisticRegression(), n_models=10, seed=1)"),
    ("bagging", Task.BINARY, "LeveragingBaggingClassifier(HoeffdingTreeClassifier(), n_models=10, seed=1)"),
    ("half-space trees", Task.ANOMALY, "SelectType(float) | MinMaxScaler() | HalfSpaceTrees(seed=1)"),
    ("one-class", Task.ANOMALY, f"{NUMBERS} | OneClassSVM()"),
    ("random patches", Task.BINARY, "SRPClassifier(n_models=10, seed=1)"),
    ("random patches", Task.REGRESSION, f"{NUMBERS} | SRPRegressor(n_models=10, seed=1)"),
)
"""Family, task, model."""

TARGETS = {
    Task.BINARY: TargetContract(Task.BINARY),
    Task.MULTICLASS: TargetContract(Task.MULTICLASS, classes=("low", "middle", "high")),
    Task.REGRESSION: TargetContract(Task.REGRESSION),
    Task.ANOMALY: TargetContract(Task.ANOMALY),
}


def main(families: Collection[str]) -> None:
    """Measure every model of these families at every size; of all, if there are none."""
    contract = FeatureContract(
        (
            *(FeatureSpec(f"number{index}", "number") for index in range(10)),
            *(FeatureSpec(f"kind{index}", "category", values=("a", "b", "c", "d")) for index in range(5)),
        )
    )
    before = orjson.loads(RESULTS.read_bytes()) if families else []
    rows = []
    for family, task, text in MODELS:
        if families and family not in families:
            rows += [row for row in before if row["model"] == text]
            continue
        spec = ModelSpec.load(task.value, text, _no_functions)
        for examples in SIZES:
            cost = encode_cost(spec, contract, TARGETS[task], examples=examples, limit_s=MOST_S)
            sys.stderr.write(f"{text}: {cost.in_words()}\n")
            rows.append({"family": family, "task": task.value, "model": text, **asdict(cost)})
    RESULTS.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _no_functions(name: str) -> object:
    raise ImportError(name)


if __name__ == "__main__":
    main(sys.argv[1:])

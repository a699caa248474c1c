"""The workloads: other models, widths, kinds of features, targets and formats than the one of the rounds."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import fastavro
import numpy as np
from river import datasets

from benchmarks.examples import FEATURES, MODEL, Example, examples
from benchmarks.topics import JSON, Form

_SCALED = "StandardScaler() | "


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        make: Count → examples.
        features: Name → type, in TOML.
        loop: Further fields of `configuration.Loop`.
        most: Examples there are; None: as many as are asked for.
        share: Of the examples asked for that it gets: a costly model takes its time.
    """

    name: str
    make: Callable[[int], Iterator[Example]]
    features: Mapping[str, str]
    model: str = MODEL
    task: str = "binary"
    loop: Mapping[str, Any] = field(default_factory=dict)
    form: Form = JSON
    most: int | None = None
    share: float = 1.0

    def count(self, asked: int) -> int:
        """Return how many examples it runs over."""
        return min(int(asked * self.share), self.most or asked)


def _numbers(count: int, width: int) -> Iterator[Example]:
    rng = np.random.default_rng(2)
    names = [f"f{number:03}" for number in range(width)]
    for number in range(count):
        row = rng.normal(size=width)
        yield Example(f"e{number:07}", dict(zip(names, row.tolist(), strict=True)), bool(row[:5].sum() > 0))


def _categories(count: int) -> Iterator[Example]:
    rng = np.random.default_rng(3)
    names = [f"c{number:02}" for number in range(20)]
    for number in range(count):
        row = rng.integers(10, size=20)
        x = dict(zip(names, map(str, row.tolist()), strict=True))
        yield Example(f"e{number:07}", x, bool(row[:5].sum() > 22))


def _texts(count: int) -> Iterator[Example]:
    rng = np.random.default_rng(4)
    names = [f"w{number:02}" for number in range(30)]
    for number in range(count):
        row = rng.zipf(1.3, size=30) % 100_000
        x = dict(zip(names, map(str, row.tolist()), strict=True))
        yield Example(f"e{number:07}", x, bool((row < 10).sum() > 15))


def _regression(count: int) -> Iterator[Example]:
    for example in examples(count):
        x = example.x
        yield Example(example.id, x, 3.0 * x["f00"] - 2.0 * x["f01"] + x["f02"])


def _ten_classes(count: int) -> Iterator[Example]:
    for example in examples(count):
        best = max(range(10), key=lambda number: example.x[FEATURES[number]])
        yield Example(example.id, example.x, f"class{best}")


def _bundled(dataset: Any) -> Callable[[int], Iterator[Example]]:
    def make(count: int) -> Iterator[Example]:
        for number, (x, y) in enumerate(itertools.islice(dataset, count)):
            yield Example(f"e{number:07}", {_name(key): value for key, value in x.items()}, y)

    return make


def _name(key: Any) -> str:
    return str(key).replace("-", "_").replace(" ", "_").replace(".", "_")


def _kinds(dataset: Any) -> dict[str, str]:
    rows = [x for x, _ in dataset]
    return {_name(key): '"integer"' if all(type(x[key]) is int for x in rows) else '"number"' for key in rows[0]}


def _classes(names: list[Any]) -> dict[str, Any]:
    return {"label_keys": f", classes = {json.dumps(names)}"}


_AVRO_EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": "long"},
        *({"name": name, "type": "double"} for name in FEATURES),
    ],
}
_AVRO_LABEL = {
    "type": "record",
    "name": "Label",
    "fields": [{"name": "id", "type": "string"}, {"name": "y", "type": "boolean"}],
}


@cache
def _parsed(text: str) -> Any:
    return fastavro.parse_schema(json.loads(text))


def _avro(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed(json.dumps(schema)), record)
    return out.getvalue()


_AVRO = Form(
    lambda example, at_ms: _avro(_AVRO_EVENT, {"id": example.id, "at": at_ms, **example.x}),
    lambda example: _avro(_AVRO_LABEL, {"id": example.id, "y": example.y}),
)
_AVRO_LOOP = {
    "event_keys": ', format = "avro", schema_file = "event.avsc"',
    "label_keys": ', format = "avro", schema_file = "label.avsc"',
    "files": {"event.avsc": json.dumps(_AVRO_EVENT), "label.avsc": json.dumps(_AVRO_LABEL)},
}
_DENSE = dict.fromkeys(FEATURES, '"number"')
_CATEGORIES = {
    f"c{number:02}": f'{{ type = "category", values = {json.dumps([str(value) for value in range(10)])} }}'
    for number in range(20)
}
_SETS = {
    "Phishing": (datasets.Phishing(), "binary", MODEL, {}, 1_250),
    "Bananas": (datasets.Bananas(), "binary", MODEL, {}, 5_300),
    "ImageSegments": (
        datasets.ImageSegments(),
        "multiclass",
        "GaussianNB()",
        _classes(["brickface", "sky", "foliage", "cement", "window", "path", "grass"]),
        2_310,
    ),
    "TrumpApproval": (datasets.TrumpApproval(), "regression", _SCALED + "LinearRegression()", {}, 1_001),
}

WORKLOADS = (
    Workload("20 numbers, logistic regression", examples, _DENSE),
    Workload("20 numbers, Hoeffding tree", examples, _DENSE, "HoeffdingTreeClassifier()", share=0.5),
    Workload("20 numbers, adaptive forest of 10", examples, _DENSE, "ARFClassifier(n_models=10, seed=1)", share=0.1),
    Workload(
        "200 numbers, logistic regression",
        lambda count: _numbers(count, 200),
        {f"f{number:03}": '"number"' for number in range(200)},
        share=0.2,
    ),
    Workload("20 categories, one-hot", _categories, _CATEGORIES, "OneHotEncoder() | LogisticRegression()", share=0.3),
    Workload(
        "30 words, hashed",
        _texts,
        {f"w{number:02}": '"text"' for number in range(30)},
        "FeatureHasher(n_features=1048576, seed=1) | LogisticRegression()",
        share=0.2,
    ),
    Workload("20 numbers, linear regression", _regression, _DENSE, _SCALED + "LinearRegression()", "regression"),
    Workload(
        "20 numbers, 10 classes",
        _ten_classes,
        _DENSE,
        _SCALED + "SoftmaxRegression()",
        "multiclass",
        _classes([f"class{number}" for number in range(10)]),
        share=0.2,
    ),
    Workload("20 numbers in Avro", examples, _DENSE, loop=_AVRO_LOOP, form=_AVRO),
    *(
        Workload(f"River's {name}", _bundled(made), _kinds(made), model, task, loop, most=most)
        for name, (made, task, model, loop, most) in _SETS.items()
    ),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}

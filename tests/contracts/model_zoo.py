"""Configurations of every family on the support list, and one deterministic stream to teach them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.spec import ModelSpec

NUMBERS = "SelectType(float)"
SCALED = "(SelectType(float) | StandardScaler())"
ONE_HOT = "(SelectType(str) | OneHotEncoder())"
TREE = "grace_period=40, delta=0.05"

CONFIGURATIONS: dict[str, tuple[str, str]] = {
    "logistic, scaled and one-hot": ("binary", f"{ONE_HOT} + {SCALED} | LogisticRegression()"),
    "logistic, Adam, l2": ("binary", f"{SCALED} | LogisticRegression(Adam(0.01), l2=0.001)"),
    "logistic, l1": ("binary", f"{SCALED} | LogisticRegression(l1=0.001)"),
    "logistic, random weights": (
        "binary",
        f"{SCALED} | LogisticRegression(initializer=optim.initializers.Normal(seed=7), optimizer=Momentum())",
    ),
    "logistic, windowed scaler": (
        "binary",
        f"{NUMBERS} | StandardScaler(window_size=20) | LogisticRegression(NesterovMomentum())",
    ),
    "logistic, min-max": ("binary", f"{NUMBERS} | MinMaxScaler() | LogisticRegression(AdaGrad())"),
    "logistic, max-abs": (
        "binary",
        f"{NUMBERS} | MaxAbsScaler() | LogisticRegression(RMSProp(), loss=optim.losses.Hinge())",
    ),
    "logistic, hashed": (
        "binary",
        "FeatureHasher(n_features=32, seed=3) | LogisticRegression(SGD(InverseScaling(0.1)))",
    ),
    "logistic, normalised": ("binary", f"{NUMBERS} | Normalizer() | LogisticRegression(optimizer=AdaDelta())"),
    "passive-aggressive": ("binary", f"{SCALED} | PAClassifier(mode=2)"),
    "perceptron": ("binary", f"{ONE_HOT} + {SCALED} | Perceptron()"),
    "linear": ("regression", f"{ONE_HOT} + {SCALED} | LinearRegression(AMSGrad(), loss=Huber())"),
    "linear, hashed": (
        "regression",
        "FeatureHasher(n_features=32, seed=3) | LinearRegression(AdaMax(), loss=Absolute())",
    ),
    "linear, optimal rate": (
        "regression",
        f"{SCALED} | LinearRegression(SGD(Optimal(Squared())), loss=EpsilonInsensitiveHinge(), intercept_lr=0.1)",
    ),
    "passive-aggressive regression": ("regression", f"{SCALED} | PARegressor()"),
    "softmax": ("multiclass", f"{SCALED} | SoftmaxRegression(Adam(0.02), l2=0.01)"),
    "softmax, one-hot": ("multiclass", f"{ONE_HOT} + {SCALED} | SoftmaxRegression()"),
    "one against the rest": ("multiclass", f"{SCALED} | OneVsRestClassifier(LogisticRegression())"),
    "Gaussian Bayes": ("multiclass", f"{NUMBERS} | GaussianNB()"),
    "multinomial Bayes": ("multiclass", f"{ONE_HOT} | MultinomialNB()"),
    "complement Bayes": ("multiclass", f"{ONE_HOT} | ComplementNB(alpha=0.5)"),
    "Bernoulli Bayes": ("binary", f"{ONE_HOT} | BernoulliNB()"),
    "Hoeffding tree": ("binary", f"HoeffdingTreeClassifier({TREE})"),
    "Hoeffding tree, classes": (
        "multiclass",
        f"HoeffdingTreeClassifier({TREE}, split_criterion='gini', leaf_prediction='nb', nominal_attributes=['flag'])",
    ),
    "Hoeffding tree, shallow": (
        "binary",
        f"HoeffdingTreeClassifier({TREE}, max_depth=2, leaf_prediction='mc', remove_poor_attrs=True)",
    ),
    "Hoeffding tree, histograms": ("binary", f"HoeffdingTreeClassifier({TREE}, splitter=HistogramSplitter(n_bins=32))"),
    "Hoeffding tree, every value": ("binary", f"HoeffdingTreeClassifier({TREE}, splitter=ExhaustiveSplitter())"),
    "Hoeffding tree after a scaler": ("binary", f"{SCALED} | HoeffdingTreeClassifier({TREE})"),
    "Hoeffding regression tree": ("regression", f"{NUMBERS} | HoeffdingTreeRegressor({TREE})"),
    "Hoeffding regression tree, categories": ("regression", f"HoeffdingTreeRegressor({TREE}, leaf_prediction='mean')"),
    "Hoeffding regression tree, quantised": (
        "regression",
        f"{NUMBERS} | HoeffdingTreeRegressor({TREE}, splitter=QOSplitter(0.1), leaf_prediction='model')",
    ),
    "Hoeffding regression tree, all values": (
        "regression",
        f"{NUMBERS} | HoeffdingTreeRegressor({TREE}, splitter=EBSTSplitter(), remove_poor_attrs=True)",
    ),
    "adaptive tree": ("binary", f"HoeffdingAdaptiveTreeClassifier({TREE}, seed=1)"),
    "adaptive tree, eager": (
        "multiclass",
        f"HoeffdingAdaptiveTreeClassifier({TREE}, drift_window_threshold=20, drift_detector=ADWIN(0.5), seed=2)",
    ),
    "adaptive tree, no bootstrap": (
        "binary",
        f"{SCALED} | HoeffdingAdaptiveTreeClassifier({TREE}, bootstrap_sampling=False, seed=3)",
    ),
    "adaptive regression tree": ("regression", f"{NUMBERS} | HoeffdingAdaptiveTreeRegressor({TREE}, seed=4)"),
    "adaptive regression tree, eager": (
        "regression",
        f"{NUMBERS} | HoeffdingAdaptiveTreeRegressor({TREE}, drift_window_threshold=20, leaf_prediction='mean', "
        f"drift_detector=ADWIN(0.5), splitter=QOSplitter(0.1), seed=4)",
    ),
}
"""Name → (task, expression)."""


def no_functions(name: str) -> Any:
    """Import nothing."""
    raise ImportError(f"no module for {name}")


def spec_of(name: str) -> ModelSpec:
    """Return the spec of one configuration."""
    task, text = CONFIGURATIONS[name]
    return ModelSpec.load(task, text, no_functions)


def examples(task: str, count: int, seed: int = 7) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield (x in sorted key order, y). The concept turns round half way, so that adaptive trees adapt.

    Features arrive shuffled, as JSON, and some are absent: what a fold sees is sorted and typed.
    """
    rng = random.Random(seed)
    for number in range(count):
        x: dict[str, Any] = {f"f{i}": rng.gauss(0, 1) for i in range(4)}
        x |= {"city": f"city{rng.randrange(9)}", "flag": rng.random() < 0.5, "zip": str(rng.randrange(100, 104))}
        score = x["f0"] - x["f1"] + (x["city"] in {"city1", "city5"}) + x["flag"]
        score = score if number < count // 2 else -score
        if rng.random() < 0.05:
            del x["f3"]
        shuffled = list(x.items())
        rng.shuffle(shuffled)
        arrived = json.loads(json.dumps(dict(shuffled)))
        y: Any = {"binary": score > 0.5, "multiclass": int(score > 0) + int(score > 1), "regression": score}[task]
        yield dict(sorted(arrived.items())), y


def predict(model: Any, task: str, x: dict[str, Any]) -> Any:
    """Ask the model, as a scorer does."""
    if task == "regression":
        return model.predict_one(x)
    try:
        return model.predict_proba_one(x)
    except NotImplementedError:
        return model.predict_one(x)


def digests(count: int) -> dict[str, str]:
    """Return the digest of every configuration after `count` examples."""
    found: dict[str, str] = {}
    for name in CONFIGURATIONS:
        spec = spec_of(name)
        model = spec.build()
        for x, y in examples(spec.task, count):
            model.learn_one(x, y)
        found[name] = digest_of(spec.codec().encode(model))
    return found


if __name__ == "__main__":
    print(json.dumps(digests(300)))  # Run in its own process by test_models, under several hash seeds.

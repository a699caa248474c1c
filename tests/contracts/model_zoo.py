"""Configurations of every family on the support list, and one deterministic stream to teach them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.models.teaching import teacher_of

NUMBERS = "SelectType(float)"
SCALED = "(SelectType(float) | StandardScaler())"
ONE_HOT = "(SelectType(str) | OneHotEncoder())"
TREE = "grace_period=40, delta=0.05"
CLASSES = ("low", "middle", "high")
"""Texts, whose order in a set differs between processes."""

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
    "neighbours": ("multiclass", f"{SCALED} | KNNClassifier(3, engine=LazySearch(window_size=60), softmax=True)"),
    "neighbours, uniform": (
        "binary",
        f"{SCALED} | KNNClassifier(engine=LazySearch(window_size=40, min_distance_keep=0.5), weighted=False)",
    ),
    "neighbours of numbers": (
        "regression",
        f"{SCALED} | KNNRegressor(engine=LazySearch(window_size=60), aggregation_method='weighted_mean')",
    ),
    "neighbours of numbers, median": (
        "regression",
        f"{NUMBERS} | KNNRegressor(engine=LazySearch(window_size=60), aggregation_method='median')",
    ),
    "forest": ("multiclass", f"ARFClassifier(n_models=3, {TREE}, seed=1)"),
    "forest, eager": (
        "binary",
        f"ARFClassifier(n_models=3, {TREE}, leaf_prediction='mc', max_features='log2', drift_detector=ADWIN(0.4), "
        f"warning_detector=ADWIN(0.5), seed=2)",
    ),
    "forest, stationary": (
        "multiclass",
        f"{SCALED} | ARFClassifier(n_models=3, {TREE}, drift_detector=NoDrift(), warning_detector=NoDrift(), "
        f"leaf_prediction='nb', disable_weighted_vote=True, seed=3)",
    ),
    "regression forest": ("regression", f"{NUMBERS} | ARFRegressor(n_models=3, {TREE}, seed=1)"),
    "regression forest, eager": (
        "regression",
        f"ARFRegressor(n_models=3, {TREE}, leaf_prediction='mean', aggregation_method='mean', metric=metrics.MAE(), "
        f"disable_weighted_vote=False, drift_detector=ADWIN(0.4), warning_detector=ADWIN(0.5), seed=2)",
    ),
    "bagging": ("binary", f"{SCALED} | BaggingClassifier(LogisticRegression(), n_models=3, seed=1)"),
    "bagging of neighbours": (
        "multiclass",
        f"{SCALED} | ADWINBaggingClassifier(KNNClassifier(2, LazySearch(window_size=20), weighted=False), n_models=3, seed=1)",
    ),
    "bagging with ADWIN": (
        "multiclass",
        f"ADWINBaggingClassifier(HoeffdingTreeClassifier({TREE}), n_models=3, seed=2)",
    ),
    "bagging of adaptive trees": (
        "multiclass",
        f"ADWINBaggingClassifier(HoeffdingAdaptiveTreeClassifier({TREE}, drift_window_threshold=20, "
        f"drift_detector=ADWIN(0.5), seed=5), n_models=2, seed=2)",
    ),
    "bagging, leveraged": (
        "multiclass",
        f"LeveragingBaggingClassifier(HoeffdingTreeClassifier({TREE}), n_models=3, adwin_delta=0.5, seed=3)",
    ),
    "bagging, leveraged, other draws": (
        "binary",
        f"LeveragingBaggingClassifier({SCALED} | LogisticRegression(), n_models=3, bagging_method='wt', seed=3)",
    ),
    "bagging, leveraged, few draws": (
        "binary",
        f"{SCALED} | LeveragingBaggingClassifier(Perceptron(), n_models=3, bagging_method='subag', seed=3)",
    ),
    "bagging of regressions": (
        "regression",
        f"BaggingRegressor({SCALED} | LinearRegression(), n_models=3, seed=1)",
    ),
    "random patches": ("multiclass", f"SRPClassifier(HoeffdingTreeClassifier({TREE}), n_models=3, seed=1)"),
    "random patches, eager": (
        "binary",
        f"{NUMBERS} | SRPClassifier(GaussianNB(), n_models=3, subspace_size=3, drift_detector=ADWIN(0.4), "
        f"warning_detector=ADWIN(0.5), seed=2)",
    ),
    "random subspaces": (
        "binary",
        "SRPClassifier(n_models=3, training_method='subspaces', disable_detector='warning', seed=2)",
    ),
    "random patches of numbers": (
        "regression",
        f"{NUMBERS} | SRPRegressor(HoeffdingTreeRegressor({TREE}), n_models=3, drift_detector=ADWIN(0.4), "
        f"warning_detector=ADWIN(0.5), seed=1)",
    ),
    "random patches of numbers, median": (
        "regression",
        f"{SCALED} | SRPRegressor(LinearRegression(), n_models=3, training_method='resampling', "
        f"aggregation_method='median', disable_detector='drift', seed=4)",
    ),
    "half-space trees": ("anomaly", f"{NUMBERS} | MinMaxScaler() | HalfSpaceTrees(window_size=30, seed=1)"),
    "half-space trees, one-hot": (
        "anomaly",
        f"{ONE_HOT} + ({NUMBERS} | MinMaxScaler()) | HalfSpaceTrees(n_trees=3, height=4, window_size=20, seed=2)",
    ),
    "half-space trees, limits": (
        "anomaly",
        f"{NUMBERS} | HalfSpaceTrees(5, 6, 25, {{'f0': (-3.0, 3.0), 'f1': (-2.0, 2.0)}}, seed=3)",
    ),
    "one-class": ("anomaly", f"{SCALED} | OneClassSVM(nu=0.2)"),
    "one-class, one-hot": ("anomaly", f"{ONE_HOT} + {SCALED} | OneClassSVM(optimizer=Adam(0.01), intercept_lr=0.05)"),
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
        of_task = {"multiclass": CLASSES[(score > 0) + (score > 1)], "regression": score}
        y: Any = of_task.get(task, score > 0.5)
        yield dict(sorted(arrived.items())), y


def predict(model: Any, task: str, x: dict[str, Any]) -> Any:
    """Ask the model, as a scorer does."""
    if task == "anomaly":
        return model.score_one(x)
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
        teach = teacher_of(model)
        for x, y in examples(spec.task, count):
            teach(x, y)
        found[name] = digest_of(spec.codec().encode(model))
    return found


if __name__ == "__main__":
    print(json.dumps(digests(300)))  # Run in its own process by test_models, under several hash seeds.

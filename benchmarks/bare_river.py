"""The first ruler: River alone, in memory. Predict, judge, learn, event by event; no Kafka, no JSON, no join."""

from __future__ import annotations

import gc
import math
import sys

from river import linear_model, preprocessing

from benchmarks.meter import Measured, Moment
from benchmarks.workload import examples

_LEAST = 1e-15


def main(count: int) -> None:
    """Run it once."""
    made = [(example.x, example.y) for example in examples(count)]
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    predict, learn, log = model.predict_proba_one, model.learn_one, math.log
    loss = 0.0
    gc.collect()
    gc.freeze()  # the examples are no part of what is measured
    begun = Moment.now()
    for x, y in made:
        p = predict(x)[True]
        loss -= log(max(p if y else 1.0 - p, _LEAST))
        learn(x, y)
    ended = Moment.now()
    Measured(count, ended.clock_s - begun.clock_s, ended.cpu_s - begun.cpu_s, loss / count).report()


if __name__ == "__main__":
    main(int(sys.argv[1]))

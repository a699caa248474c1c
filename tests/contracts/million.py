"""Compiled pipelines beside River's own over many examples: `make million`.

python -m tests.contracts.million --examples 1000000
"""

from __future__ import annotations

import argparse
import time

from tests.contracts.compiled_pipelines import Lockstep, numbers, rows

PIPELINES = (
    ("binary", "StandardScaler() | LogisticRegression()"),
    ("binary", "StandardScaler() | LogisticRegression(l1=0.00001)"),
    ("binary", "MinMaxScaler() | LogisticRegression(optimizer=FTRLProximal(l1=0.1))"),
    ("binary", "StandardScaler() | Perceptron()"),
    ("binary", "StandardScaler() | PAClassifier(C=0.01)"),
    ("regression", "StandardScaler() | LinearRegression(l2=0.0001)"),
    ("multiclass", "StandardScaler() | SoftmaxRegression()"),
)
ALLOWED = 1e-12
BLOCK = 1_000
ANSWERED = 5  # of each block


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=8)
    asked = parser.parse_args()
    worst = 0.0
    for task, text in PIPELINES:
        begun = time.monotonic()
        both = Lockstep(task, text, numbers(asked.width))
        for block in range(asked.examples // BLOCK):
            both.block(*rows(task, BLOCK, asked.width, seed=block), ANSWERED)
        both.weights()
        worst = max(worst, both.apart.most)
        print(f"{text}: {both.model.count:,} examples, {both.apart.most:.1e} apart, {time.monotonic() - begun:.0f} s")
    print(f"worst difference {worst:.1e}, allowed {ALLOWED:.0e}")
    return int(worst > ALLOWED)


if __name__ == "__main__":
    raise SystemExit(main())

"""Vowpal Wabbit behind plain confluent-kafka."""

from __future__ import annotations

from benchmarks.contenders.plain_confluent import main
from benchmarks.protocol import Task
from benchmarks.vw import VwLoop

if __name__ == "__main__":
    asked = Task.asked()
    main(asked, VwLoop(asked))

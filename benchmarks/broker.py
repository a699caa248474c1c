"""A real Apache Kafka for as long as a benchmark runs, and what is said while it does."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]

_AS_SHIPPED = {"num.network.threads": "3", "num.io.threads": "8", "background.threads": "10"}


def launcher() -> ModuleType:
    """Load the launcher of the broker, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("tailrace_kafka_launch", REPOSITORY / "deploy/kafka/launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def broker(launch: ModuleType) -> Iterator[str]:
    """Run a broker in a folder of its own, with Kafka's own heap, collector and numbers of threads; give its address."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-kafka-") as folder:
        say("starting Apache Kafka")
        running = launch.Broker(folder, settings=_AS_SHIPPED, java=launch.KAFKA_JAVA)
        try:
            yield running.start().bootstrap
        finally:
            running.stop()


def say(text: str) -> None:
    """Tell how far it is: on stderr, since stdout is data."""
    print(text, file=sys.stderr, flush=True)


def kafka_version() -> str:
    """Return the version of Kafka that the launcher gets."""
    text = (REPOSITORY / "deploy/kafka/pom.xml").read_text()
    return re.findall(r"<artifactId>kafka_[^<]+</artifactId>\s*<version>([^<]+)<", text)[0]

"""Tailrace: models that learn from your Kafka topics while they serve.

The map of the package. Floors, and what each room is for:

    floor 3   main       composition root: settings → objects → worker        settings   tailrace.toml + environment
              cli        one file per command group                            demo       what `tailrace demo` shows
              inspection status, books, verify from the topics alone           opening    settings → log, store
              client     the HTTP API from outside, for services and notebooks
    floor 2   streams    Faust, aiokafka, the embedded log; agents             web        HTTP: probes, metrics, the API
    floor 1   wire       bytes ↔ records     stores   what survives a restart  telemetry  instruments, logs, traces
    floor 0   domain     decides and does nothing: pure and deterministic

The walk of one event and its label: `streams.score_agent` decodes it (`wire`), reads it by the contract
(`domain.contract`), scores it (`domain.scoring`), sends a prediction and a scored row. `streams.join_agent` hands the
row to `domain.join`, where it waits for its label; both become an example in a block of the training log.
`streams.learn_agent` folds the block (`domain.learning`): the served prediction is judged, the model learns.
Snapshots (`domain.snapshots`, `stores`) are caches of that fold at a position; the log is the truth.

Arrows point down or stay on their floor, and go in no circle. What a room may import of ours is in `ARROWS`, which
third-party packages are kept to certain rooms in `OWNED`; a test holds the code against both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__version__ = "0.1.0"

ARROWS: Final[Mapping[str, frozenset[str]]] = {
    "domain": frozenset(),
    "wire": frozenset({"domain"}),
    "stores": frozenset({"domain"}),
    "telemetry": frozenset({"domain"}),
    "streams": frozenset({"domain", "wire", "stores", "telemetry"}),
    "web": frozenset({"domain", "wire", "telemetry"}),
    "client": frozenset({"domain", "stores"}),
    "settings": frozenset({"domain"}),
    "opening": frozenset({"domain", "wire", "stores", "streams", "settings"}),
    "inspection": frozenset({"domain", "wire", "stores", "streams", "settings", "opening"}),
    "main": frozenset({"domain", "wire", "stores", "telemetry", "streams", "web", "settings", "opening", "inspection"}),
    "demo": frozenset({"main", "streams", "opening", "inspection", "settings", "domain", "wire"}),
    "cli": frozenset({"main", "opening", "inspection", "settings", "demo", "domain", "wire", "stores", "telemetry"}),
}
"""Room → the rooms of ours that it may import. Every room may import `tailrace` itself, for the version."""

OWNED: Final[Mapping[str, frozenset[str]]] = {
    "river": frozenset({"domain", "main", "demo"}),
    "msgpack": frozenset({"domain"}),
    "obstore": frozenset({"stores"}),
    "numpy": frozenset({"domain", "wire", "stores", "telemetry", "streams", "main", "inspection"}),
    "scipy": frozenset({"domain", "main"}),
    "numba": frozenset({"domain"}),
    "orjson": frozenset({"wire", "streams", "web", "telemetry", "inspection", "cli", "demo", "settings"}),
    "fastavro": frozenset({"wire"}),
    "cryptography": frozenset({"stores"}),
    "opentelemetry": frozenset({"telemetry"}),
    "prometheus_client": frozenset({"telemetry", "web"}),
    "rocksdict": frozenset({"stores"}),
    "structlog": frozenset({"telemetry", "streams", "main", "inspection", "web", "cli", "demo"}),
    "faust": frozenset({"streams", "main"}),
    "mode": frozenset({"streams", "main"}),
    "aiokafka": frozenset({"streams"}),
    "starlette": frozenset({"web"}),
    "uvicorn": frozenset({"streams"}),
    "urllib3": frozenset({"client"}),
    "pandas": frozenset({"client"}),
    "matplotlib": frozenset({"client"}),
    "pydantic": frozenset({"settings", "web"}),
    "cyclopts": frozenset({"cli"}),
    "rich": frozenset({"cli", "demo"}),
}
"""Third-party package → the rooms that may import it."""

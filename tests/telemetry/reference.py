"""A loop as large as most: 8 partitions of each input, 30 features, every outcome; everything is told once."""

from __future__ import annotations

from typing import Any

import numpy as np
from prometheus_client import generate_latest

from tailrace.domain.books import EQUATIONS
from tailrace.domain.records import Code, Rejection, Stage
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import PartitionStatus, Role, RoleState, ServingStatus
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder, Recorder
from tailrace.wire.topics import topics_of

PARTITIONS = 8
FEATURES = 30
SECRET = "attacker-text-4711"


def at(topic: str, partition: int, **changes: Any) -> PartitionStatus:
    fields: dict[str, Any] = {"next_offset": 5, "end_offset": 10, "lag_records": 5, "lag_seconds": 0.5}
    return PartitionStatus(topic, partition, **(fields | changes))


def make_recorder() -> tuple[Recorder, Instruments]:
    instruments = Instruments()
    return Recorder(instruments, "phishing"), instruments


def series(instruments: Instruments) -> dict[str, float]:
    lines = generate_latest(instruments.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if name.startswith("tailrace_")}


def record_everything(recorder: Recorder, process: ProcessRecorder) -> None:
    """Use every label value that a loop with 8 partitions can have."""
    process.build({"version": "1", "python": "3.11"})
    process.ready(is_ready=True)
    process.event_loop_lag(0.01)
    for level in declared.LOG_LEVELS:
        process.log_message(level)
    for role in Role:
        recorder.role(role, RoleState.RUNNING)
        recorder.rebalanced(role)
        recorder.model_position(role, 5)
        for outcome in ("ok", "refused", "failed"):
            recorder.committed(role, outcome)
    for partition in range(PARTITIONS):
        recorder.join_holds(partition, waiting=1, early=2, remembered=3)
        for role, topic in ((Role.SCORE, "pages"), (Role.JOIN, "verdicts"), (Role.JOIN, "scored")):
            recorder.consumed(role, topic, partition, 10, 900)
    for role, topics in ((Role.SCORE, ("pages",)), (Role.JOIN, ("verdicts", "scored", "relabelled"))):
        partitions = [at(topic, partition) for topic in topics for partition in range(PARTITIONS)]
        recorder.reading(role, partitions, 9_000, paused={}, held={})
    recorder.topics({spec.name: PARTITIONS for spec in topics_of("phishing", "pages", "verdicts", horizon_ms=1)})
    for role in Role:
        recorder.completed(role, 100, 0.01)
        recorder.rebalanced(role, 0.2)
        recorder.restoring(role, 5)
        recorder.role(role, RoleState.RESTORING)
        recorder.role(role, RoleState.RUNNING)
    for topic in ("predictions", "scored", "training"):
        recorder.produced(topic, 3, 0.01)
    recorder.configured(task="binary", contract="c" * 64, lineage="l" * 64)
    recorder.producing(waiting_bytes=900, renewals=1)
    recorder.serves("champion", "abc")
    recorder.serving(ServingStatus(5, 0.1, 2, 3.0))
    recorder.books({line: dict.fromkeys(parts, 1) for line, parts in EQUATIONS.items()} | {"examples": {"examples": 1}})
    recorder.features_missing([f"f{n}" for n in range(FEATURES)], np.ones((3, FEATURES), np.bool_))
    recorder.rejected("pages", [Rejection(Code.FEATURE_TYPE, Stage.VALIDATE, "", f"f{n}") for n in range(FEATURES)])
    recorder.predicted_classes("champion", ["negative", "positive"], np.array([0.0, 1.0, np.nan]))
    recorder.predicted_probabilities("champion", np.array([0.1, np.nan]))
    recorder.label_delays(np.array([5.0, -1.0]))
    for operation in declared.STORE_OPERATIONS:
        process.store_request(operation, "ok", 0.1)
    for route in ("/livez", "/readyz", "/startupz", "/metrics"):
        process.http_request("GET", route, 200, 0.001)
    process.http_streams("/v1/events", 1)
    recorder.events(dict.fromkeys(declared.EVENT_OUTCOMES, 1))
    recorder.event_joins(dict.fromkeys(declared.JOIN_OUTCOMES, 1))
    recorder.labels(dict.fromkeys(declared.LABEL_OUTCOMES, 1))
    recorder.unknown_fields(2)
    for topic in ("pages", "verdicts"):
        recorder.rejected(topic, [Rejection(code, Stage.VALIDATE, SECRET) for code in Code])
    recorder.learned(examples=5, skipped=1, fenced=1, now_ms=9_000)
    for window in declared.WINDOWS:
        recorder.quality("champion", window, {"accuracy": 0.9, "log_loss": 0.1, "brier": 0.1, "roc_auc": 0.9}, 50)
        recorder.baseline("prior", window, {"accuracy": 0.5})
        recorder.baseline("no_change", window, {"accuracy": 0.5})
    recorder.drifted(9_000)
    recorder.decided("promote", is_refused=False)
    recorder.digests_compared(2)
    recorder.diverged()
    recorder.verified("equal", 0.5)
    recorder.verified("failed", None)
    for reason in declared.COMMAND_REASONS:
        recorder.command_refused(reason)
    recorder.label_to_influence(np.array([5.0]))
    recorder.end_to_end(np.array([5]))
    for stage in declared.CPU_STAGES:
        recorder.stage(stage, 0.1)
    recorder.snapshots_every(30_000)
    for kind in Kind:
        recorder.snapshot_done(kind, size_bytes=9, now_ms=9_000)
        recorder.snapshot_failed(kind)
        recorder.snapshot_replaced(kind)
        recorder.snapshot_retried(kind)
        recorder.snapshots_waiting(kind, 2)
    recorder.snapshot_refused("digest")
    for phase in declared.SNAPSHOT_PHASES:
        recorder.snapshot_phase(phase, 0.1)

"""Every Prometheus instrument, declared once: name, type, labels, meaning, buckets.

Label values come from closed sets wherever the declaration names one, so the number of series has a bound. Loop,
topic, partition and metric names come from the configuration; ids, keys, features and texts never become labels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from math import inf
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tailrace.domain.errors import ContractError
from tailrace.domain.records import Code, Stage
from tailrace.domain.snapshots import REASONS, Kind
from tailrace.domain.status import Role, RoleState


class Type(StrEnum):
    """The Prometheus type of an instrument."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One instrument.

    Attributes:
        name: As Prometheus sees it, with unit and, for counters, `_total`.
        help: One sentence for the person who reads a dashboard.
        closed: Label → all values it may have; a label that is not named here is bounded by the configuration.
        buckets: Upper bounds of a histogram, rising, without +Inf.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    closed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


def _closed(*values: str) -> frozenset[str]:
    return frozenset(values)


EVENT_OUTCOMES: Final = _closed("scored", "abstained", "rejected", "redelivered")
JOIN_OUTCOMES: Final = _closed("joined", "implicit", "dropped", "repeated", "stale", "redelivered")
LABEL_OUTCOMES: Final = _closed(
    "joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned",
    "redelivered", "forwarded", "rejected",
)  # fmt: skip
CPU_STAGES: Final = _closed("decode", "validate", "predict", "join", "learn", "judge", "encode", "send", "snapshot")
SNAPSHOT_PHASES: Final = _closed("encode", "write", "index", "load")
WINDOWS: Final = _closed("all", "rolling")
HTTP_METHODS: Final = _closed("GET", "POST")
HTTP_STATUSES: Final = frozenset(str(status.value) for status in HTTPStatus)
LOG_LEVELS: Final = _closed("debug", "info", "warning", "error", "critical")
CODES: Final = frozenset(code.value for code in Code)
REJECTION_STAGES: Final = frozenset(stage.value for stage in Stage)
ROLES: Final = frozenset(role.value for role in Role)
ROLE_STATES: Final = frozenset(state.value for state in RoleState)
SNAPSHOT_KINDS: Final = frozenset(kind.value for kind in Kind)

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
END_TO_END_BUCKETS_S: Final = (
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0,
)  # fmt: skip
DURATION_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LOOP_LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

BUILD_INFO: Final = Instrument(
    "tailrace_build_info", Type.GAUGE, "Always 1; the labels name the versions that run.",
    ("version", "python", "river", "faust", "aiokafka"),
)  # fmt: skip
ROLE_STATE: Final = Instrument(
    "tailrace_role_state", Type.GAUGE, "1 for the state that a role of this process is in, 0 for the others.",
    ("loop", "role", "state"), {"role": ROLES, "state": ROLE_STATES},
)  # fmt: skip
READY: Final = Instrument("tailrace_ready", Type.GAUGE, "1 when /readyz answers 200, else 0.")
RECORDS_CONSUMED: Final = Instrument(
    "tailrace_consumed_records_total", Type.COUNTER, "Records read, by topic and partition.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
EVENTS: Final = Instrument(
    "tailrace_events_total", Type.COUNTER, "Events by what became of them when they were scored.",
    ("loop", "outcome"), {"outcome": EVENT_OUTCOMES},
)  # fmt: skip
EVENT_JOINS: Final = Instrument(
    "tailrace_event_joins_total", Type.COUNTER, "Scored events by what became of them in the join.",
    ("loop", "outcome"), {"outcome": JOIN_OUTCOMES},
)  # fmt: skip
LABELS: Final = Instrument(
    "tailrace_labels_total", Type.COUNTER, "Labels by what became of them.",
    ("loop", "outcome"), {"outcome": LABEL_OUTCOMES},
)  # fmt: skip
DEAD_LETTERS: Final = Instrument(
    "tailrace_dead_letters_total", Type.COUNTER, "Records put on a dead-letter topic, by their first topic and code.",
    ("loop", "topic", "stage", "code"), {"stage": REJECTION_STAGES, "code": CODES},
)  # fmt: skip
UNKNOWN_FIELDS: Final = Instrument(
    "tailrace_unknown_fields_total", Type.COUNTER, "Fields of events that the feature contract does not name.",
    ("loop",),
)  # fmt: skip
JOIN_WAITING: Final = Instrument(
    "tailrace_join_waiting_events", Type.GAUGE, "Scored events that wait for their label.", ("loop", "partition"),
)  # fmt: skip
JOIN_EARLY: Final = Instrument(
    "tailrace_join_early_labels", Type.GAUGE, "Labels that wait for their event.", ("loop", "partition"),
)  # fmt: skip
JOIN_REMEMBERED: Final = Instrument(
    "tailrace_join_remembered_ids", Type.GAUGE, "Settled ids that are still recognised.", ("loop", "partition"),
)  # fmt: skip
EXAMPLES_LEARNED: Final = Instrument(
    "tailrace_examples_learned_total", Type.COUNTER, "Examples that the model has learned in this process.", ("loop",),
)  # fmt: skip
EXAMPLES_SKIPPED: Final = Instrument(
    "tailrace_examples_skipped_total", Type.COUNTER, "Examples left out because the model raised on them.", ("loop",),
)  # fmt: skip
BLOCKS_FENCED: Final = Instrument(
    "tailrace_blocks_fenced_total", Type.COUNTER,
    "Blocks of the training log that do not count: of a former owner, or sent twice.", ("loop",),
)  # fmt: skip
DECISIONS: Final = Instrument(
    "tailrace_branch_decisions_total", Type.COUNTER, "Admissions, promotions and retirements that stand in the log.",
    ("loop", "kind", "outcome"), {"kind": _closed("admit", "promote", "retire"), "outcome": _closed("done", "refused")},
)  # fmt: skip
COMMANDS_REFUSED: Final = Instrument(
    "tailrace_commands_refused_total", Type.COUNTER, "Commands that were not taken into the log, by reason.",
    ("loop", "reason"),
)  # fmt: skip
MODEL_POSITION: Final = Instrument(
    "tailrace_model_position_offset", Type.GAUGE, "Offset of the training log up to which the model in use is folded.",
    ("loop", "role"), {"role": ROLES},
)  # fmt: skip
LAST_LEARN: Final = Instrument(
    "tailrace_model_last_learn_timestamp_seconds", Type.GAUGE, "When the model last learned an example.", ("loop",),
)  # fmt: skip
MODEL_METRIC: Final = Instrument(
    "tailrace_model_metric", Type.GAUGE, "Quality of the served predictions, judged before learning.",
    ("loop", "model", "metric", "window"), {"window": WINDOWS},
)  # fmt: skip
MODEL_METRIC_BASELINE: Final = Instrument(
    "tailrace_model_metric_baseline", Type.GAUGE, "The same metric of a trivial model beside it.",
    ("loop", "baseline", "metric", "window"), {"window": WINDOWS},
)  # fmt: skip
MODEL_METRIC_SAMPLES: Final = Instrument(
    "tailrace_model_metric_samples", Type.GAUGE, "Labels that the metric rests on.",
    ("loop", "model", "window"), {"window": WINDOWS},
)  # fmt: skip
DRIFTS: Final = Instrument(
    "tailrace_drift_events_total", Type.COUNTER, "Drift signals, by what was watched and the detector.",
    ("loop", "layer", "detector"), {"layer": _closed("loss"), "detector": _closed("adwin")},
)  # fmt: skip
LABEL_TO_INFLUENCE: Final = Instrument(
    "tailrace_label_to_influence_seconds", Type.HISTOGRAM,
    "Broker's time of a label until the first prediction whose model contains it.",
    ("loop",), buckets=LATENCY_BUCKETS_S,
)  # fmt: skip
END_TO_END: Final = Instrument(
    "tailrace_end_to_end_latency_seconds", Type.HISTOGRAM,
    "Kafka's time of an event until its prediction is acknowledged.", ("loop",), buckets=END_TO_END_BUCKETS_S,
)  # fmt: skip
STAGE_SECONDS: Final = Instrument(
    "tailrace_stage_seconds_total", Type.COUNTER, "CPU time of this process, by stage.",
    ("loop", "stage"), {"stage": CPU_STAGES},
)  # fmt: skip
SNAPSHOTS: Final = Instrument(
    "tailrace_snapshots_total", Type.COUNTER, "Snapshots and publications that were begun, by how they ended.",
    ("loop", "kind", "outcome"), {"kind": SNAPSHOT_KINDS, "outcome": _closed("ok", "failed", "replaced")},
)  # fmt: skip
SNAPSHOTS_WAITING: Final = Instrument(
    "tailrace_waiting_snapshots", Type.GAUGE, "Encoded and not yet stored and indexed; at most 2.",
    ("loop", "kind"), {"kind": SNAPSHOT_KINDS},
)  # fmt: skip
SNAPSHOT_RETRIES: Final = Instrument(
    "tailrace_snapshot_retries_total", Type.COUNTER,
    "Tries to store and index one that failed and are made again: the store or the log did not take it.",
    ("loop", "kind"), {"kind": SNAPSHOT_KINDS},
)  # fmt: skip
SNAPSHOT_TIME: Final = Instrument(
    "tailrace_snapshot_last_success_timestamp_seconds", Type.GAUGE, "When the last one was complete.",
    ("loop", "kind"), {"kind": SNAPSHOT_KINDS},
)  # fmt: skip
SNAPSHOT_BYTES: Final = Instrument(
    "tailrace_snapshot_bytes", Type.GAUGE, "Stored size of the last one.", ("loop", "kind"), {"kind": SNAPSHOT_KINDS},
)  # fmt: skip
SNAPSHOT_DURATION: Final = Instrument(
    "tailrace_snapshot_duration_seconds", Type.HISTOGRAM, "Time that one phase of a snapshot took.",
    ("loop", "phase"), {"phase": SNAPSHOT_PHASES}, DURATION_BUCKETS_S,
)  # fmt: skip
SNAPSHOTS_REFUSED: Final = Instrument(
    "tailrace_snapshots_refused_total", Type.COUNTER, "Snapshots that were not loaded, by the step that refused them.",
    ("loop", "reason"), {"reason": _closed(*REASONS)},
)  # fmt: skip
DIGESTS_COMPARED: Final = Instrument(
    "tailrace_digest_comparisons_total", Type.COUNTER,
    "Positions at which this process and another one had folded the log and compared digests, by what was found.",
    ("loop", "outcome"), {"outcome": _closed("equal", "different")},
)  # fmt: skip
DIVERGENCES: Final = Instrument(
    "tailrace_digest_divergences_total", Type.COUNTER,
    "Times that this process stopped following because another one came to a different state of the same log.",
    ("loop",),
)  # fmt: skip
VERIFICATIONS: Final = Instrument(
    "tailrace_verifications_total", Type.COUNTER, "Verifications in the background, by how they ended.",
    ("loop", "outcome"), {"outcome": _closed("equal", "different", "failed")},
)  # fmt: skip
SNAPSHOTS_PROVEN: Final = Instrument(
    "tailrace_snapshots_proven_ratio", Type.GAUGE,
    "Share of the snapshots in the index that were folded again from the log and found equal, 0 to 1.", ("loop",),
)  # fmt: skip
COMMITS: Final = Instrument(
    "tailrace_commits_total", Type.COUNTER, "Commits of offsets; refused means that the assignment had moved on.",
    ("loop", "role", "outcome"), {"role": ROLES, "outcome": _closed("ok", "refused", "failed")},
)  # fmt: skip
RECORDS_PRODUCED: Final = Instrument(
    "tailrace_produced_records_total", Type.COUNTER, "Records that were acknowledged, by topic.", ("loop", "topic"),
)  # fmt: skip
LAG_RECORDS: Final = Instrument(
    "tailrace_consumer_lag_records", Type.GAUGE, "Records between what was completed and the end of the partition.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
LAG_SECONDS: Final = Instrument(
    "tailrace_consumer_lag_seconds", Type.GAUGE, "Age of the oldest record that is not completed; 0: there is none.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
REBALANCES: Final = Instrument(
    "tailrace_rebalances_total", Type.COUNTER, "Assignments of partitions to this process.",
    ("loop", "role"), {"role": ROLES},
)  # fmt: skip
LOOP_LAG: Final = Instrument(
    "tailrace_event_loop_lag_seconds", Type.HISTOGRAM, "How much later than asked the event loop woke up.",
    buckets=LOOP_LAG_BUCKETS_S,
)  # fmt: skip
LOG_MESSAGES: Final = Instrument(
    "tailrace_log_messages_total", Type.COUNTER, "Log messages by level, suppressed repeats included.",
    ("level",), {"level": LOG_LEVELS},
)  # fmt: skip
HTTP_REQUESTS: Final = Instrument(
    "tailrace_http_requests_total", Type.COUNTER,
    "Requests to operations of the API, by route as /openapi.json names it, and status.",
    ("method", "route", "status"), {"method": HTTP_METHODS, "status": HTTP_STATUSES},
)  # fmt: skip
HTTP_DURATION: Final = Instrument(
    "tailrace_http_request_duration_seconds", Type.HISTOGRAM,
    "Time from a request's head to the answer's; of a stream to its beginning.",
    ("method", "route"), {"method": HTTP_METHODS}, buckets=LATENCY_BUCKETS_S,
)  # fmt: skip
HTTP_STREAMS: Final = Instrument("tailrace_http_active_streams", Type.GAUGE, "Streams of the API that are open.")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))
"""Every instrument, in the order of declaration."""


class Instruments:
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        # A `_created` series beside every counter would double the number of series; nobody reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._counters: dict[Instrument, Counter] = {}
        self._gauges: dict[Instrument, Gauge] = {}
        self._histograms: dict[Instrument, _BatchHistogram] = {}
        for instrument in ALL:
            self._register(instrument)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def add(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """Raise a counter.

        Raises:
            ContractError: A label has a value outside of its closed set.
        """
        counter = self._counters[instrument]
        (counter.labels(*_checked(instrument, labels)) if labels else counter).inc(amount)

    def set(self, instrument: Instrument, value: float, *labels: str) -> None:
        """Set a gauge; raises like `add`."""
        gauge = self._gauges[instrument]
        (gauge.labels(*_checked(instrument, labels)) if labels else gauge).set(value)

    def observe(self, instrument: Instrument, values: Iterable[float], *labels: str) -> None:
        """Put many values into a histogram at once; raises like `add`."""
        self._histograms[instrument].observe(_checked(instrument, labels), values)

    def remove(self, instrument: Instrument, *labels: str) -> None:
        """Forget one series of a gauge, if it is there: what it told about is no longer this process's business."""
        gauge = self._gauges[instrument]
        try:
            gauge.remove(*labels)
        except KeyError:
            return

    def _register(self, instrument: Instrument) -> None:
        labels = instrument.labels
        if instrument.type is Type.COUNTER:
            self._counters[instrument] = Counter(instrument.name, instrument.help, labels, registry=self.registry)
        elif instrument.type is Type.GAUGE:
            self._gauges[instrument] = Gauge(instrument.name, instrument.help, labels, registry=self.registry)
        else:
            self._histograms[instrument] = _BatchHistogram(instrument)
            self.registry.register(self._histograms[instrument])


def _checked(instrument: Instrument, labels: Sequence[str]) -> tuple[str, ...]:
    for name, value in zip(instrument.labels, labels, strict=True):
        allowed = instrument.closed.get(name)
        if allowed is not None and value not in allowed:
            raise ContractError(f"{instrument.name} has no {name} {value!r}; allowed are {', '.join(sorted(allowed))}")
    return tuple(labels)


class _BatchHistogram(Collector):
    """A histogram that takes a batch of values in one call.

    The library's own takes one value in about a microsecond, under a lock; at tens of thousands of events a second
    that alone would be a tenth of the work.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._bounds = [*map(str, instrument.buckets), "+Inf"]
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, labels: tuple[str, ...], values: Iterable[float]) -> None:
        counts = self._counts.setdefault(labels, [0] * len(self._bounds))
        ordered, reached = sorted(values), 0
        for bucket, bound in enumerate((*self._instrument.buckets, inf)):
            below, reached = reached, bisect_right(ordered, bound)
            counts[bucket] += reached - below
        self._sums[labels] = self._sums.get(labels, 0.0) + sum(ordered)

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._instrument.name, self._instrument.help, labels=self._instrument.labels)
        for labels, counts in self._counts.items():
            buckets, reached = [], 0
            for bound, count in zip(self._bounds, counts, strict=True):
                reached += count
                buckets.append((bound, float(reached)))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family

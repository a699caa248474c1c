"""Every Prometheus instrument, declared once: name, type, labels, meaning, buckets.

Label values come from closed sets wherever the declaration names one, and where it names a cap, what comes beyond it is
counted under `_other`: the number of series has a bound. Loop, topic, metric, feature and class names come from the
configuration; ids, keys, values of features, targets and texts never become labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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

from tailrace.domain.books import EQUATIONS
from tailrace.domain.errors import ContractError
from tailrace.domain.records import Code, Stage
from tailrace.domain.snapshots import REASONS, REASONS_OF_SIGNATURES, Kind
from tailrace.domain.status import Role, RoleState
from tailrace.telemetry.histogram import BatchHistogram, Values

OTHER: Final = "_other"
"""What is counted together beyond a cap."""


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
        capped: Label → how many values it may have at most; the first ones keep their names, the rest is OTHER.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    closed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    capped: Mapping[str, int] = field(default_factory=dict)


def _closed(*values: str) -> frozenset[str]:
    return frozenset(values)


EVENT_OUTCOMES: Final = _closed("scored", "abstained", "rejected", "redelivered")
JOIN_OUTCOMES: Final = _closed("joined", "implicit", "dropped", "repeated", "stale", "redelivered")
LABEL_OUTCOMES: Final = _closed(
    "joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned",
    "redelivered", "forwarded", "rejected",
)  # fmt: skip
CPU_STAGES: Final = _closed("decode", "validate", "predict", "join", "learn", "judge", "encode", "send", "snapshot")
SNAPSHOT_PHASES: Final = _closed("encode", "write", "load")
WINDOWS: Final = _closed("all", "rolling")
LOG_LEVELS: Final = _closed("debug", "info", "warning", "error", "critical")
CODES: Final = frozenset(code.value for code in Code)
REJECTION_STAGES: Final = frozenset(stage.value for stage in Stage)
ROLES: Final = frozenset(role.value for role in Role)
ROLE_STATES: Final = frozenset(state.value for state in RoleState)
SNAPSHOT_KINDS: Final = frozenset(kind.value for kind in Kind)
STORE_OPERATIONS: Final = _closed("put", "get", "list", "delete")
HTTP_METHODS: Final = _closed("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)
HTTP_STATUSES: Final = _closed("1xx", "2xx", "3xx", "4xx", "5xx")
BOOK_LINES: Final = frozenset(EQUATIONS)
BOOK_PARTS: Final = frozenset(part for parts in EQUATIONS.values() for part in parts)
DRIFT_LAYERS: Final = _closed("loss")
COMMAND_REASONS: Final = _closed("unreadable", *REASONS_OF_SIGNATURES, "other_log", "admit", "promote")

MOST_PARTITIONS: Final = 64
"""Partitions of one topic, the first ones, that a process shows one by one; the others together."""


def partition_name(partition: int) -> str:
    """Return the value of the label `partition`: the same in every process, whichever partitions it has."""
    return str(partition) if partition < MOST_PARTITIONS else OTHER


MOST_FEATURES: Final = 100
MOST_CLASSES: Final = 50
MOST_ROUTES: Final = 100

LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
END_TO_END_BUCKETS_S: Final = (
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3_600.0, 21_600.0, 86_400.0,
)  # fmt: skip
DURATION_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LABEL_DELAY_BUCKETS_S: Final = (
    0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
)  # fmt: skip
PROBABILITY_BUCKETS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
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
LOOP_INFO: Final = Instrument(
    "tailrace_loop_info", Type.GAUGE,
    "Always 1; the labels name what this process is configured to do. Processes of one loop must agree.",
    ("loop", "task", "contract", "lineage"),
)  # fmt: skip
MODEL_INFO: Final = Instrument(
    "tailrace_model_info", Type.GAUGE, "Always 1; the labels name the model that serves in this process.",
    ("loop", "model", "version"),
)  # fmt: skip
RECORDS_CONSUMED: Final = Instrument(
    "tailrace_consumed_records_total", Type.COUNTER, "Records read, by topic and partition.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
BYTES_CONSUMED: Final = Instrument(
    "tailrace_consumed_bytes_total", Type.COUNTER, "Keys and values of the records read, by topic.",
    ("loop", "role", "topic"), {"role": ROLES},
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
FEATURES_MISSING: Final = Instrument(
    "tailrace_feature_missing_total", Type.COUNTER, "Accepted events without a feature, by feature.",
    ("loop", "feature"), capped={"feature": MOST_FEATURES},
)  # fmt: skip
FEATURES_REJECTED: Final = Instrument(
    "tailrace_feature_rejected_total", Type.COUNTER,
    "Events rejected for a feature: it is missing, out of its bounds, or not of its type.",
    ("loop", "feature"), capped={"feature": MOST_FEATURES},
)  # fmt: skip
PREDICTED_CLASSES: Final = Instrument(
    "tailrace_predicted_class_total", Type.COUNTER, "Predictions of a classifier, by class.",
    ("loop", "model", "class"), capped={"class": MOST_CLASSES},
)  # fmt: skip
PREDICTED_PROBABILITY: Final = Instrument(
    "tailrace_prediction_value", Type.HISTOGRAM, "Predicted probability of the positive class; binary loops only.",
    ("loop", "model"), buckets=PROBABILITY_BUCKETS,
)  # fmt: skip
LABEL_DELAY: Final = Instrument(
    "tailrace_label_delay_seconds", Type.HISTOGRAM, "Time of an event until the timestamp of its label's record.",
    ("loop",), buckets=LABEL_DELAY_BUCKETS_S,
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
    ("loop", "reason"), {"reason": COMMAND_REASONS},
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
    ("loop", "layer", "detector"), {"layer": DRIFT_LAYERS, "detector": _closed("adwin")},
)  # fmt: skip
LAST_DRIFT: Final = Instrument(
    "tailrace_drift_last_timestamp_seconds", Type.GAUGE, "When the last drift signal came.",
    ("loop", "layer"), {"layer": DRIFT_LAYERS},
)  # fmt: skip
BOOKS: Final = Instrument(
    "tailrace_books_records", Type.GAUGE,
    "What became of the records of the whole log up to the learner's position, by line of the books.",
    ("loop", "line", "part"), {"line": BOOK_LINES, "part": BOOK_PARTS},
)  # fmt: skip
BOOKS_DIFFERENCE: Final = Instrument(
    "tailrace_books_difference_records", Type.GAUGE,
    "Records of a line of the books that nothing explains; 0 in a sound log.",
    ("loop", "line"), {"line": _closed("examples")},
)  # fmt: skip
LABEL_TO_INFLUENCE: Final = Instrument(
    "tailrace_label_to_influence_seconds", Type.HISTOGRAM,
    "Timestamp of a label's record until a state that has learned it serves in this process.",
    ("loop",), buckets=LATENCY_BUCKETS_S,
)  # fmt: skip
SERVING_AGE: Final = Instrument(
    "tailrace_serving_state_age_seconds", Type.GAUGE,
    "For how long the training log has held records that the serving state does not contain; 0: it contains all.",
    ("loop",),
)  # fmt: skip
SERVING_LAG: Final = Instrument(
    "tailrace_serving_state_lag_records", Type.GAUGE,
    "Records of the training log (each a block of examples) that the serving state does not contain.", ("loop",),
)  # fmt: skip
SERVING_EVENT_TIME_LAG: Final = Instrument(
    "tailrace_serving_state_event_time_lag_seconds", Type.GAUGE,
    "Newest event that was scored minus newest event that the serving state has learned, in event time.", ("loop",),
)  # fmt: skip
END_TO_END: Final = Instrument(
    "tailrace_end_to_end_latency_seconds", Type.HISTOGRAM,
    "Timestamp of an event's record until its prediction is acknowledged.", ("loop",), buckets=END_TO_END_BUCKETS_S,
)  # fmt: skip
BATCH_DURATION: Final = Instrument(
    "tailrace_batch_duration_seconds", Type.HISTOGRAM,
    "Time from handing over a batch of records until everything that came of it was acknowledged; counted per record.",
    ("loop", "role"), {"role": ROLES}, DURATION_BUCKETS_S,
)  # fmt: skip
STAGE_SECONDS: Final = Instrument(
    "tailrace_stage_seconds_total", Type.COUNTER, "CPU time, not time that passed, that a stage took in this process.",
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
SNAPSHOT_INTERVAL: Final = Instrument(
    "tailrace_snapshot_interval_seconds", Type.GAUGE,
    "How often a snapshot is due while something is learned: `snapshots.every`.", ("loop",),
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
STORE_REQUESTS: Final = Instrument(
    "tailrace_store_request_duration_seconds", Type.HISTOGRAM, "Time that the store of snapshots took to answer.",
    ("operation", "outcome"), {"operation": STORE_OPERATIONS, "outcome": _closed("ok", "failed")}, DURATION_BUCKETS_S,
)  # fmt: skip
COMMITS: Final = Instrument(
    "tailrace_commits_total", Type.COUNTER, "Commits of offsets; refused means that the assignment had moved on.",
    ("loop", "role", "outcome"), {"role": ROLES, "outcome": _closed("ok", "refused", "failed")},
)  # fmt: skip
RECORDS_PRODUCED: Final = Instrument(
    "tailrace_produced_records_total", Type.COUNTER, "Records that were acknowledged, by topic.", ("loop", "topic"),
)  # fmt: skip
PRODUCE_DURATION: Final = Instrument(
    "tailrace_produce_duration_seconds", Type.HISTOGRAM,
    "Time from putting records in line until all of them were acknowledged, by topic.",
    ("loop", "topic"), buckets=DURATION_BUCKETS_S,
)  # fmt: skip
PRODUCE_WAITING: Final = Instrument(
    "tailrace_produce_waiting_bytes", Type.GAUGE, "Bytes that were put in line and are not acknowledged.", ("loop",),
)  # fmt: skip
PRODUCER_RENEWALS: Final = Instrument(
    "tailrace_producer_renewals_total", Type.COUNTER,
    "Producers that were given up because a send failed or was late; what was not acknowledged is sent again.",
    ("loop",),
)  # fmt: skip
LAG_RECORDS: Final = Instrument(
    "tailrace_consumer_lag_records", Type.GAUGE, "Records between what was completed and the end of the partition.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
LAG_SECONDS: Final = Instrument(
    "tailrace_consumer_lag_seconds", Type.GAUGE, "Age of the oldest record that is not completed; 0: there is none.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
COMPLETED_OFFSET: Final = Instrument(
    "tailrace_consumer_completed_offset", Type.GAUGE, "Everything before it is completed in this partition.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
LAST_PROGRESS: Final = Instrument(
    "tailrace_consumer_last_progress_timestamp_seconds", Type.GAUGE,
    "When something was last completed in this partition, or nothing was left to do.",
    ("loop", "role", "topic", "partition"), {"role": ROLES},
)  # fmt: skip
ASSIGNED: Final = Instrument(
    "tailrace_consumer_assigned_partitions", Type.GAUGE,
    "Partitions that this process reads; the sum over processes is the number of partitions.",
    ("loop", "role", "topic"), {"role": ROLES},
)  # fmt: skip
TOPIC_PARTITIONS: Final = Instrument(
    "tailrace_topic_partitions", Type.GAUGE, "Partitions that a topic of the loop has, as this process last saw it.",
    ("loop", "topic"),
)  # fmt: skip
PAUSED: Final = Instrument(
    "tailrace_consumer_paused_partitions", Type.GAUGE,
    "Assigned partitions of which nothing is taken now: what they need is restored, or too much waits.",
    ("loop", "role", "topic"), {"role": ROLES},
)  # fmt: skip
IN_FLIGHT: Final = Instrument(
    "tailrace_in_flight_batches", Type.GAUGE, "Batches of records that are handed over and not completed.",
    ("loop", "role", "topic"), {"role": ROLES},
)  # fmt: skip
REBALANCES: Final = Instrument(
    "tailrace_rebalances_total", Type.COUNTER, "Assignments of partitions to this process.",
    ("loop", "role"), {"role": ROLES},
)  # fmt: skip
REBALANCE_DURATION: Final = Instrument(
    "tailrace_rebalance_duration_seconds", Type.HISTOGRAM,
    "Time from giving up partitions until this process was told which ones it has.",
    ("loop", "role"), {"role": ROLES}, DURATION_BUCKETS_S,
)  # fmt: skip
RESTORE_DURATION: Final = Instrument(
    "tailrace_restore_duration_seconds", Type.HISTOGRAM,
    "Time from when a role began to start or restore until it ran.",
    ("loop", "role"), {"role": ROLES}, END_TO_END_BUCKETS_S,
)  # fmt: skip
RESTORE_REMAINING: Final = Instrument(
    "tailrace_restore_remaining_records", Type.GAUGE,
    "Records of the log's tail that a restore has still to fold; 0 while a role runs.",
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
    "tailrace_http_requests_total", Type.COUNTER, "HTTP requests that were answered, by route and class of status.",
    ("method", "route", "status"), {"method": HTTP_METHODS, "status": HTTP_STATUSES}, capped={"route": MOST_ROUTES},
)  # fmt: skip
HTTP_DURATION: Final = Instrument(
    "tailrace_http_request_duration_seconds", Type.HISTOGRAM,
    "Time from a request until its answer began, by route.",
    ("method", "route"), {"method": HTTP_METHODS}, DURATION_BUCKETS_S, {"route": MOST_ROUTES},
)  # fmt: skip
HTTP_STREAMS: Final = Instrument(
    "tailrace_http_streams_active", Type.GAUGE, "Streams of events that are open now, by route.",
    ("route",), capped={"route": MOST_ROUTES},
)  # fmt: skip

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))
"""Every instrument, in the order of declaration."""


class Instruments:
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        # A `_created` series beside every counter would double the number of series; nobody reads them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._metrics: dict[Instrument, Counter | Gauge] = {}
        self._histograms: dict[Instrument, BatchHistogram] = {}
        self._series: dict[tuple[Instrument, tuple[str, ...]], Counter | Gauge] = {}
        self._labels: dict[tuple[Instrument, tuple[str, ...]], tuple[str, ...]] = {}
        self._named: dict[tuple[Instrument, str], set[str]] = {}
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
        self._one(instrument, labels).inc(amount)

    def set(self, instrument: Instrument, value: float, *labels: str) -> None:
        """Set a gauge; raises like `add`."""
        gauge = self._one(instrument, labels)
        assert isinstance(gauge, Gauge), f"{instrument.name} is no gauge"
        gauge.set(value)

    def move(self, instrument: Instrument, amount: float, *labels: str) -> None:
        """Raise or lower a gauge; raises like `add`."""
        self._one(instrument, labels).inc(amount)

    def observe(
        self,
        instrument: Instrument,
        values: Values,
        *labels: str,
        weight: int = 1,
        exemplar: tuple[str, float] | None = None,
    ) -> None:
        """Put many values into a histogram at once; raises like `add`.

        Args:
            weight: How often each value counts.
            exemplar: Trace id and value of one of them, for whoever reads OpenMetrics.
        """
        self._histograms[instrument].observe(self._named_by(instrument, labels), values, weight, exemplar)

    def remove(self, instrument: Instrument, *labels: str) -> None:
        """Forget one series of a gauge, if it is there: what it told about is no longer this process's business."""
        if self._series.pop((instrument, labels), None) is not None:
            self._metrics[instrument].remove(*labels)

    def _one(self, instrument: Instrument, labels: tuple[str, ...]) -> Counter | Gauge:
        found = self._series.get((instrument, labels))
        if found is None:
            named = self._named_by(instrument, labels)
            metric = self._metrics[instrument]
            found = self._series[instrument, named] = metric.labels(*named) if named else metric
        return found

    def _named_by(self, instrument: Instrument, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of the series that counts these: checked once, capped ones in place of what is too many."""
        known = self._labels.get((instrument, labels))
        if known is not None:
            return known
        named = tuple(self._capped(instrument, *each) for each in zip(instrument.labels, labels, strict=True))
        if named == labels:  # others are asked for again: what is unbounded may not be remembered
            self._labels[instrument, labels] = named
        return named

    def _capped(self, instrument: Instrument, label: str, value: str) -> str:
        allowed = instrument.closed.get(label)
        if allowed is not None and value not in allowed:
            raise ContractError(f"{instrument.name} has no {label} {value!r}; allowed are {', '.join(sorted(allowed))}")
        most = instrument.capped.get(label)
        if most is None:
            return value
        seen = self._named.setdefault((instrument, label), set())
        if value not in seen and len(seen) >= most:
            return OTHER
        seen.add(value)
        return value

    def _register(self, instrument: Instrument) -> None:
        if instrument.type is Type.HISTOGRAM:
            self._histograms[instrument] = BatchHistogram(
                instrument.name, instrument.help, instrument.labels, instrument.buckets
            )
            self.registry.register(self._histograms[instrument])
        else:
            make = Counter if instrument.type is Type.COUNTER else Gauge
            self._metrics[instrument] = make(
                instrument.name, instrument.help, instrument.labels, registry=self.registry
            )

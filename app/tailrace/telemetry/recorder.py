"""Domain outcomes → instruments, and the plain numbers that `status` shows.

Agents call a Recorder once per batch, never per event. One Recorder speaks for one loop of one process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter, thread_time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.books import EQUATIONS
from tailrace.domain.records import Rejection
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import PartitionStatus, Quantiles, Role, RoleState, ServingStatus
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import OTHER, Instrument, Instruments, partition_name

REMEMBERED_LATENCIES: Final = 4_096
"""Of the last labels: p50 and p99 in `status` are about these."""


_JOIN_GAUGES: Final = (declared.JOIN_WAITING, declared.JOIN_EARLY, declared.JOIN_REMEMBERED)


class Timed:
    """A block whose CPU time is added to a stage."""

    __slots__ = ("_begun_s", "_recorder", "_stage")

    def __init__(self, recorder: Recorder, stage: str) -> None:
        self._recorder = recorder
        self._stage = stage
        self._begun_s = 0.0

    def __enter__(self) -> None:
        self._begun_s = thread_time()

    def __exit__(self, *raised: object) -> None:
        self._recorder.stage(self._stage, thread_time() - self._begun_s)


class Recorder:
    """Tells what happened in one loop.

    Attributes:
        counts: Everything that was counted since this process began, e.g. "events_scored", "labels_joined".
    """

    def __init__(self, instruments: Instruments, loop: str) -> None:
        self.counts: Counter[str] = Counter()
        self._instruments = instruments
        self._loop = loop
        self._latencies_ms: deque[float] = deque(maxlen=REMEMBERED_LATENCIES)
        self._settling_since_s: dict[Role, float] = {}
        self._progress: dict[tuple[Role, str, int], tuple[int, int]] = {}
        self._shown: dict[tuple[Role, str], frozenset[str]] = {}
        self._joins_beyond: dict[int, tuple[int, int, int]] = {}  # of the partitions that are shown as one
        self._serves: tuple[str, str] | None = None
        self._renewals = 0

    # ── the process ─────────────────────────────────────────────────────────────────────────────────────────────

    def role(self, role: Role, state: RoleState) -> None:
        """Say in which state a role is; one that runs at last says how long that took."""
        for other in RoleState:
            self._instruments.set(declared.ROLE_STATE, float(other is state), self._loop, role.value, other.value)
        if state in {RoleState.STARTING, RoleState.RESTORING}:
            self._settling_since_s.setdefault(role, perf_counter())
            return
        since_s = self._settling_since_s.pop(role, None)
        if state is RoleState.RUNNING and since_s is not None:
            took_s = perf_counter() - since_s
            self._instruments.observe(declared.RESTORE_DURATION, (took_s,), self._loop, role.value)
            self.restoring(role, 0)

    def restoring(self, role: Role, remaining: int) -> None:
        """Say how many records a restore has still to fold."""
        self._instruments.set(declared.RESTORE_REMAINING, remaining, self._loop, role.value)

    def configured(self, *, task: str, contract: str, lineage: str) -> None:
        """Name what this process is configured to do; of ids the first twelve digits are enough."""
        self._instruments.set(declared.LOOP_INFO, 1, self._loop, task, contract[:12], lineage[:12])

    def rebalanced(self, role: Role, took_s: float | None = None) -> None:
        """Count one assignment, and the time since partitions were given up for it, where any were."""
        self._instruments.add(declared.REBALANCES, 1, self._loop, role.value)
        self.counts["rebalances"] += 1
        if took_s is not None:
            self._instruments.observe(declared.REBALANCE_DURATION, (took_s,), self._loop, role.value)

    # ── records ─────────────────────────────────────────────────────────────────────────────────────────────────

    def consumed(self, role: Role, topic: str, partition: int, records: int, size_bytes: int = 0) -> None:
        """Count records that were read, and the bytes of their keys and values."""
        name = partition_name(partition)
        self._instruments.add(declared.RECORDS_CONSUMED, records, self._loop, role.value, topic, name)
        self._instruments.add(declared.BYTES_CONSUMED, size_bytes, self._loop, role.value, topic)

    def completed(self, role: Role, records: int, seconds: float) -> None:
        """Say how long a batch took from being handed over until everything that came of it was acknowledged."""
        self._instruments.observe(declared.BATCH_DURATION, (seconds,), self._loop, role.value, weight=records)

    def produced(self, topic: str, records: int, seconds: float | None = None) -> None:
        """Count records that were acknowledged, and how long after they were put in line."""
        self._instruments.add(declared.RECORDS_PRODUCED, records, self._loop, topic)
        if seconds is not None and records:
            self._instruments.observe(declared.PRODUCE_DURATION, (seconds,), self._loop, topic)

    def committed(self, role: Role, outcome: str, commits: int = 1) -> None:
        """Count commits; outcome is "ok", "refused" or "failed"."""
        self._instruments.add(declared.COMMITS, commits, self._loop, role.value, outcome)

    def producing(self, *, waiting_bytes: int, renewals: int) -> None:
        """Say what waits to be acknowledged, and how many producers were given up since this process began."""
        self._instruments.set(declared.PRODUCE_WAITING, waiting_bytes, self._loop)
        self._instruments.add(declared.PRODUCER_RENEWALS, renewals - self._renewals, self._loop)
        self._renewals = renewals

    def reading(
        self,
        role: Role,
        partitions: Iterable[PartitionStatus],
        now_ms: int,
        *,
        paused: Mapping[str, int],
        held: Mapping[str, int],
    ) -> None:
        """Say how far this process is in the partitions that it reads for a role; those of before are forgotten.

        Those beyond the first `MOST_PARTITIONS` of a topic are shown as one: the lags summed, the oldest age, the last
        progress of the one that stands still longest.

        Args:
            paused, held: Topic → partitions of which nothing is taken now; batches that are not completed.
        """
        by_topic: dict[str, list[PartitionStatus]] = {topic: [] for shown, topic in self._shown if shown is role}
        for each in partitions:
            by_topic.setdefault(each.topic, []).append(each)
        for topic, mine in by_topic.items():
            for gauge, count in (
                (declared.ASSIGNED, len(mine)),
                (declared.PAUSED, paused.get(topic, 0)),
                (declared.IN_FLIGHT, held.get(topic, 0)),
            ):
                self._instruments.set(gauge, count, self._loop, role.value, topic)
            groups: dict[str, list[PartitionStatus]] = {}
            for each in mine:
                groups.setdefault(partition_name(each.partition), []).append(each)
            for name, group in groups.items():
                self._one_partition(role, topic, name, group, now_ms)
            for name in self._shown.get((role, topic), frozenset()) - groups.keys():
                self._forget(role, topic, name)
            self._shown[role, topic] = frozenset(groups)

    def topics(self, partitions: Mapping[str, int]) -> None:
        """Say how many partitions topics have, by topic."""
        for topic, count in partitions.items():
            self._instruments.set(declared.TOPIC_PARTITIONS, count, self._loop, topic)

    def _one_partition(self, role: Role, topic: str, name: str, group: Sequence[PartitionStatus], now_ms: int) -> None:
        labels = (self._loop, role.value, topic, name)
        moved = [self._moved(role, each, now_ms) for each in group]
        self._instruments.set(declared.LAST_PROGRESS, min(moved) / 1_000, *labels)
        self._instruments.set(declared.COMPLETED_OFFSET, sum(each.next_offset for each in group), *labels)
        lags = [each.lag_records for each in group if each.lag_records is not None]
        ages = [each.lag_seconds for each in group if each.lag_seconds is not None]
        for gauge, values in ((declared.LAG_RECORDS, lags and [sum(lags)]), (declared.LAG_SECONDS, ages)):
            if values:
                self._instruments.set(gauge, max(values), *labels)
            else:
                self._instruments.remove(gauge, *labels)

    def _moved(self, role: Role, each: PartitionStatus, now_ms: int) -> int:
        """Return when a partition last moved; at its end there is nothing to move to."""
        key = (role, each.topic, each.partition)
        offset, moved_ms = self._progress.get(key, (-1, 0))
        if offset != each.next_offset or not each.lag_records:
            self._progress[key] = (each.next_offset, now_ms)
            return now_ms
        return moved_ms

    def forget_partition(self, role: Role, topic: str, partition: int) -> None:
        """Drop the gauges of a partition that this process no longer has; of those shown as one `reading` does."""
        name = partition_name(partition)
        self._progress.pop((role, topic, partition), None)
        if name != OTHER:
            self._forget(role, topic, name)
            self._shown[role, topic] = self._shown.get((role, topic), frozenset()) - {name}
        if role is Role.JOIN:
            self._joins_beyond.pop(partition, None)
            if name == OTHER and self._joins_beyond:
                self._show_joins(name, *self._held_beyond())
            else:
                for gauge in _JOIN_GAUGES:
                    self._instruments.remove(gauge, self._loop, name)

    def _forget(self, role: Role, topic: str, name: str) -> None:
        for gauge in (declared.LAG_RECORDS, declared.LAG_SECONDS, declared.COMPLETED_OFFSET, declared.LAST_PROGRESS):
            self._instruments.remove(gauge, self._loop, role.value, topic, name)

    def rejected(self, topic: str, rejections: Iterable[Rejection]) -> None:
        """Count records that were put on a dead-letter topic, by their first topic."""
        every = list(rejections)
        for (stage, code), count in Counter((each.stage.value, each.code.value) for each in every).items():
            self._instruments.add(declared.DEAD_LETTERS, count, self._loop, topic, stage, code)
            self.counts["dead_letters"] += count
        for feature, count in Counter(each.feature for each in every if each.feature).items():
            self._instruments.add(declared.FEATURES_REJECTED, count, self._loop, feature)

    # ── outcomes ────────────────────────────────────────────────────────────────────────────────────────────────

    def events(self, outcomes: Mapping[str, int]) -> None:
        """Count events by outcome of scoring: scored, abstained, rejected, redelivered."""
        self._outcomes(declared.EVENTS, "events", outcomes)

    def event_joins(self, outcomes: Mapping[str, int]) -> None:
        """Count scored events by outcome of the join: joined, implicit, dropped, repeated, stale, redelivered."""
        self._outcomes(declared.EVENT_JOINS, "event_joins", outcomes)

    def labels(self, outcomes: Mapping[str, int]) -> None:
        """Count labels by outcome: one of `instruments.LABEL_OUTCOMES`."""
        self._outcomes(declared.LABELS, "labels", outcomes)

    def unknown_fields(self, fields: int) -> None:
        """Count fields that the contract does not name."""
        self._instruments.add(declared.UNKNOWN_FIELDS, fields, self._loop)

    def features_missing(self, names: Sequence[str], absent: NDArray[np.bool_]) -> None:
        """Count accepted events without a feature: rows × features, in the order of `names`."""
        for name, count in zip(names, absent.sum(axis=0).tolist(), strict=True):
            if count:
                self._instruments.add(declared.FEATURES_MISSING, count, self._loop, name)

    def predicted_classes(self, model: str, classes: Sequence[str], y_pred: NDArray[np.float64]) -> None:
        """Count the predictions of a classifier; NaN: it abstained, which is an outcome of the event."""
        chosen = y_pred[~np.isnan(y_pred)].astype(np.intp)
        for name, count in zip(classes, np.bincount(chosen, minlength=len(classes)).tolist(), strict=True):
            if count:
                self._instruments.add(declared.PREDICTED_CLASSES, count, self._loop, model, name)

    def predicted_probabilities(self, model: str, probabilities: NDArray[np.float64]) -> None:
        """Take predicted probabilities of the positive class; NaN is left out."""
        self._instruments.observe(declared.PREDICTED_PROBABILITY, probabilities, self._loop, model)

    def label_delays(self, seconds: NDArray[np.float64]) -> None:
        """Take how long after their events labels came; negative: a label that came early counts as 0."""
        self._instruments.observe(declared.LABEL_DELAY, np.maximum(seconds, 0.0), self._loop)

    def join_holds(self, partition: int, *, waiting: int, early: int, remembered: int) -> None:
        """Say what the join of one partition holds in memory; of those that are shown as one it is summed."""
        name, held = partition_name(partition), (waiting, early, remembered)
        if name == OTHER:
            self._joins_beyond[partition] = held
            held = self._held_beyond()
        self._show_joins(name, *held)

    def _show_joins(self, name: str, *held: int) -> None:
        for gauge, count in zip(_JOIN_GAUGES, held, strict=True):
            self._instruments.set(gauge, count, self._loop, name)

    def _held_beyond(self) -> tuple[int, int, int]:
        waiting, early, remembered = zip(*self._joins_beyond.values(), strict=True)
        return sum(waiting), sum(early), sum(remembered)

    # ── learning ────────────────────────────────────────────────────────────────────────────────────────────────

    def learned(self, *, examples: int, skipped: int = 0, fenced: int = 0, now_ms: int) -> None:
        """Count what one batch of the training log came to: examples, skipped examples, fenced blocks."""
        for instrument, name, count in (
            (declared.EXAMPLES_LEARNED, "learned", examples),
            (declared.EXAMPLES_SKIPPED, "skipped", skipped),
            (declared.BLOCKS_FENCED, "fenced", fenced),
        ):
            self._instruments.add(instrument, count, self._loop)
            self.counts[name] += count
        if examples:
            self._instruments.set(declared.LAST_LEARN, now_ms / 1_000, self._loop)

    def decided(self, kind: str, *, is_refused: bool) -> None:
        """Count an admission, promotion or retirement that stands in the log, and whether it changed anything."""
        outcome = "refused" if is_refused else "done"
        self._instruments.add(declared.DECISIONS, 1, self._loop, kind, outcome)
        self.counts[f"decisions_{outcome}"] += 1

    def command_refused(self, reason: str) -> None:
        """Count a command that was not even taken into the log."""
        self._instruments.add(declared.COMMANDS_REFUSED, 1, self._loop, reason)
        self.counts["commands_refused"] += 1

    def model_position(self, role: Role, offset: int) -> None:
        """Say up to which offset of the training log the state that a role uses is folded."""
        self._instruments.set(declared.MODEL_POSITION, offset, self._loop, role.value)

    def serves(self, model: str, version: str) -> None:
        """Name the model that serves in this process."""
        if self._serves != (model, version):
            if self._serves is not None:
                self._instruments.remove(declared.MODEL_INFO, self._loop, *self._serves)
            self._serves = (model, version)
            self._instruments.set(declared.MODEL_INFO, 1, self._loop, model, version)

    def serving(self, status: ServingStatus) -> None:
        """Say how old the serving state is; what is not known is not shown."""
        for gauge, value in (
            (declared.SERVING_AGE, status.age_seconds),
            (declared.SERVING_LAG, status.lag_records),
            (declared.SERVING_EVENT_TIME_LAG, status.event_time_lag_seconds),
        ):
            if value is None:
                self._instruments.remove(gauge, self._loop)
            else:
                self._instruments.set(gauge, value, self._loop)

    def books(self, counters: Mapping[str, Mapping[str, int]]) -> None:
        """Say what became of the records of the whole log.

        Args:
            counters: Line of the books → its parts and, under its own name, its total.
        """
        for line, counts in counters.items():
            for part in EQUATIONS[line]:
                if part in counts:
                    self._instruments.set(declared.BOOKS, counts[part], self._loop, line, part)
            if line in counts:  # of the other lines nobody but `tailrace books` knows the total
                explained = sum(counts.get(part, 0) for part in EQUATIONS[line])
                self._instruments.set(declared.BOOKS_DIFFERENCE, counts[line] - explained, self._loop, line)

    def quality(self, model: str, window: str, metrics: Mapping[str, float], samples: int) -> None:
        """Say the quality of the served predictions; window is "all" or "rolling"."""
        for metric, value in metrics.items():
            self._instruments.set(declared.MODEL_METRIC, value, self._loop, model, metric, window)
        self._instruments.set(declared.MODEL_METRIC_SAMPLES, samples, self._loop, model, window)

    def baseline(self, baseline: str, window: str, metrics: Mapping[str, float]) -> None:
        """Say the quality of a trivial model, e.g. "no_change" or "prior"."""
        for metric, value in metrics.items():
            self._instruments.set(declared.MODEL_METRIC_BASELINE, value, self._loop, baseline, metric, window)

    def drifted(self, now_ms: int, layer: str = "loss", detector: str = "adwin", signals: int = 1) -> None:
        """Count drift signals that came now."""
        self._instruments.add(declared.DRIFTS, signals, self._loop, layer, detector)
        self._instruments.set(declared.LAST_DRIFT, now_ms / 1_000, self._loop, layer)
        self.counts["drifts"] += signals

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def label_to_influence(self, latencies_ms: NDArray[Any]) -> None:
        """Take label-to-influence latencies, one per label; negative ones (clocks differ) count as 0."""
        latencies = np.maximum(latencies_ms, 0)
        self._latencies_ms.extend(latencies.tolist())
        self._instruments.observe(declared.LABEL_TO_INFLUENCE, latencies / 1_000, self._loop)

    def label_to_influence_quantiles(self) -> Quantiles | None:
        """Return p50 and p99 of the last few thousand; None when there was none."""
        return Quantiles.of(self._latencies_ms)

    def end_to_end(self, latencies_ms: NDArray[Any], traced: tuple[float, str] | None = None) -> None:
        """Take latencies from an event's Kafka time to the acknowledgement of its prediction.

        Args:
            traced: The latency and the trace id of one of them; None: none is traced.
        """
        seconds = np.maximum(latencies_ms, 0) / 1_000
        exemplar = None if traced is None else (traced[1], max(traced[0], 0) / 1_000)
        self._instruments.observe(declared.END_TO_END, seconds, self._loop, exemplar=exemplar)

    def stage(self, stage: str, seconds: float) -> None:
        """Add CPU time to a stage: decode, validate, predict, join, learn, judge, encode, send, snapshot."""
        self._instruments.add(declared.STAGE_SECONDS, seconds, self._loop, stage)

    def timed(self, stage: str) -> Timed:
        """Add the CPU time of the block to a stage. The block must not await: other tasks would be counted too."""
        return Timed(self, stage)

    # ── snapshots ───────────────────────────────────────────────────────────────────────────────────────────────

    def snapshots_every(self, interval_ms: int) -> None:
        """Say how often a snapshot is due."""
        self._instruments.set(declared.SNAPSHOT_INTERVAL, interval_ms / 1_000, self._loop)

    def snapshot_done(self, kind: Kind, *, size_bytes: int, now_ms: int) -> None:
        """Say that a snapshot or publication is complete."""
        self._instruments.add(declared.SNAPSHOTS, 1, self._loop, kind.value, "ok")
        self._instruments.set(declared.SNAPSHOT_TIME, now_ms / 1_000, self._loop, kind.value)
        self._instruments.set(declared.SNAPSHOT_BYTES, size_bytes, self._loop, kind.value)
        self.counts[f"{kind.value}s"] += 1

    def snapshot_failed(self, kind: Kind) -> None:
        """Count one that could not be completed."""
        self._instruments.add(declared.SNAPSHOTS, 1, self._loop, kind.value, "failed")
        self.counts[f"{kind.value}s_failed"] += 1

    def snapshot_replaced(self, kind: Kind) -> None:
        """Count one that was given up for a newer one, because the store did not take it in time."""
        self._instruments.add(declared.SNAPSHOTS, 1, self._loop, kind.value, "replaced")
        self.counts[f"{kind.value}s_replaced"] += 1

    def snapshot_retried(self, kind: Kind) -> None:
        """Count one try to store and index that failed and is made again."""
        self._instruments.add(declared.SNAPSHOT_RETRIES, 1, self._loop, kind.value)
        self.counts[f"{kind.value}_retries"] += 1

    def snapshots_waiting(self, kind: Kind, waiting: int) -> None:
        """Say how many are encoded and not yet stored and indexed."""
        self._instruments.set(declared.SNAPSHOTS_WAITING, waiting, self._loop, kind.value)

    def snapshot_refused(self, reason: str) -> None:
        """Count one that was not loaded; `reason` is that of SnapshotRefused or Refusal."""
        self._instruments.add(declared.SNAPSHOTS_REFUSED, 1, self._loop, reason)

    def snapshot_phase(self, phase: str, seconds: float) -> None:
        """Say how long a phase took: encode, write (store and index), load."""
        self._instruments.observe(declared.SNAPSHOT_DURATION, (seconds,), self._loop, phase)

    # ── proof ───────────────────────────────────────────────────────────────────────────────────────────────────

    def digests_compared(self, equal: int) -> None:
        """Count positions at which another process came to the same state."""
        self._instruments.add(declared.DIGESTS_COMPARED, equal, self._loop, "equal")
        self.counts["digests_equal"] += equal

    def diverged(self) -> None:
        """Count a position at which another process came to a different state."""
        self._instruments.add(declared.DIGESTS_COMPARED, 1, self._loop, "different")
        self._instruments.add(declared.DIVERGENCES, 1, self._loop)
        self.counts["divergences"] += 1

    def verified(self, outcome: str, share: float | None) -> None:
        """Count a verification: equal, different or failed; `share` of snapshots proven, None: not known."""
        self._instruments.add(declared.VERIFICATIONS, 1, self._loop, outcome)
        self.counts[f"verifications_{outcome}"] += 1
        if share is not None:
            self._instruments.set(declared.SNAPSHOTS_PROVEN, share, self._loop)

    def _outcomes(self, instrument: Instrument, name: str, outcomes: Mapping[str, int]) -> None:
        for outcome, count in outcomes.items():
            self._instruments.add(instrument, count, self._loop, outcome)
            self.counts[f"{name}_{outcome}"] += count


class ProcessRecorder:
    """Tells what concerns the whole process and no loop."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def build(self, versions: Mapping[str, str]) -> None:
        """Name the versions that run; those of `tailrace_build_info` are taken, "" where one is missing."""
        labels = (versions.get(name, "") for name in declared.BUILD_INFO.labels)
        self._instruments.set(declared.BUILD_INFO, 1, *labels)

    def ready(self, *, is_ready: bool) -> None:
        """Say whether /readyz answers 200."""
        self._instruments.set(declared.READY, float(is_ready))

    def event_loop_lag(self, seconds: float) -> None:
        """Take how much later than asked the event loop woke up."""
        self._instruments.observe(declared.LOOP_LAG, (seconds,))

    def store_request(self, operation: str, outcome: str, seconds: float) -> None:
        """Say how long the store took to answer: put, get, list or delete; ok or failed."""
        self._instruments.observe(declared.STORE_REQUESTS, (seconds,), operation, outcome)

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request and how long it took until its answer began; `route` is the template, not the path."""
        named = method if method in declared.HTTP_METHODS else OTHER
        self._instruments.add(declared.HTTP_REQUESTS, 1, named, route, f"{status // 100}xx")
        self._instruments.observe(declared.HTTP_DURATION, (seconds,), named, route)

    def http_streams(self, route: str, change: int) -> None:
        """Say that a stream of events began, +1, or ended, -1."""
        self._instruments.move(declared.HTTP_STREAMS, change, route)

    def log_message(self, level: str) -> None:
        """Count one log message; a level of a library's own counts as info."""
        self._instruments.add(declared.LOG_MESSAGES, 1, level if level in declared.LOG_LEVELS else "info")

"""Domain outcomes → instruments, and the plain numbers that `status` shows.

Agents call a Recorder once per batch, never per event. One Recorder speaks for one loop of one process.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import thread_time
from typing import Final

from tailrace.domain.records import Rejection
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import Quantiles, Role, RoleState
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import Instrument, Instruments

REMEMBERED_LATENCIES: Final = 4_096
"""Of the last labels: p50 and p99 in `status` are about these."""


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

    # ── the process ─────────────────────────────────────────────────────────────────────────────────────────────

    def role(self, role: Role, state: RoleState) -> None:
        """Say in which state a role is."""
        for other in RoleState:
            self._instruments.set(declared.ROLE_STATE, float(other is state), self._loop, role.value, other.value)

    def rebalanced(self, role: Role) -> None:
        """Count one assignment."""
        self._instruments.add(declared.REBALANCES, 1, self._loop, role.value)
        self.counts["rebalances"] += 1

    # ── records ─────────────────────────────────────────────────────────────────────────────────────────────────

    def consumed(self, role: Role, topic: str, partition: int, records: int) -> None:
        """Count records that were read."""
        self._instruments.add(declared.RECORDS_CONSUMED, records, self._loop, role.value, topic, str(partition))

    def produced(self, topic: str, records: int) -> None:
        """Count records that were acknowledged."""
        self._instruments.add(declared.RECORDS_PRODUCED, records, self._loop, topic)

    def committed(self, role: Role, outcome: str, commits: int = 1) -> None:
        """Count commits; outcome is "ok", "refused" or "failed"."""
        self._instruments.add(declared.COMMITS, commits, self._loop, role.value, outcome)

    def lag(self, role: Role, topic: str, partition: int, *, records: int, seconds: float | None) -> None:
        """Say how far one assigned partition is behind; `seconds` None: not known."""
        labels = (self._loop, role.value, topic, str(partition))
        self._instruments.set(declared.LAG_RECORDS, records, *labels)
        if seconds is None:
            self._instruments.remove(declared.LAG_SECONDS, *labels)
        else:
            self._instruments.set(declared.LAG_SECONDS, seconds, *labels)

    def forget_partition(self, role: Role, topic: str, partition: int) -> None:
        """Drop the gauges of a partition that this process no longer has."""
        for gauge in (declared.LAG_RECORDS, declared.LAG_SECONDS):
            self._instruments.remove(gauge, self._loop, role.value, topic, str(partition))
        if role is Role.JOIN:
            for gauge in (declared.JOIN_WAITING, declared.JOIN_EARLY, declared.JOIN_REMEMBERED):
                self._instruments.remove(gauge, self._loop, str(partition))

    def rejected(self, topic: str, rejections: Iterable[Rejection]) -> None:
        """Count records that were put on a dead-letter topic, by their first topic."""
        for (stage, code), count in Counter((each.stage.value, each.code.value) for each in rejections).items():
            self._instruments.add(declared.DEAD_LETTERS, count, self._loop, topic, stage, code)
            self.counts["dead_letters"] += count

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

    def join_holds(self, partition: int, *, waiting: int, early: int, remembered: int) -> None:
        """Say what the join of one partition holds in memory."""
        self._instruments.set(declared.JOIN_WAITING, waiting, self._loop, str(partition))
        self._instruments.set(declared.JOIN_EARLY, early, self._loop, str(partition))
        self._instruments.set(declared.JOIN_REMEMBERED, remembered, self._loop, str(partition))

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

    def quality(self, model: str, window: str, metrics: Mapping[str, float], samples: int) -> None:
        """Say the quality of the served predictions; window is "all" or "rolling"."""
        for metric, value in metrics.items():
            self._instruments.set(declared.MODEL_METRIC, value, self._loop, model, metric, window)
        self._instruments.set(declared.MODEL_METRIC_SAMPLES, samples, self._loop, model, window)

    def baseline(self, baseline: str, window: str, metrics: Mapping[str, float]) -> None:
        """Say the quality of a trivial model, e.g. "no_change" or "prior"."""
        for metric, value in metrics.items():
            self._instruments.set(declared.MODEL_METRIC_BASELINE, value, self._loop, baseline, metric, window)

    def drifted(self, layer: str = "loss", detector: str = "adwin", signals: int = 1) -> None:
        """Count drift signals."""
        self._instruments.add(declared.DRIFTS, signals, self._loop, layer, detector)
        self.counts["drifts"] += signals

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def label_to_influence(self, latencies_ms: Iterable[float]) -> None:
        """Take label-to-influence latencies, one per label; negative ones (clocks differ) count as 0."""
        latencies = [max(latency, 0.0) for latency in latencies_ms]
        self._latencies_ms.extend(latencies)
        self._instruments.observe(declared.LABEL_TO_INFLUENCE, (latency / 1_000 for latency in latencies), self._loop)

    def label_to_influence_quantiles(self) -> Quantiles | None:
        """Return p50 and p99 of the last few thousand; None when there was none."""
        return Quantiles.of(self._latencies_ms)

    def end_to_end(self, latencies_ms: Iterable[float]) -> None:
        """Take latencies from an event's Kafka time to the acknowledgement of its prediction."""
        self._instruments.observe(
            declared.END_TO_END, (max(latency, 0.0) / 1_000 for latency in latencies_ms), self._loop
        )

    def stage(self, stage: str, seconds: float) -> None:
        """Add CPU time to a stage: decode, validate, predict, join, learn, judge, encode, send, snapshot."""
        self._instruments.add(declared.STAGE_SECONDS, seconds, self._loop, stage)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the CPU time of the block to a stage. The block must not await: other tasks would be counted too."""
        begun = thread_time()
        try:
            yield
        finally:
            self.stage(stage, thread_time() - begun)

    # ── snapshots ───────────────────────────────────────────────────────────────────────────────────────────────

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
        """Say how long a phase took: encode, write, index, load."""
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

    def log_message(self, level: str) -> None:
        """Count one log message; a level of a library's own counts as info."""
        self._instruments.add(declared.LOG_MESSAGES, 1, level if level in declared.LOG_LEVELS else "info")

    def http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take one request to an operation of the API; the route is its template, which has no names in it."""
        self._instruments.add(declared.HTTP_REQUESTS, 1, method, route, str(status))
        self._instruments.observe(declared.HTTP_DURATION, (seconds,), method, route)

    def http_streams(self, count: int) -> None:
        """Say how many streams are open."""
        self._instruments.set(declared.HTTP_STREAMS, count)

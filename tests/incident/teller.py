"""A second process of the loop, which tells of what no loop can be made to do on demand.

It is no loop: the product's own recorder is told what agents would tell it, and its registry is scraped. So names,
labels and their values are those of the product, and what Prometheus and Alertmanager make of them is real.
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest

from tailrace.demo.place import LOOP
from tailrace.domain.status import PartitionStatus, Role, RoleState, ServingStatus
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder

ALERTS = frozenset(
    {
        "TailraceBooksUnbalanced",
        "TailraceCommitsFailing",
        "TailraceConfigurationsDiffer",
        "TailraceDigestsDiffer",
        "TailraceExamplesSkipped",
        "TailraceFollowingBehind",
        "TailraceFollowingStalled",
        "TailraceFollowingStopped",
        "TailraceJoiningBehind",
        "TailraceJoiningHindered",
        "TailraceJoiningStalled",
        "TailraceLagHigh",
        "TailraceLearningBehind",
        "TailraceLearningStalled",
        "TailracePartitionsReadTwice",
        "TailracePartitionsUnread",
        "TailracePredictionsAbstained",
        "TailraceRebalanceStorm",
        "TailraceScoringBehind",
        "TailraceScoringHindered",
        "TailraceScoringStalled",
        "TailraceSnapshotNotProven",
        "TailraceSnapshotRefused",
    }
)
"""What it tells of."""

TOPICS = {Role.SCORE: "pages", Role.JOIN: "verdicts", Role.LEARN: f"{LOOP}.training", Role.FOLLOW: f"{LOOP}.training"}
TICK_S = 0.5


class Teller:
    """Serves nothing until it is told to begin."""

    def __init__(self, port: int) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(generate_latest(outer._registry))

            def log_message(self, *_: object) -> None:
                """Say nothing of every request."""

        self._registry = CollectorRegistry()
        self._telling: threading.Event | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, name="teller", daemon=True).start()

    def begin(self) -> None:
        """Tell of everything."""
        instruments = Instruments()
        self._registry, self._telling = instruments.registry, threading.Event()
        told = (Recorder(instruments, LOOP), self._telling)
        threading.Thread(target=_tell_on, args=told, name="telling", daemon=True).start()

    def end(self) -> None:
        """Tell of nothing any more."""
        if self._telling is not None:
            self._telling.set()
        self._registry = CollectorRegistry()

    def stop(self) -> None:
        """End it."""
        self.end()
        self._server.shutdown()
        self._server.server_close()


def _tell_on(recorder: Recorder, ending: threading.Event) -> None:
    begun_ms = int(time.time() * 1_000)  # noqa: TID251 - Prometheus compares it with the present
    recorder.configured(task="binary", contract="0" * 64, lineage="0" * 64)
    recorder.role(Role.FOLLOW, RoleState.FAILED)
    recorder.snapshot_refused("signature")
    recorder.verified("different", None)
    recorder.diverged()
    recorder.books({"examples": {"examples": 5, "learned": 3}})
    recorder.topics({"pages": 9})
    lag = 0
    while not ending.wait(TICK_S):
        lag += 100
        for role, topic in TOPICS.items():
            partition = PartitionStatus(topic, 0, 0, lag, lag, 60.0)
            recorder.reading(role, [partition], begun_ms, paused={topic: 1}, held={})
            recorder.rebalanced(role)
            recorder.committed(role, "failed")
        recorder.serving(ServingStatus(0, 60.0, 9, 60.0))
        recorder.learned(examples=0, skipped=1, now_ms=begun_ms)
        recorder.events({"abstained": 50})

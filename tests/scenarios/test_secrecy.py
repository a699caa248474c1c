"""What people may read who run a loop holds no feature value, no target, no id and no secret: planted ones are sought.

Guards logs at the level debug, what /metrics answers, heartbeats, and traces.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from tests.scenarios.harness import Scenario, now_ms, until

from tailrace.main import process as processes
from tailrace.streams.log import Outgoing
from tailrace.streams.score_agent import ScoreAgent
from tailrace.telemetry import logs

VALUE, NUMBER, TARGET, ID = "planted-value", 4711.0815471108, "planted-target", "planted-id"
KEY, HEADER, SECRET = "planted-key", "planted-header", "planted-secret"
PLANTED = (VALUE, str(NUMBER), TARGET, ID, KEY, HEADER, SECRET)

# A model that tells what it saw when it raises, as careless ones do.
CARELESS = """
from river import base


class Careless(base.Classifier):
    def __init__(self):
        self.learned = 0

    def learn_one(self, x, y):
        if x["a"] > 4000:
            raise ValueError(f"cannot learn {x} with {y}; asked planted-secret@store")
        self.learned += 1

    def predict_proba_one(self, x):
        if x["a"] > 5000:
            raise ValueError(f"cannot predict {x}")
        return {False: 0.5, True: 0.5}


def build():
    return Careless()
"""


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.configure("debug", "json", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def spans(monkeypatch) -> Any:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from tailrace.telemetry.traces import Tracing

    made = memory.InMemorySpanExporter()
    monkeypatch.setenv("TAILRACE_TRACING__ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TAILRACE_TRACING__EVERY", "1")
    monkeypatch.setattr(processes, "open_tracing", lambda _endpoint, every, **names: Tracing(made, every, **names))
    return made


async def test_what_nobody_foresaw_ends_a_process_and_its_text_is_told_nowhere(
    told, embedded_form, tmp_path, monkeypatch
):
    """Guards the way of a crash through mode and Faust, which log it with its text and a traceback."""
    scenario = await Scenario.make(embedded_form, tmp_path)
    process = await scenario.start()

    async def fail(*_: object) -> None:
        raise ValueError(f"cannot score {VALUE}, {NUMBER}")

    monkeypatch.setattr(ScoreAgent, "_score", fail)
    await scenario.user.events({"id": ID, "at": now_ms(), "a": NUMBER, "b": 1.0})
    await until(lambda: process.crashed, "the process has crashed")
    reason, heartbeat = process.crash_reason, scenario.loop_of(process).heartbeat.picture()
    await scenario.close()

    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert isinstance(reason, ValueError)
    (crash, *_) = [line for line in lines if "Crashed" in line["event"]]
    assert "Crashed reason=ValueError at streams/score_agent.py:" in crash["event"]
    assert crash["exception"].endswith("ValueError (text not told)")
    assert [] == [planted for planted in PLANTED if planted in told.getvalue() + repr(heartbeat)]


FAILS = f"""
import sys
from mode import Service
from tailrace.streams import worker
from tailrace.telemetry import logs


class Failing(Service):
    failure = on_failure = None

    @Service.task
    async def _work(self) -> None:
        raise ValueError("{VALUE}")


logs.configure("debug", sys.argv[1])
sys.exit(worker.run(Failing()))
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_worker_that_ends_so_says_the_type_and_not_the_text(log_format):
    ended = subprocess.run(
        [sys.executable, "-c", FAILS, log_format], capture_output=True, text=True, timeout=60, check=False
    )

    assert 75 == ended.returncode, ended.stderr
    assert "ended by an unexplained state; start again" in ended.stderr
    assert "ValueError (text not told)" in ended.stderr
    assert VALUE not in ended.stderr + ended.stdout


async def test_nothing_that_was_planted_is_told_to_who_runs_a_loop(told, spans, log_form, tmp_path):
    (tmp_path / "careless_models.py").write_text(CARELESS)
    scenario = await Scenario.make(
        log_form,
        tmp_path,
        champion={"model": "careless_models:build", "experimental": True},
        features={"a": "number", "b": {"type": "number", "missing": "absent"}, "note": "text"},
        labels={"topic": log_form.topic("labels"), "id": "id", "target": "y", "positive": TARGET},
    )
    process = await scenario.start()
    topics, at = scenario.domain.topics, now_ms()
    events = [
        {"id": f"{ID}-{number}", "at": at + number, "a": float(number), "note": f"{VALUE}-{number}"}
        for number in range(20)
    ]
    events += [
        {"id": f"{ID}-learn", "at": at, "a": NUMBER, "note": VALUE},
        {"id": f"{ID}-predict", "at": at, "a": NUMBER + 1_000, "note": VALUE},
        {"id": f"{ID}-type", "at": at, "a": VALUE, "note": VALUE},
        {"id": f"{ID}-more", "at": at, "a": 1.0, "note": VALUE, VALUE: VALUE},
        {"id": f"{ID}-time", "at": VALUE, "a": 1.0, "note": VALUE},
        {"id": f"{ID}-0", "at": at, "a": 2.0, "note": VALUE},
    ]
    headers = [("traceparent", HEADER.encode()), (HEADER, HEADER.encode())]
    raw = [Outgoing(KEY.encode(), orjson.dumps(event), headers) for event in events]
    garbage = [Outgoing(KEY.encode(), f"{{{VALUE}".encode()), Outgoing(KEY.encode(), b"\xff" + VALUE.encode())]
    await scenario.user.raw(topics.events, 0, *raw, *garbage)
    labels = [{"id": event["id"], "y": TARGET} for event in events[:21]]
    labels += [{"id": f"{ID}-0", "y": f"{TARGET}-not"}, {"id": f"{ID}-orphan", "y": TARGET}, {"id": [ID], "y": TARGET}]
    await scenario.user.labels(*labels)
    loop = scenario.loop_of(process)
    await until(lambda: loop.models.live is not None and loop.models.live.champion.skipped == 1, "one is skipped")
    await until(lambda: scenario.learned(process) == 20, "the others are learned")
    await until(lambda: loop.recorder.counts["dead_letters"] >= 5, "what cannot be used is put away")
    heartbeat = loop.heartbeat.picture()
    await scenario.stop(process)
    await scenario.close()

    lines = told.getvalue().splitlines()
    seen = {
        "logs": told.getvalue(),
        "metrics": generate_latest(process.instruments.registry).decode(),
        "openmetrics": openmetrics(process.instruments.registry).decode(),
        "heartbeat": repr(heartbeat),
        "spans": "".join(span.to_json() for span in spans.get_finished_spans()),
    }
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert any("the model raised" in line for line in lines)
    assert '"score"' in seen["spans"]
    assert [] == [(place, planted) for place, text in seen.items() for planted in PLANTED if planted in text]

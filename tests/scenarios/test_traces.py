"""A trace goes through the whole loop: from the producer's span to the snapshot, and to whoever reads the prediction."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.main import process as processes
from tailrace.streams.log import Outgoing
from tailrace.telemetry.traces import Tracing, sampled, trace_id_of

TRACE, LABEL_TRACE, OTHER_TRACE = "ab" * 16, "12" * 16, "34" * 16


def header(trace_id: str, flags: str = "01") -> tuple[str, bytes]:
    return "traceparent", f"00-{trace_id}-{'cd' * 8}-{flags}".encode()


@pytest.fixture
def exporter(monkeypatch):
    made = InMemorySpanExporter()
    monkeypatch.setenv("TAILRACE_TRACING__ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(processes, "open_tracing", lambda _endpoint, every, **names: Tracing(made, every, **names))
    return made


@pytest.fixture
async def scenario(exporter, log_form, tmp_path):
    made = await Scenario.make(log_form, tmp_path)
    yield made
    await made.close()


async def test_one_trace_from_event_to_snapshot(scenario, exporter):
    process = await scenario.start()
    topics = scenario.domain.topics
    events, labels = pairs(3, now_ms())
    sent = [
        Outgoing(None, orjson.dumps(events[0]), [header(TRACE), ("tracestate", b"a=b")]),
        Outgoing(None, orjson.dumps(events[1]), [header(OTHER_TRACE, "00")]),
        Outgoing(None, orjson.dumps(events[2])),
    ]
    await scenario.user.raw(topics.events, 0, *sent)
    for label in labels:
        traced = [header(LABEL_TRACE)] if label["id"] == "e0" else []
        at = scenario.user.home(label["id"])
        await scenario.user.raw(topics.labels, at, Outgoing(label["id"].encode(), orjson.dumps(label), traced))
    await until(lambda: scenario.learned(process) == 3, "every label is learned")

    def found() -> list[Any]:
        process._tracing._provider.force_flush()
        return list(exporter.get_finished_spans())

    await until(lambda: any(span.name == "snapshot" for span in found()), "a snapshot holds it")

    spans = {span.name: span for span in found()}
    assert {"score", "join", "learn", "snapshot"} == set(spans)
    assert {TRACE} == {f"{span.context.trace_id:032x}" for span in spans.values()}
    assert LABEL_TRACE == f"{spans['join'].links[0].context.trace_id:032x}"
    headers = {record.offset: list(record.headers) for record in await scenario.user.read(topics.predictions)}
    assert trace_id_of(sampled(headers[0]) or b"") == TRACE
    assert f"{spans['score'].context.span_id:016x}" == headers[0][0][1].decode()[36:52]
    assert ("tracestate", b"a=b") == headers[0][1]
    assert [[header(OTHER_TRACE, "00")], []] == [headers[1], headers[2]]


async def test_an_exemplar_of_the_latency_names_the_trace_of_an_event(scenario):
    from prometheus_client.openmetrics.exposition import generate_latest

    process = await scenario.start()
    events, _ = pairs(1, now_ms())
    await scenario.user.raw(scenario.domain.topics.events, 0, Outgoing(None, orjson.dumps(events[0]), [header(TRACE)]))

    await until(lambda: f'trace_id="{TRACE}"' in generate_latest(process.instruments.registry).decode(), "it is told")

"""Traces: W3C headers in and out, rows of blocks, and nothing at all while they are off."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, NamedTuple

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tailrace.telemetry.traces import (
    MOST_REMEMBERED,
    MOST_ROWS,
    ROWS_HEADER,
    Tracing,
    pack,
    sampled,
    trace_id_of,
    traceparent_of,
    unpack,
)

PARENT = b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"
NOT_SAMPLED = PARENT[:-2] + b"00"


class Message(NamedTuple):
    """A record, as far as a trace is concerned."""

    headers: Any = ()
    topic: str = "pages"
    partition: int = 3
    offset: int = 7


def make_tracing(every: int | None = None) -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return Tracing(exporter, every, version="1", member="m1"), exporter


def spans_of(tracing: Tracing, exporter: InMemorySpanExporter) -> list[Any]:
    tracing._provider.force_flush()
    return list(exporter.get_finished_spans())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"garbage",
        NOT_SAMPLED,
        b"01" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT.upper(),
        PARENT + b"\n",
    ],
)
def test_what_is_no_sampled_traceparent_begins_no_span(value: bytes | None):
    tracing, _ = make_tracing()

    assert sampled([("traceparent", value)]) is None
    assert {} == tracing.of("loop").scoring([Message([("traceparent", value)]), Message()])


def test_rows_of_a_block_come_through_its_header_and_garbage_is_passed_over():
    rows = [(0, PARENT), (12, NOT_SAMPLED)]

    assert dict(rows) == unpack([("other", b"1"), *pack(rows)])
    assert () == pack([])
    assert {5: PARENT} == unpack([(ROWS_HEADER, b"x\n1 2\n\n-1 " + PARENT + b"\n5 " + PARENT + b"\n" + b"9" * 400)])
    assert {} == unpack([(ROWS_HEADER, None)])


def test_a_block_carries_a_bounded_number_of_traces():
    assert MOST_ROWS == len(unpack(pack((row, PARENT) for row in range(5 * MOST_ROWS))))


def test_one_trace_goes_from_an_event_to_the_snapshot_of_its_example():
    tracing, exporter = make_tracing()
    scorer, joiner, learner = (tracing.of("loop") for _ in range(3))

    spans = scorer.scoring([Message(), Message([("traceparent", PARENT)])])
    header = pack((place, traceparent_of(span)) for place, span in spans.items())
    scorer.scored(spans, {}, {"model": "champion"})
    joiner.waits(["a", "b"], header)
    label = b"00-" + b"12" * 16 + b"-" + b"34" * 8 + b"-01"
    joiner.label(Message([("traceparent", label)], "verdicts", 0, 40))
    block = joiner.joined(["x", "b"], [(0, 1), (0, 40)], 1)
    learner.learned(Message(block, "log", 0, 9), 10, 1)
    learner.snapshot(9, 1, {"snapshot": "1"})
    learner.snapshot(10, 1, {"snapshot": "2"})
    learner.snapshot(11, 1, {"snapshot": "3"})

    found = spans_of(tracing, exporter)
    assert ["score", "join", "learn", "snapshot"] == [span.name for span in found]
    assert {"ab" * 16} == {f"{span.context.trace_id:032x}" for span in found}
    parents = [f"{span.parent.span_id:016x}" for span in found]
    assert ["cd" * 8, *(f"{span.context.span_id:016x}" for span in found[:-1])] == parents
    assert ["12" * 16] == [f"{link.context.trace_id:032x}" for link in found[1].links]
    assert "2" == found[3].attributes["tailrace.snapshot"]
    assert ("pages", "3", 7) == tuple(
        found[0].attributes[f"messaging.{name}"]
        for name in ("destination.name", "destination.partition.id", "kafka.offset")
    )


def test_an_event_that_could_not_be_used_ends_its_span_with_the_code():
    tracing, exporter = make_tracing()
    traces = tracing.of("loop")

    traces.scored(traces.scoring([Message([("traceparent", PARENT)])]), {0: "not_json"}, {})

    (span,) = spans_of(tracing, exporter)
    assert ("ERROR", "not_json") == (span.status.status_code.name, span.status.description)


def test_of_events_without_a_trace_each_so_many_th_begins_one_and_what_is_not_sampled_never_does():
    tracing, _ = make_tracing(every=3)
    traces = tracing.of("loop")

    found = traces.scoring([Message([("traceparent", NOT_SAMPLED)]), *[Message()] * 7])

    assert [1, 4, 7] == list(found)
    assert 3 == len({trace_id_of(traceparent_of(span)) for span in found.values()})


def test_what_waits_for_a_label_or_a_snapshot_is_bounded():
    tracing, _ = make_tracing()
    traces = tracing.of("loop")

    for number in range(MOST_REMEMBERED + 5):
        traces.waits([str(number)], pack([(0, PARENT)]))
        traces.label(Message([("traceparent", PARENT)], offset=number))

    assert (MOST_REMEMBERED, MOST_REMEMBERED) == (len(traces._waiting), len(traces._labels))
    assert "0" not in traces._waiting


def test_nothing_of_opentelemetry_is_imported_while_traces_are_off():
    code = "import sys, tailrace.main; print([name for name in sys.modules if name.startswith('opentelemetry')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()

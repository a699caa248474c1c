"""OpenTelemetry: one trace from an event to its prediction, its label, its example and the snapshot that holds it.

    the producer's span ─► score ─► join ─► learn ─► snapshot
                             └────► whoever reads the prediction

The context of an event comes in its `traceparent` header (W3C Trace Context) and goes out in that of its prediction.
From one topic of ours to the next it travels in a header of the block, row by row; what waits for a label is
remembered here, the newest few. Traces explain single cases: they are sampled, may end early, and nothing is decided by
them. A span names topics, offsets, models and positions; no id of an event, no feature, no target.

Off, which is the default, nothing of OpenTelemetry is imported and no row is looked at.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

Headers = Sequence[tuple[str, bytes | None]]

TRACEPARENT: Final = "traceparent"
ROWS_HEADER: Final = "tailrace-traceparents"
"""Header of a block: a line `<row> <traceparent>` for each row that is traced."""

MOST_ROWS: Final = 100
"""Rows of one block whose traces go on; 60 bytes each."""

MOST_REMEMBERED: Final = 10_000
"""Events that wait for a label, labels, and examples that wait for a snapshot, each; the oldest is forgotten first."""

_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Traced(Protocol):
    """A record, as far as a trace is concerned."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Headers: ...


def sampled(headers: Headers) -> bytes | None:
    """Return the `traceparent` of a record whose trace is sampled; None: it has none, or is not sampled."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None and _TRACEPARENT.fullmatch(value):
            return value if int(value[-2:], 16) & 1 else None
    return None


def trace_id_of(traceparent: bytes) -> str:
    """Return the trace id in it."""
    return traceparent[3:35].decode()


def pack(rows: Iterable[tuple[int, bytes]]) -> Headers:
    """Return the header of a block in which these rows are traced; none where none is."""
    lines = [b"%d %s" % row for row in rows][:MOST_ROWS]
    return [(ROWS_HEADER, b"\n".join(lines))] if lines else ()


def unpack(headers: Headers) -> dict[int, bytes]:
    """Return row → traceparent of a block; what is not one is passed over."""
    found = {}
    for name, value in headers:
        for line in (value or b"").split(b"\n") if name == ROWS_HEADER else ():
            row, _, traceparent = line.partition(b" ")
            if row.isdigit() and len(row) < 10 and _TRACEPARENT.fullmatch(traceparent):
                found[int(row)] = traceparent
    return found


class Traces:
    """The spans of one loop in one process.

    Args:
        every: Of the events whose producer has begun no trace, each so-many-th begins one here; None: none does.
    """

    def __init__(self, tracer: Tracer, loop: str, every: int | None) -> None:
        self._tracer = tracer
        self._loop = loop
        self._every = every
        self._passed = 0
        self._waiting: OrderedDict[str, bytes] = OrderedDict()
        self._labels: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._learned: OrderedDict[bytes, int] = OrderedDict()

    # ── score ───────────────────────────────────────────────────────────────────────────────────────────────────

    def scoring(self, records: Sequence[Traced]) -> dict[int, Span]:
        """Begin a span for each record that is traced; return index → span."""
        begun_ns, found = time_ns(), {}
        for index, record in enumerate(records):
            parent = sampled(record.headers) if record.headers else None
            if parent is None and (_has_trace(record.headers) or not self._is_due()):
                continue
            found[index] = self._begin("score", parent, begun_ns, _place(record))
        return found

    def scored(self, spans: Mapping[int, Span], failed: Mapping[int, str], facts: Mapping[str, str]) -> None:
        """End spans of a batch, now that everything that came of it is acknowledged.

        Args:
            failed: Index → why the record could not be used.
        """
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

        for index, span in spans.items():
            if index in failed:
                span.set_status(Status(StatusCode.ERROR, failed[index]))
            span.set_attributes({f"tailrace.{name}": value for name, value in facts.items()})
            span.end()

    # ── join ────────────────────────────────────────────────────────────────────────────────────────────────────

    def waits(self, ids: Sequence[str], headers: Headers) -> None:
        """Remember the traced rows of a scored block until their labels come."""
        for row, traceparent in unpack(headers).items():
            if row < len(ids):
                _remember(self._waiting, ids[row], traceparent)

    def label(self, record: Traced) -> None:
        """Remember the trace of a label, which the join links to that of its event."""
        traceparent = sampled(record.headers) if record.headers else None
        if traceparent is not None:
            _remember(self._labels, (record.partition, record.offset), traceparent)

    def joined(self, ids: Sequence[str], labels: Iterable[tuple[int, int]], begun_ns: int) -> Headers:
        """Tell which rows became examples; return the header of their block.

        Args:
            ids, labels: Event id, and partition and offset of the label, of each row.
        """
        if not self._waiting:
            return ()
        rows = []
        for row, (id_, at) in enumerate(zip(ids, labels, strict=True)):
            parent, label = self._waiting.pop(id_, None), self._labels.pop(at, None)
            if parent is not None:
                rows.append((row, self._span("join", parent, begun_ns, {}, () if label is None else (label,))))
        return pack(rows)

    # ── learn ───────────────────────────────────────────────────────────────────────────────────────────────────

    def learned(self, record: Traced, position: int, begun_ns: int) -> None:
        """Tell that a block is in the state, which is folded up to `position`."""
        for traceparent in unpack(record.headers).values():
            place = _place(record) | {"tailrace.position": position}
            _remember(self._learned, self._span("learn", traceparent, begun_ns, place), position)

    def snapshot(self, position: int, begun_ns: int, facts: Mapping[str, str]) -> None:
        """Tell that a snapshot holds everything up to `position`."""
        held = [traceparent for traceparent, at in self._learned.items() if at <= position]
        for traceparent in held:
            del self._learned[traceparent]
            named = {f"tailrace.{name}": value for name, value in facts.items()}
            self._span("snapshot", traceparent, begun_ns, named | {"tailrace.position": position})

    # ── spans ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_due(self) -> bool:
        if self._every is None:
            return False
        self._passed += 1
        return (self._passed - 1) % self._every == 0

    def _span(
        self, name: str, parent: bytes, begun_ns: int, facts: Mapping[str, Any], links: Sequence[bytes] = ()
    ) -> bytes:
        """Make a span that ends now; return its traceparent."""
        span = self._begin(name, parent, begun_ns, facts, links)
        span.end()
        return traceparent_of(span)

    def _begin(
        self,
        name: str,
        parent: bytes | None,
        begun_ns: int,
        facts: Mapping[str, Any],
        links: Sequence[bytes] = (),
    ) -> Span:
        from opentelemetry.context import Context  # noqa: PLC0415 - an extra
        from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, set_span_in_context  # noqa: PLC0415

        context = Context() if parent is None else set_span_in_context(NonRecordingSpan(_context(parent)), Context())
        return self._tracer.start_span(
            name,
            context,
            SpanKind.CONSUMER,
            {"messaging.system": "kafka", "tailrace.loop": self._loop, **facts},
            [Link(_context(link)) for link in links],
            begun_ns,
        )


class Tracing:
    """The exporter of one process; `of` gives each loop its spans."""

    def __init__(self, exporter: SpanExporter, every: int | None, *, version: str, member: str) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415 - what is traced is decided above

        names = {"service.name": "tailrace", "service.version": version, "service.instance.id": member}
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource(names), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._every = every

    def of(self, loop: str) -> Traces:
        """Return the spans of one loop."""
        return Traces(self._provider.get_tracer("tailrace"), loop, self._every)

    def close(self) -> None:
        """Send what waits; may take some seconds."""
        self._provider.shutdown()


def open_tracing(endpoint: str, every: int | None, *, version: str, member: str) -> Tracing:
    """Return what sends spans by OTLP over HTTP.

    Args:
        endpoint: Of a collector, e.g. "http://localhost:4318".

    Raises:
        ImportError: The extra `otel` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra

    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=2)
    return Tracing(exporter, every, version=version, member=member)


def traceparent_of(span: Span) -> bytes:
    """Return the header that names a span as the parent of what comes of it."""
    context = span.get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def _context(traceparent: bytes) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    trace_id, span_id, flags = int(traceparent[3:35], 16), int(traceparent[36:52], 16), int(traceparent[53:], 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))


def _has_trace(headers: Headers) -> bool:
    return any(name == TRACEPARENT for name, _ in headers)


def _place(record: Traced) -> dict[str, Any]:
    """Return where a record lies, in the names of OpenTelemetry's conventions for Kafka (still in development)."""
    return {
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }


def _remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST_REMEMBERED:
        kept.popitem(last=False)

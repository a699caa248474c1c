"""The backend of the HTTP API in a process: answers with its models, looks at the log and writes through the glass."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

from tailrace.domain.access import Token
from tailrace.domain.errors import LogUnavailable, RecordTooLarge, SnapshotRefused
from tailrace.domain.explanation import Explanation
from tailrace.domain.features import FeatureSpec
from tailrace.domain.positions import show
from tailrace.domain.records import Label, Rejection
from tailrace.domain.snapshots import Manifest
from tailrace.domain.status import MemberStatus
from tailrace.inspection import telling
from tailrace.inspection.reading import rfc3339_of
from tailrace.inspection.tail import Tail, Told
from tailrace.main.glass import Glass, Through
from tailrace.main.loops import LoopDomain, now_ms
from tailrace.opening import event_decoder, label_decoder
from tailrace.settings import Settings
from tailrace.stores.token_file import TokenFile
from tailrace.streams.answers import TOO_DEEP, Answered, Answerer, encoded
from tailrace.streams.followers import Models
from tailrace.streams.log import Delivery, Outgoing, TopicPartition
from tailrace.web import problems
from tailrace.web.backend import Plain, Side, StreamEvent
from tailrace.web.problems import ProblemError
from tailrace.web.sharing import Shared
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.prediction_codec import PredictionEncoder

log = structlog.get_logger(__name__)

STATUS_FOR_S: Final = 1.0
"""A picture of the loops, or of the quality of one, serves everyone who asks within so long; so does a failure."""

_TAKE_WITHIN_S: Final = 0.5
_MOST_ERRORS: Final = 50
_NAME_A_LINEAGE: Final = "Name one of them with `lineage`; its first digits are enough."


class _Given(NamedTuple):
    """A record before it is written, as decoders take it."""

    value: bytes | None
    timestamp: int
    partition: int = 0
    offset: int = 0


class LoopBackend:
    """Answers for the loops of a process.

    Args:
        models: The models of a loop in this process; None: it serves none, or not yet.
        is_stopping: Whether streams are to end.
        clock: In seconds; never goes back.
    """

    def __init__(
        self,
        settings: Settings,
        domains: Sequence[LoopDomain],
        models: Callable[[str], Models | None],
        glass: Glass,
        is_stopping: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._domains = {domain.name: domain for domain in domains}
        self._models = models
        self._glass = glass
        self._is_stopping = is_stopping
        self._answerers: dict[str, Answerer] = {}
        self._status: Shared[Plain] = Shared(partial(self._look, _status), STATUS_FOR_S, clock)
        self._judged: dict[str, Shared[list[MemberStatus]]] = {
            domain.name: Shared(partial(self._look, _judged_of(domain)), STATUS_FOR_S, clock) for domain in domains
        }

    @property
    def names(self) -> Sequence[str]:
        """The loops."""
        return tuple(self._domains)

    # ── models ──────────────────────────────────────────────────────────────────────────────────────────────────

    def model(self, name: str) -> Plain:
        """Return a loop and its model."""
        domain = self._domains[name]
        settings, topics = domain.settings, domain.topics
        answerer = self._answerer(name)
        serving = None if answerer is None else answerer.serving
        return {
            "name": name,
            "task": settings.task.value,
            "model": domain.branch.model,
            "contract_id": domain.contract.id,
            "features": [_feature(each) for each in domain.contract.features],
            "classes": list(domain.target.classes),
            "positive": domain.target.positive,
            "negative": domain.target.negative,
            "event_id": settings.events.id,
            "event_time": settings.events.time,
            "label_id": settings.labels.id,
            "label_target": settings.labels.target,
            "label_time": settings.labels.time,
            "topics": {
                "events": topics.events,
                "labels": topics.labels,
                "predictions": topics.predictions,
                "training": topics.training,
                "snapshots": topics.snapshots,
                "model_events": topics.model_events,
            },
            "serving": None
            if serving is None
            else {"model": serving.name, "version": serving.version[:12], "position": show(serving.position)},
        }

    async def predict(self, name: str, instances: Sequence[Plain], *, explain: bool) -> list[Plain]:
        """Answer instances with the model that serves the stream, in the event loop in which it learns."""
        answerer = self._answerer(name)
        answered = None if answerer is None else await answerer.answer(instances, now_ms(), with_reasons=explain)
        if answered is None:
            raise ProblemError(
                problems.NOT_READY, f"this process serves no model of {name} now", headers={"retry-after": "1"}
            )
        return [_answer(each) for each in answered]

    def _answerer(self, name: str) -> Answerer | None:
        if name not in self._answerers:
            models, domain = self._models(name), self._domains[name]
            if models is None:
                return None
            encoder = PredictionEncoder(domain.topics.events, domain.target)
            self._answerers[name] = Answerer(event_decoder(domain.settings), encoder, domain.target, models)
        return self._answerers[name]

    # ── the log, looked at ──────────────────────────────────────────────────────────────────────────────────────

    async def status(self) -> Plain:
        """Return all loops; looks once for all who ask within a second."""
        return await self._status.get()

    async def versions(self, name: str, limit: int) -> Plain:
        """Return the snapshots."""
        topics = self._domains[name].topics

        async def look(through: Through) -> list[Plain]:
            return await telling.versions_of(await through.reading(), topics, limit)

        return {"model": name, "versions": await self._look(look)}

    async def snapshot_head(self, name: str, number: int | None, lineage: str | None) -> Mapping[str, str]:
        """Return what the manifest of a snapshot tells; the store is not asked."""
        return telling.headers_of(await self._manifest(name, number, lineage))

    async def snapshot(self, name: str, number: int | None, lineage: str | None) -> tuple[bytes, Mapping[str, str]]:
        """Return the file of a snapshot."""
        manifest = await self._manifest(name, number, lineage)

        async def fetch(_through: Through) -> bytes:
            return await telling.file_of(self._settings, manifest)

        try:
            # Without a bound: a fetch in a thread cannot be ended, and one that is given up holds its memory uncounted.
            # Stores have deadlines of their own.
            content = await self._glass.ask(fetch, within_s=None)
        except SnapshotRefused as refusal:
            raise ProblemError(problems.NO_SNAPSHOT, str(refusal)) from refusal
        return content, telling.headers_of(manifest)

    async def _manifest(self, name: str, number: int | None, lineage: str | None) -> Manifest:
        topics = self._domains[name].topics

        async def look(through: Through) -> Manifest:
            return await telling.manifest_asked_for(await through.reading(), topics, number, lineage)

        try:
            return await self._glass.ask(look)
        except telling.SeveralLineages as refusal:
            raise ProblemError(problems.INVALID_PARAMETER, str(refusal), hint=_NAME_A_LINEAGE) from refusal
        except SnapshotRefused as refusal:
            raise ProblemError(problems.NO_SNAPSHOT, str(refusal)) from refusal

    async def quality(self, name: str, step_s: int) -> Plain:
        """Return quality over time; reads the heartbeats once for all who ask within a second, whatever the step."""
        judged = await self._judged[name].get()

        async def answer(_through: Through) -> list[Plain]:
            return telling.quality_of(judged, step_s)

        return {"model": name, "points": await self._look(answer)}

    async def predictions(self, name: str, limit: int, cursor: str | None) -> Plain:
        """Return a page of predictions."""
        topics = self._domains[name].topics
        ends = None if cursor is None else [int(each) for each in cursor.split(".")]

        async def look(through: Through) -> telling.Page:
            return await telling.predictions_of(await through.reading(), topics, limit, ends)

        page = await self._look(look)
        return {
            "loop": name,
            "predictions": page.predictions,
            "oldest": None if page.oldest_ms is None else rfc3339_of(page.oldest_ms),
            "next": None if page.ends is None else ".".join(map(str, page.ends)),
        }

    async def _look(self, question: Callable[[Through], Awaitable[Any]]) -> Any:
        return await self._glass.ask(question)

    @asynccontextmanager
    async def stream(
        self, name: str, types: Sequence[str], last_id: str | None
    ) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        """Open a stream of events."""
        topics = self._domains[name].topics

        async def begin(through: Through) -> Tail:
            tail = Tail(await through.reading(), topics, types)
            await tail.open(last_id)
            return tail

        tail = await self._glass.ask(begin)
        try:
            yield self._events(tail)
        finally:
            with suppress(LogUnavailable):
                await self._glass.ask(lambda _: tail.close())

    async def _events(self, tail: Tail) -> AsyncIterator[StreamEvent]:
        async def take(_through: Through) -> list[Told]:
            return await tail.take(_TAKE_WITHIN_S)

        if opening := tail.opening:
            yield StreamEvent("", opening)
        while not self._is_stopping():
            told = await self._glass.ask(take)
            for each in told:
                yield StreamEvent(each.kind, each.cursor, each.data)
            if not told:
                yield StreamEvent("")

    # ── the log, written to ─────────────────────────────────────────────────────────────────────────────────────

    async def write(self, side: Side, name: str, records: Sequence[Plain]) -> Plain:
        """Write events or labels, each to where a client of Kafka would put its key.

        All or none of a request passes the checks. Partitions are written one after the other: where the log fails
        meanwhile, some of it is written.
        """
        settings, topics = self._domains[name].settings, self._domains[name].topics
        of_side = settings.events if side == "events" else settings.labels
        topic = topics.events if side == "events" else topics.labels
        if of_side.format != "json":
            raise ProblemError(
                problems.NOT_WRITABLE, f"{side} of {name} are {of_side.format}; only JSON is written here"
            )
        given = [_Given(encoded(record), now_ms()) for record in records]
        ids = self._checked(side, name, given)

        async def write(through: Through) -> list[Plain]:
            reading, sink = await through.reading(), await through.sink()
            count = len(await reading.ranges(topic))
            largest = max(len(each.value or b"") for each in given)
            if largest > sink.max_record_bytes:  # before the first is sent
                detail = f"a record has {largest} bytes; the log takes {sink.max_record_bytes}"
                raise ProblemError(problems.BODY_TOO_LARGE, detail)
            keys = [each.encode() for each in ids]
            lines: dict[int, list[int]] = {}
            for index, home in enumerate(partitions_of(keys, count)):
                lines.setdefault(home, []).append(index)
            deliveries: list[tuple[int, list[int], Delivery]] = []
            for home, indexes in lines.items():
                outgoing = [Outgoing(keys[index], given[index].value) for index in indexes]
                deliveries.append((home, indexes, await sink.send(TopicPartition(topic, home), outgoing)))
            places = {
                index: (home, offset)
                for home, indexes, delivery in deliveries
                for index, offset in zip(indexes, await delivery, strict=True)
            }
            return [
                {"id": each_id, "partition": places[index][0], "offset": places[index][1]}
                for index, each_id in enumerate(ids)
            ]

        try:
            written = await self._glass.ask(write)
        except RecordTooLarge as refusal:
            raise ProblemError(problems.BODY_TOO_LARGE, str(refusal)) from refusal
        return {"loop": name, "topic": topic, "written": written}

    def _checked(self, side: Side, name: str, given: Sequence[_Given]) -> list[str]:
        """Return the ids of records that the stream will accept.

        Raises:
            ProblemError: It would reject some.
        """
        settings = self._domains[name].settings
        if side == "events":
            events = event_decoder(settings).decode_batch(given)
            found: dict[int, str | Rejection] = dict(zip(events.indexes, events.ids, strict=True)) | dict(
                events.rejected
            )
        else:
            labels = label_decoder(settings).decode_batch(given)
            found = {index: each.id if isinstance(each, Label) else each for index, each in enumerate(labels)}
        found |= {index: TOO_DEEP for index, each in enumerate(given) if each.value is None}
        errors = [
            {"at": f"{side}.{index}", "code": each.code.value, "detail": each.detail}
            for index, each in sorted(found.items())
            if isinstance(each, Rejection)
        ]
        if errors:
            detail = f"{len(errors)} of {len(given)} {side} would be rejected; allowed is what the contract says"
            raise ProblemError(problems.INVALID_RECORDS, detail, errors=errors[:_MOST_ERRORS])
        return [str(found[index]) for index in range(len(given))]


async def _status(through: Through) -> Plain:
    return await telling.status_of(await through.reading(), now_ms())


def _judged_of(domain: LoopDomain) -> Callable[[Through], Awaitable[list[MemberStatus]]]:
    async def judged(through: Through) -> list[MemberStatus]:
        return await telling.judged_of(await through.reading(), domain.topics)

    return judged


def tokens_of(file: TokenFile) -> Callable[[], Mapping[str, Token]]:
    """Return what gives the tokens as they are; a file that cannot be used is told of once."""
    said = ""

    def current() -> Mapping[str, Token]:
        nonlocal said
        found = file.current()
        if found.problem and found.problem != said:
            log.error("tokens cannot be used; every request is refused", why=found.problem)
        said = found.problem
        return found.tokens

    return current


def _answer(answered: Answered) -> Plain:
    rejection = answered.rejection
    if answered.prediction is None:
        assert rejection is not None, "an event is answered or rejected"
        return {"outcome": "rejected", "code": rejection.code.value, "detail": rejection.detail}
    return answered.prediction | {
        "explanation": None if answered.explanation is None else _explanation(answered.explanation)
    }


def _explanation(found: Explanation) -> Plain:
    reasons = [{"what": each.what, "effect": each.effect} for each in found.reasons]
    return {"method": found.method.value, "reasons": reasons, "base": found.base}


def _feature(spec: FeatureSpec) -> Plain:
    return asdict(spec) | {"values": list(spec.values)}

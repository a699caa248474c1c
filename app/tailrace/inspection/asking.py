"""Asks something of the learner of a loop, and waits until the log says what became of it.

A request is signed, names the loop, its log and the epoch that it was made for, and lies on `<loop>.commands` until a
learner takes it. What it decides stands in the training log; what it refuses to take at all it announces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from tailrace.domain.errors import CodecError
from tailrace.domain.pointers import Decision
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import Request, RequestKind
from tailrace.inspection.lineup import Lineup, Loop
from tailrace.inspection.reading import Reading
from tailrace.stores.signing import SigningKey, sign_command
from tailrace.streams.log import Outgoing, Range, TopicPartition
from tailrace.wire.avro_codec import ModelEvent, Signed, decode_model_event, encode_request, encode_signed

_LOOK_EVERY_S: Final = 0.1
_REMIND_S: Final = 10.0

Tell = Callable[[str], None]
"""Told in words how far it is."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked, before it becomes a request.

    Attributes:
        branch: Its lineage; "" where none is meant.
        definition, position, digest, ids, skips: As in `records.Request`.
    """

    kind: RequestKind
    branch: str
    by: str
    why: str
    definition: str = ""
    position: Position = 0
    digest: str = ""
    ids: tuple[str, ...] = ()
    skips: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Attributes:
        offset: Of the request in the commands topic.
        decision: As it stands in the log; None where nobody took the request in time, or where it was refused before.
        refusal: Why nothing was changed, in words; "" otherwise.
        is_waiting: No learner has taken it yet. It stays where it is, and takes effect when one does.
    """

    offset: int
    decision: Decision | None = None
    refusal: str = ""
    is_waiting: bool = False

    @property
    def is_done(self) -> bool:
        """Whether it took effect."""
        return not self.refusal and not self.is_waiting


class Asking:
    """Asks the learner of one loop."""

    def __init__(self, reading: Reading, loop: Loop, key: SigningKey, now_ms: Callable[[], int]) -> None:
        self._reading = reading
        self._loop = loop
        self._key = key
        self._now_ms = now_ms

    async def ask(self, wish: Wish, lineup: Lineup, *, wait_s: float, tell: Tell) -> Answer:
        """Ask, and wait for the answer.

        Args:
            lineup: As it is now; read on while waiting.
            wait_s: For a learner to take it, at most.
        """
        if wish.kind is RequestKind.ADMIT and wish.branch in lineup.pointers.admitted:
            return Answer(-1)
        request = Request(
            id=uuid4().hex,
            loop=self._loop.name,
            log_id=lineup.log_id,
            kind=wish.kind,
            branch=wish.branch,
            expected_epoch=lineup.pointers.epoch,
            by=wish.by,
            why=wish.why,
            made_at_ms=self._now_ms(),
            definition=wish.definition,
            position=wish.position,
            digest=wish.digest,
            ids=wish.ids,
            skips=wish.skips,
        )
        news = TopicPartition(self._loop.topics.model_events, 0)
        told_from = (await self._reading.reader.range_of(news)).end
        since = position_of(lineup.next_offset)
        offset = await self._send(request)
        tell(f"{wish.kind} is asked for; waiting for a learner to take it")

        async def look() -> Answer | None:
            await lineup.read_on()
            for decision in lineup.pointers.decisions:
                if decision.position >= since and _is_about(decision, request):
                    return Answer(offset, decision, decision.refusal)
            refusal = await self._refusal(news, told_from, request, offset)
            return Answer(offset, None, refusal) if refusal else None

        return await _until(look, wait_s, tell) or Answer(offset, is_waiting=True)

    async def snapshot(self, lineup: Lineup, *, by: str, wait_s: float, tell: Tell) -> Answer:
        """Let the learner keep its state now, as of the present end of the log or later.

        Returns at once where a snapshot reaches that far already.
        """
        target = position_of(lineup.next_offset)
        index = self._loop.index(self._reading)

        async def look() -> Answer | None:
            await index.read(self._reading.reader)
            return Answer(offset) if any(manifest.position >= target for manifest in index.newest()) else None

        offset = -1
        found = await look()
        if found is not None:
            return found
        request = Request(
            id=uuid4().hex,
            loop=self._loop.name,
            log_id=lineup.log_id,
            kind=RequestKind.SNAPSHOT,
            branch="",
            expected_epoch=lineup.pointers.epoch,
            by=by,
            why="asked for by hand",
            made_at_ms=self._now_ms(),
        )
        offset = await self._send(request)
        tell("snapshot is asked for; waiting for a learner to take it")
        return await _until(look, wait_s, tell) or Answer(offset, is_waiting=True)

    async def _send(self, request: Request) -> int:
        payload = encode_request(request)
        signed = Signed(payload, self._key.key_id, sign_command(self._key, payload))
        record = Outgoing(self._loop.name.encode(), encode_signed(signed))
        async with self._reading.sink() as sink:
            delivery = await sink.send(TopicPartition(self._loop.topics.commands, 0), [record])
            return (await delivery)[0]

    async def _refusal(self, news: TopicPartition, start: int, request: Request, offset: int) -> str:
        """Return why the learner did not even take the request into the log; "" where it did not say so."""
        held = await self._reading.reader.range_of(news)
        async for record in self._reading.records(news, Range(max(start, held.start), held.end)):
            event = _event_of(record.value)
            names = {request.id, f"at offset {offset}"}
            if event is not None and event.kind == "command_refused" and event.texts.get("id") in names:
                return event.detail
        return ""


def _is_about(decision: Decision, request: Request) -> bool:
    return decision.kind == request.kind.value and decision.branch == request.branch and decision.by == request.by


def _event_of(value: bytes | None) -> ModelEvent | None:
    try:
        return decode_model_event(value or b"")
    except CodecError:
        return None


async def _until(look: Callable[[], Awaitable[Answer | None]], wait_s: float, tell: Tell) -> Answer | None:
    loop = asyncio.get_running_loop()
    end_s, remind_s = loop.time() + wait_s, loop.time() + _REMIND_S
    while True:
        found = await look()
        if found is not None or loop.time() >= end_s:
            return found
        if loop.time() >= remind_s:
            tell("still waiting; `tailrace status` shows whether a learner runs")
            remind_s += _REMIND_S
        await asyncio.sleep(_LOOK_EVERY_S)

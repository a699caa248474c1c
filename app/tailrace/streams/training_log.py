"""The training log: bounded reads of it, and claims of a part of it.

A claim, numbered as the code repeats it:
    1. Read who owns the part, to the end of the log.
    2. Make a successful commit of unchanged offsets: a member of an older generation is refused here.
    3. Append the claim, naming the owner that was read.
    4. Read up to the claim; it counts only if that owner still was the owner there. Else begin again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import orjson
import structlog

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.errors import ForeignLogError, OwnershipLost
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import (
    CorrectedTargets,
    CorrectionsByEvent,
    Logged,
    LogRecord,
    Notices,
    read_notices,
)
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position, offset_of
from tailrace.domain.records import LEARNER, Claim, LearnerRecord, Owner
from tailrace.streams import failpoints
from tailrace.streams.log import Outgoing, Range, Reader, Record, Sink, TopicPartition, value_of
from tailrace.streams.sizes import pieces
from tailrace.wire.avro_codec import BlockHead, block_head, decode_training, encode_training, is_training_block

log = structlog.get_logger(__name__)

_MOST_HINTS: Final = 10_000

DECODED_AT_ONCE: Final = 50
"""Blocks that are held decoded while many are read: one of a few rows takes ten times what its bytes do."""

Confirm = Callable[[], Awaitable[bool]]
"""Makes a commit of unchanged offsets; False: it was refused."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Where a joiner may begin to read the log: an accepted block at or before everything it still needs.

    Kept as commit metadata. Only a hint: a block that is not what it says makes the joiner read from the start.
    """

    offset: int
    owner: Owner
    number: int

    def dump(self, **also: int) -> str:
        """Return the text that is committed, with what else belongs to the commit."""
        return orjson.dumps({"offset": self.offset, "owner": self.owner, "number": self.number, **also}).decode()

    @classmethod
    def load(cls, text: str) -> Hint | None:
        """Read the text; None when it is something else."""
        try:
            plain = orjson.loads(text)
            return cls(int(plain["offset"]), str(plain["owner"]), int(plain["number"]))
        except (ValueError, TypeError, KeyError):
            return None


PASSED = "passed"
"""Beside a hint: the offset up to which markers of transactions were read behind the last label."""


def passed_of(text: str) -> int:
    """Return what stands beside a hint; 0 where nothing does."""
    found = orjson.loads(text).get(PASSED)
    return found if isinstance(found, int) else 0


def add_hint(hints: deque[Hint], hint: Hint, oldest_row: int) -> None:
    """Add the newest block; the first hint stays at or before the oldest row that is still needed.

    Where they are many, every other one is left out; the newest stays.
    """
    hints.append(hint)
    while len(hints) > 1 and hints[1].offset <= oldest_row:
        hints.popleft()
    if len(hints) > _MOST_HINTS:
        kept = list(hints)[::2]
        hints.clear()
        hints.extend(kept)


@dataclass(slots=True)
class View:
    """What the log says about one part, up to `next_offset`.

    Of blocks no more than the head is read: one that is damaged behind it counts, and whoever decodes it finds out.

    Attributes:
        last: The part's newest block that counts; None: there is none.
        hints: Of its blocks that count, as `add_hint` keeps them; all are needed.
        is_cut: The log no longer begins at its first record, so its first claims cannot be judged.
    """

    part: int
    next_offset: int
    ownership: OwnershipState
    last: Record | None = None
    hints: deque[Hint] = field(default_factory=deque)
    is_cut: bool = False

    def read(self, record: Record) -> bool:
        """Take the next record of the log into account; return whether it is a block of the part, and counts.

        Raises:
            CodecError: It is not one of ours.
        """
        content = _head_or_notice(record)
        self.next_offset = record.offset + 1
        if self.is_cut and self.part not in self.ownership.owners:
            self._presume(content)
        if isinstance(content, Claim):
            self.ownership.claim(content)
        elif not isinstance(content, BlockHead):
            if self.part == LEARNER:
                self.ownership.accept(LEARNER, content.owner, content.number)
        elif content.partition == self.part and self.ownership.accept(self.part, content.owner, content.number):
            self.last = record
            add_hint(self.hints, Hint(record.offset, content.owner, content.number), oldest_row=0)
            return True
        return False

    def before(self, offset: int) -> Hint | None:
        """Return the newest hint at or before an offset; None: the view began after it."""
        return next((hint for hint in reversed(self.hints) if hint.offset <= offset), None)

    def _presume(self, content: Claim | LearnerRecord | BlockHead) -> None:
        """Believe the first record that speaks of the part: who owned it before the log's first record is gone."""
        owned = self.ownership
        if not isinstance(content, BlockHead | Claim) or content.partition != self.part:
            return
        owned.log_id = content.log_id
        if isinstance(content, BlockHead):
            owned.owners[self.part], owned.numbers[self.part] = content.owner, content.number - 1
        elif content.after is not None:
            owned.owners[self.part], owned.numbers[self.part] = content.after, 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that counts.

    Attributes:
        offset: Of the claim; the view it was made by holds what lies before it.
    """

    offset: int
    log_id: str


class TrainingLog:
    """The training topic of one loop.

    Args:
        sink: None: the log is only read.
    """

    def __init__(self, reader: Reader, sink: Sink | None, topic: str) -> None:
        self.partition = TopicPartition(topic, 0)
        self._reader = reader
        self._sink = sink

    async def range(self) -> Range:
        """Return the first offset still there and the end offset."""
        return await self._reader.range_of(self.partition)

    async def records(self, start: int, end: int) -> AsyncIterator[Logged]:
        """Yield the decoded records of [start, end).

        Raises:
            CodecError: A record is not one of ours.
            ForeignLogError: `start` lies outside of what the log holds.
        """
        async for batch in self._batches(start, end):
            for record in batch:
                yield logged(record)

    async def notices(self, start: int, end: int, ownership: OwnershipState) -> Notices:
        """Return what the learner's records of [start, end) say.

        Args:
            ownership: As of `start`; not changed.
        """
        return read_notices(await self.no_blocks(start, end), ownership)

    async def no_blocks(self, start: int, end: int) -> list[Logged]:
        """Return claims and the learner's records of [start, end); blocks, nearly all of the log, are not decoded."""
        found: list[Logged] = []
        async for batch in self._batches(start, end):
            found += [logged(each) for each in batch if each.value is None or not is_training_block(each.value)]
        return found

    async def corrections(self, end: Position) -> CorrectionsByEvent:
        """Return the corrections before a position; reads the log from its first record.

        Raises:
            ForeignLogError: The log does not begin at its first record any more.
        """
        held = await self.range()
        if held.start > 0:
            raise ForeignLogError(
                f"{self.partition.topic} begins at offset {held.start}, so which corrections count cannot be told; "
                "leave corrections out, or restore the topic"
            )
        targets = CorrectedTargets(end)
        async for record in self.records(0, min(held.end, offset_of(end) + 1)):
            targets.read(record.offset, record.record)
        return targets.found

    async def value_at(self, offset: int) -> bytes | None:
        """Return the bytes of one record; None when the log does not hold that offset."""
        held = await self.range()
        if not held.start <= offset < held.end:
            return None
        async for batch in self._reader.read(self.partition, offset, offset + 1):
            for record in batch:
                return record.value
        return None

    async def append(self, record: LogRecord) -> int:
        """Append one record; return its offset once it is acknowledged."""
        assert self._sink is not None, "this process only reads the log"
        delivery = await self._sink.send(self.partition, [Outgoing(None, encode_training(record))])
        return (await delivery)[0]

    async def claim(self, part: int, owner: Owner, confirm: Confirm, view: View) -> Claimed:
        """Take over one part of the log.

        Args:
            part: A partition of `scored`, or LEARNER.
            owner: A name that nobody has used.
            view: As of any position; read on to the claim.

        Raises:
            OwnershipLost: The confirming commit was refused: another member has the partition now.
        """
        while True:
            await self._read_on(view, (await self.range()).end)  # 1
            after = view.ownership.owners.get(part)
            if after is None and view.is_cut:
                raise ForeignLogError(
                    f"{self.partition.topic} begins at offset {(await self.range()).start} and says nothing of part "
                    f"{part}: a claim could not name its owner. Restore the topic, or begin a loop with another name."
                )
            failpoints.reached("join.owner_read")
            if not await confirm():  # 2
                raise OwnershipLost(
                    f"another member took part {part} of {self.partition.topic}; this one waits its turn"
                )
            failpoints.reached("join.claim_committed")
            claim = Claim(part, owner, after, view.ownership.log_id or uuid4().hex)
            offset = await self.append(claim)  # 3
            failpoints.reached("join.claim_acknowledged")
            await self._read_on(view, offset)  # 4
            if view.ownership.claim(claim):
                view.next_offset = offset + 1
                return Claimed(offset, view.ownership.log_id)
            log.debug("claim did not count, another came first", topic=self.partition.topic, part=part)

    async def view_from(self, part: int, hint: Hint | None) -> View:
        """Return a view that begins at the hint if the log agrees with it, else at the first offset."""
        found = None if hint is None else await self._named_by(part, hint)
        if hint is not None and found is not None:
            _, head = found
            return View(part, hint.offset, OwnershipState(head.log_id, {part: hint.owner}, {part: hint.number - 1}))
        held = await self.range()
        return View(part, held.start, OwnershipState(), is_cut=held.start > 0)

    async def block_at(self, part: int, hint: Hint) -> TrainingBlock | None:
        """Return the block that a hint names; None when the log holds another record there, or none."""
        found = await self._named_by(part, hint)
        return None if found is None else block_of(found[0])

    async def _named_by(self, part: int, hint: Hint) -> tuple[Record, BlockHead] | None:
        held = await self.range()
        if held.start <= hint.offset < held.end:
            async for batch in self._batches(hint.offset, hint.offset + 1):
                for record in batch:
                    head = _head_or_notice(record)
                    named = part, hint.owner, hint.number
                    if isinstance(head, BlockHead) and (head.partition, head.owner, head.number) == named:
                        return record, head
        return None

    async def accepted(
        self, part: int, hint: Hint | None, after: int, last: int
    ) -> AsyncIterator[Sequence[tuple[int, TrainingBlock]]]:
        """Yield (offset, block) of the blocks of a part that count in (after, last], in batches of DECODED_AT_ONCE.

        Args:
            hint: Of a block at or before the first of them.
            last: Where a block of the part stands that counts, or the same block again: a sink that is renewed sends
                again what was not acknowledged, and only the first of the two is yielded.

        Raises:
            ForeignLogError: What the log says now ends otherwise.
        """
        view = await self.view_from(part, hint)
        if view.is_cut and view.next_offset > after + 1:
            log.warning(
                "the log begins behind blocks that are still needed: what they learned may be learned again when its "
                "label is repeated; keep the log longer than join.horizon",
                topic=self.partition.topic,
                partition=part,
                begins=view.next_offset,
                needed=after + 1,
            )
        async for batch in self._batches(view.next_offset, last + 1):
            counting = [record for record in batch if view.read(record) and record.offset > after]
            for some in pieces(counting, DECODED_AT_ONCE):
                yield [(record.offset, block_of(record)) for record in some]
        if view.last is None or not await self._stands_at(part, view.last, last):
            raise self.lost(part, last)

    async def _stands_at(self, part: int, counting: Record, offset: int) -> bool:
        if counting.offset == offset:
            return True
        head = block_head(value_of(counting))
        assert head is not None, "a view keeps blocks"
        return await self._named_by(part, Hint(offset, head.owner, head.number)) is not None

    def lost(self, part: int, offset: int) -> ForeignLogError:
        """Return what to raise where a block of a part was, and does not count any more."""
        return ForeignLogError(
            f"{self.partition.topic} does not hold the block of partition {part} at offset {offset} any more, or not "
            "what makes it count: records were deleted, or the topic was created anew. Restore the topic, or begin a "
            "loop with another name."
        )

    async def _read_on(self, view: View, end: int) -> None:
        async for batch in self._batches(view.next_offset, end):
            for record in batch:
                view.read(record)

    async def _batches(self, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        if start < end:
            async for batch in self._reader.read(self.partition, start, end):
                yield batch


def logged(record: Record) -> Logged:
    """Decode one record of the training topic.

    Raises:
        CodecError: It has no value, or not one of ours.
    """
    value = value_of(record)
    return Logged(record.offset, decode_training(value), digest_of(value))


def block_of(record: Record) -> TrainingBlock:
    """Decode one record of the training topic whose head is that of a block.

    Raises:
        CodecError: What follows the head is cut or damaged.
    """
    block = decode_training(value_of(record))
    assert isinstance(block, TrainingBlock)
    return block


def _head_or_notice(record: Record) -> BlockHead | Claim | LearnerRecord:
    value = value_of(record)
    head = block_head(value)
    if head is not None:
        return head
    notice = decode_training(value)
    assert not isinstance(notice, TrainingBlock), "a block has a head"
    return notice


__all__ = [
    "Claimed",
    "Confirm",
    "ForeignLogError",
    "Hint",
    "TrainingLog",
    "View",
    "add_hint",
    "block_of",
    "logged",
    "passed_of",
]

"""The training log: bounded reads of it, and claims of a part of it.

A claim, numbered as the code repeats it:
    1. Read who owns the part, to the end of the log.
    2. Make a successful commit of unchanged offsets: a member of an older generation is refused here.
    3. Append the claim, naming the owner that was read.
    4. Read up to the claim; it counts only if that owner still was the owner there. Else begin again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import uuid4

import orjson
import structlog

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.errors import CodecError, ForeignLogError, OwnershipLost
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
from tailrace.domain.records import LEARNER, Claim, Owner
from tailrace.streams import failpoints
from tailrace.streams.log import Outgoing, Range, Reader, Record, Sink, TopicPartition
from tailrace.wire.avro_codec import decode_training, encode_training, is_training_block

log = structlog.get_logger(__name__)

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

    def dump(self) -> str:
        """Return the text that is committed."""
        return orjson.dumps({"offset": self.offset, "owner": self.owner, "number": self.number}).decode()

    @classmethod
    def load(cls, text: str) -> Hint | None:
        """Read the text; None when it is something else."""
        try:
            plain = orjson.loads(text)
            return cls(int(plain["offset"]), str(plain["owner"]), int(plain["number"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclass(slots=True)
class View:
    """What the log says about one part, up to `next_offset`.

    Attributes:
        blocks: (offset, block): accepted blocks of the part that its last vector still needs.
        keeps_last_only: Of those blocks only the last is kept, whatever it needs.
        is_cut: The log no longer begins at its first record, so its first claims cannot be judged.
    """

    part: int
    next_offset: int
    ownership: OwnershipState
    blocks: list[tuple[int, TrainingBlock]] = field(default_factory=list)
    is_cut: bool = False
    keeps_last_only: bool = False

    def read(self, record: Logged) -> None:
        """Take the next record of the log into account."""
        self.next_offset = record.offset + 1
        content = record.record
        if self.is_cut and self.part not in self.ownership.owners:
            self._presume(content)
        if isinstance(content, Claim):
            self.ownership.claim(content)
        elif not isinstance(content, TrainingBlock):
            if self.part == LEARNER:
                self.ownership.accept(LEARNER, content.owner, content.number)
        elif content.partition == self.part and self.ownership.accept(self.part, content.owner, content.number):
            if self.keeps_last_only:
                self.blocks.clear()
            self.blocks.append((record.offset, content))
            oldest = content.vector.oldest_row
            while self.blocks[0][0] < oldest and len(self.blocks) > 1:
                self.blocks.pop(0)

    def _presume(self, content: LogRecord) -> None:
        """Believe the first record that speaks of the part: who owned it before the log's first record is gone."""
        owned = self.ownership
        if not isinstance(content, TrainingBlock | Claim) or content.partition != self.part:
            return
        owned.log_id = content.log_id
        if isinstance(content, TrainingBlock):
            owned.owners[self.part], owned.numbers[self.part] = content.owner, content.number - 1
        elif content.after is not None:
            owned.owners[self.part], owned.numbers[self.part] = content.after, 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that counts.

    Attributes:
        offset: Of the claim: the view holds what lies before it.
    """

    offset: int
    log_id: str
    view: View


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
        if start >= end:
            return
        async for batch in self._reader.read(self.partition, start, end):
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
        if start < end:
            async for batch in self._reader.read(self.partition, start, end):
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
                return Claimed(offset, view.ownership.log_id, view)
            log.debug("claim did not count, another came first", topic=self.partition.topic, part=part)

    async def view_from(self, part: int, hint: Hint | None) -> View:
        """Return a view that begins at the hint if the log agrees with it, else at the first offset."""
        block = None if hint is None else await self.block_at(part, hint)
        if hint is not None and block is not None:
            return View(part, hint.offset, OwnershipState(block.log_id, {part: hint.owner}, {part: hint.number - 1}))
        held = await self.range()
        return View(part, held.start, OwnershipState(), is_cut=held.start > 0)

    async def block_at(self, part: int, hint: Hint) -> TrainingBlock | None:
        """Return the block that a hint names; None when the log holds another record there, or none."""
        held = await self.range()
        if held.start <= hint.offset < held.end:
            async for found in self.records(hint.offset, hint.offset + 1):
                block = found.record
                if isinstance(block, TrainingBlock) and (block.partition, block.owner, block.number) == (
                    part,
                    hint.owner,
                    hint.number,
                ):
                    return block
        return None

    async def accepted(self, part: int, hint: Hint | None, end: int) -> AsyncIterator[tuple[int, TrainingBlock]]:
        """Yield (offset, block) of the blocks of a part that count before `end`, from the hint on."""
        view = await self.view_from(part, hint)
        view.keeps_last_only = True
        async for record in self.records(view.next_offset, end):
            view.read(record)
            if view.blocks and view.blocks[0][0] == record.offset:
                yield view.blocks[0]

    async def _read_on(self, view: View, end: int) -> None:
        async for record in self.records(view.next_offset, end):
            view.read(record)


def logged(record: Record) -> Logged:
    """Decode one record of the training topic.

    Raises:
        CodecError: It has no value, or not one of ours.
    """
    if record.value is None:
        raise CodecError(
            f"offset {record.offset} of {record.topic} has no value; only Tailrace may write this topic. "
            "Find out who wrote it, then restore the topic or begin a loop with another name."
        )
    return Logged(record.offset, decode_training(record.value), digest_of(record.value))


__all__ = ["Claimed", "Confirm", "ForeignLogError", "Hint", "TrainingLog", "View", "logged"]

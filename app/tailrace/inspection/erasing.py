"""Writes the training log of a stopped loop anew, without what the branch that serves leaves out.

A topic cannot be changed in place, so the log is copied twice. Whatever is killed when, nothing is lost and the same
command goes on where it was:
    1. The records are written, rewritten, into a topic beside it, and a seal behind the last one.
    2. The copy is folded: the branch must come to the same model as before, byte for byte.
    3. The training topic is deleted and made again.
    4. The copy is written into it; offsets are those of before.
    5. Snapshots, which hold what was learned from the erased examples, are forgotten and their files deleted.
    6. The topic beside it is deleted.
While it exists no worker starts (`is_under_way`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import orjson

from tailrace.domain.branches import Branch, hash_of_id
from tailrace.domain.erasure import Erasure, survivor_of
from tailrace.domain.errors import LogError
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import offset_of
from tailrace.inspection.past import Past, TimeMachine
from tailrace.inspection.reading import Reading
from tailrace.inspection.snapshots import files_of
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.log import Admin, Outgoing, Range, Sink, TopicPartition, TopicState
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog, logged
from tailrace.streams.warming import Progress, Warming
from tailrace.wire.avro_codec import decode_scored, encode_training
from tailrace.wire.topics import LoopTopics

STAGING_SUFFIX: Final = ".rewriting"
_SEAL: Final = b"tailrace rewriting, complete"  # key of the last record of a complete copy
_SEND_AT_ONCE: Final = 200

Say = Callable[[str], None]
"""Told what is being done."""


class ErasingRefused(LogError):
    """The log cannot be written anew as things are."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done, or would be.

    Attributes:
        branch, survivor: Lineages before and after.
        records: Of the log, as many before as after.
        rows: That were erased.
        events: Hashes of the ids of the events whose example is gone, for looking where else they are.
        log_id: Of the new log; "" where nothing was written.
    """

    branch: str
    survivor: str
    records: int
    rows: int
    events: frozenset[str]
    log_id: str = ""


def staging_of(topics: LoopTopics) -> str:
    """Return the name of the topic beside the training log."""
    return f"{topics.training}{STAGING_SUFFIX}"


class Eraser:
    """Erases from the training log of one loop.

    Args:
        fold: Made anew.
        index: Of the loop, with the keys that are trusted here.
    """

    def __init__(
        self, reading: Reading, topics: LoopTopics, fold: Fold, index: SnapshotIndex, store: SnapshotStore
    ) -> None:
        self._reading = reading
        self._topics = topics
        self._fold = fold
        self._index = index
        self._store = store
        self._training = TopicPartition(topics.training, 0)
        self._staging = TopicPartition(staging_of(topics), 0)

    async def look(self, progress: Progress) -> tuple[Past, Erased]:
        """Return the loop as it is, and what would be erased.

        Raises:
            ErasingRefused: The branch that serves leaves nothing out.
            CodecError: A record that a joiner would still read, or one of the log, is damaged.
        """
        machine = TimeMachine(self._reading, self._fold, self._index, self._topics.training)
        past = await machine.go_to(await machine.end(), progress)
        branch = past.definition
        if not branch.filter.drops:
            raise ErasingRefused(
                f"the branch that serves, {branch.lineage[:12]}, leaves nothing out, so there is nothing to erase; "
                "`tailrace repair --drop-ids FILE` or `--drop-source S` builds one that does, and promotes it"
            )
        held = await self._reading.reader.range_of(self._training)
        if held.start > 0:
            raise ErasingRefused(
                f"{self._training.topic} begins at offset {held.start}; only a log from its first record on can be "
                "written anew, since offsets must stay what they are"
            )
        erasure = await self._erasure(branch, held, "")
        async for record in TrainingLog(self._reading.reader, None, self._training.topic).records(0, held.end):
            erasure.rewrite(record.offset, record.record)
        if not erasure.rows:
            raise ErasingRefused(
                f"{self._training.topic} holds nothing any more of what the branch that serves leaves out"
            )
        await self._refuse_if_too_early(erasure)
        events = frozenset(hash_of_id(event_id) for event_id, _ in erasure.erased)
        return past, Erased(branch.lineage, erasure.survivor.lineage, held.end, erasure.rows, events)

    async def erase(self, sink: Sink, say: Say, progress: Progress) -> Erased:
        """Do it, or go on with it where it was interrupted.

        Raises:
            ErasingRefused: As `look` says, or the copy does not come to the same model; nothing was changed then.
            StoreUnavailable: Files of snapshots could not be listed or deleted; the same call goes on with them.
        """
        sealed = await self._seal()
        if sealed is None:
            past, found = await self.look(progress)
            log_id = uuid4().hex
            say(f"1/5 writing {found.records} records without {found.rows} rows into {self._staging.topic}")
            await self._stage(sink, past.definition, found, log_id)
            say("2/5 folding the copy: it must come to the same model")
            await self._prove(past, found, progress)
            sealed = Erased(found.branch, found.survivor, found.records, found.rows, found.events, log_id)
            await self._send(sink, self._staging, [Outgoing(_SEAL, _dump(sealed))])
        else:
            say(f"going on with what was interrupted: {self._staging.topic} is complete")
        if not await self._is_written(sealed):
            say(f"3/5 making {self._training.topic} anew")
            state = await self._state_of(self._staging.topic)
            await self._reading.admin.delete(self._training.topic)
            await self._reading.admin.create([TopicState(self._training.topic, 1, state.replication, state.settings)])
            await self._copy(sink, sealed.records)
        say("4/5 forgetting snapshots, which hold what was learned from the erased examples")
        await self._forget_snapshots(sink)
        say(f"5/5 deleting {self._staging.topic}")
        await self._reading.admin.delete(self._staging.topic)
        return sealed

    async def _refuse_if_too_early(self, erasure: Erasure) -> None:
        for partition, held in (await self._reading.ranges(self._topics.scored)).items():
            vector = erasure.vectors.get(partition.partition)
            first = 0 if vector is None else offset_of(vector.scored_low.position)
            async for record in self._reading.records(partition, Range(max(held.start, first), held.end)):
                if erasure.too_early(record.offset, decode_scored(record.value or b""), partition.partition):
                    raise ErasingRefused(
                        "an event that would be erased is younger than one that still waits for its label, so a "
                        "joiner would read it again; run the loop on until the older ones have their label or their "
                        "horizon has passed, then repeat"
                    )

    # ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _erasure(self, branch: Branch, held: Range, log_id: str) -> Erasure:
        training = TrainingLog(self._reading.reader, None, self._training.topic)
        notices = await training.notices(0, held.end, self._fold.begin().ownership)
        survivor = self._fold.begin_branch(survivor_of(branch))
        return Erasure(branch, notices, log_id, digest_of(self._fold.body_of(survivor)))

    async def _stage(self, sink: Sink, branch: Branch, found: Erased, log_id: str) -> None:  # 1
        admin = self._reading.admin
        state = await self._state_of(self._training.topic)
        await admin.delete(self._staging.topic)
        await admin.create([TopicState(self._staging.topic, 1, state.replication, state.settings)])
        held = Range(0, found.records)
        erasure = await self._erasure(branch, held, log_id)
        waiting: list[Outgoing] = []
        async for record in self._reading.records(self._training, held):
            offset, content, _ = logged(record)
            waiting.append(Outgoing(None, encode_training(erasure.rewrite(offset, content))))
            if len(waiting) >= _SEND_AT_ONCE:
                await self._send(sink, self._staging, waiting)
                waiting = []
        await self._send(sink, self._staging, waiting)

    async def _prove(self, past: Past, found: Erased, progress: Progress) -> None:  # 2
        training = TrainingLog(self._reading.reader, None, self._staging.topic)
        warming = Warming(self._fold, training, self._index)
        survivor = survivor_of(past.definition)
        warmed = await warming.begin(survivor, fresh=True)
        await warming.fold_to(warmed, found.records, progress)
        kit = self._fold.kit(survivor)
        assert kit is not None, "the branch that serves can be folded, so its survivor can"
        same = kit.codec.encode(warmed.held.model) == kit.codec.encode(past.branch.model)
        if not same or warmed.held.learned != past.branch.learned:
            await self._reading.admin.delete(self._staging.topic)
            raise ErasingRefused(
                "the rewritten log does not come to the model that serves, so nothing was changed; this is a bug or a "
                "library that differs: `tailrace verify` tells which"
            )

    async def _copy(self, sink: Sink, records: int) -> None:  # 4
        waiting: list[Outgoing] = []
        async for record in self._reading.records(self._staging, Range(0, records)):
            waiting.append(Outgoing(None, record.value))
            if len(waiting) >= _SEND_AT_ONCE:
                await self._send(sink, self._training, waiting)
                waiting = []
        await self._send(sink, self._training, waiting)

    async def _forget_snapshots(self, sink: Sink) -> None:  # 5
        partition = TopicPartition(self._topics.snapshots, 0)
        held = await self._reading.reader.range_of(partition)
        keys = {record.key async for record in self._reading.records(partition, held) if record.key is not None}
        await self._send(sink, partition, [Outgoing(key, None) for key in sorted(keys)])
        for path in sorted(await files_of(self._store, self._topics.loop)):
            await asyncio.to_thread(self._store.delete, path)

    # ── what is there ───────────────────────────────────────────────────────────────────────────────────────────

    async def _seal(self) -> Erased | None:
        """Return what a complete copy says of itself; None: there is none."""
        if self._staging.topic not in await self._reading.admin.describe([self._staging.topic]):
            return None
        held = await self._reading.reader.range_of(self._staging)
        if held.end == 0:
            return None
        last = await self._reading.first_record(self._staging, Range(held.end - 1, held.end))
        return None if last is None or last.key != _SEAL else _load(last.value or b"")

    async def _is_written(self, sealed: Erased) -> bool:
        """Whether the training topic holds the whole copy."""
        if self._training.topic not in await self._reading.admin.describe([self._training.topic]):
            return False
        if (await self._reading.reader.range_of(self._training)).end != sealed.records:
            return False
        ours = await self._reading.first_record(self._training, Range(0, 1))
        copied = await self._reading.first_record(self._staging, Range(0, 1))
        return ours is not None and copied is not None and ours.value == copied.value

    async def _state_of(self, topic: str) -> TopicState:
        return (await self._reading.admin.describe([topic]))[topic]

    async def _send(self, sink: Sink, partition: TopicPartition, records: Sequence[Outgoing]) -> None:
        if records:
            await (await sink.send(partition, records))


async def is_under_way(admin: Admin, topics: LoopTopics) -> bool:
    """Whether the training log is being written anew, so that no worker may begin."""
    return staging_of(topics) in await admin.describe([staging_of(topics)])


def _dump(found: Erased) -> bytes:
    plain = {name: getattr(found, name) for name in ("branch", "survivor", "records", "rows", "log_id")}
    return orjson.dumps(plain | {"events": sorted(found.events)})


def _load(value: bytes) -> Erased:
    plain = orjson.loads(value)
    return Erased(**(plain | {"events": frozenset(plain["events"])}))

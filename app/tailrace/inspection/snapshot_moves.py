"""Snapshots out of a loop and into one, and what may be thrown away: each first says what it would do.

Nothing here makes a state up: a file is moved as the learner wrote it, and counts only where the training log still
holds what it was folded from.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from tailrace.domain.errors import SnapshotRefused, TailraceError
from tailrace.domain.positions import show
from tailrace.domain.snapshots import Kind, Manifest, check_last_block, index_key
from tailrace.inspection.reading import Reading
from tailrace.inspection.snapshots import Entry, Shelf, Uncounted, orphans_of
from tailrace.opening import topics_of
from tailrace.settings import LoopSettings
from tailrace.stores import snapshot_file
from tailrace.stores.snapshot_file import Expected
from tailrace.streams.log import Outgoing, Range, TopicPartition
from tailrace.wire.avro_codec import encode_manifest
from tailrace.wire.topics import snapshots_topic_of


@dataclass(frozen=True, slots=True)
class Import:
    """What bringing a file in comes to.

    Attributes:
        stores, indexes: Whether the file is to be put into the store, and its manifest into the index.
        words: What is done and why, in a sentence.
    """

    manifest: Manifest
    content: bytes
    stores: bool
    indexes: bool
    words: str


@dataclass(frozen=True, slots=True)
class Pruning:
    """What may go.

    Attributes:
        entries: Of the index, with their files.
        orphans: Files that the index does not name.
        left: Files that the index does not name and that may be being written.
        spared: Entries that are beyond those to keep and the newest of their lineage that can be loaded.
        covered: Entries that are beyond those to keep and in whose place a record stands that does not count here;
            it would be forgotten with them.
        uncounted: Records that do not count here; they and the files that they name stay.
    """

    entries: tuple[Entry, ...]
    orphans: tuple[str, ...]
    left: tuple[str, ...]
    spared: tuple[Entry, ...]
    covered: tuple[Entry, ...]
    uncounted: tuple[Uncounted, ...]


async def plan_import(
    reading: Reading, loop: LoopSettings, shelf: Shelf, content: bytes, *, lineage: str, now_ms: int
) -> Import:
    """Say what bringing a file in would do.

    Args:
        lineage: Of the configuration; no other one could be continued here.
        now_ms: When the index comes to know it: the key that signed must be good then.

    Raises:
        SnapshotRefused: The file is not good, not for this loop, or no newer than what is there.
    """
    expected = Expected(lineage, shelf.trusted.current(), now_ms, kind=Kind.SNAPSHOT)
    manifest = (await asyncio.to_thread(snapshot_file.read, content, expected)).manifest
    if manifest.store_path is None:
        raise SnapshotRefused("manifest", "the snapshot names no place in a store; export it again from its loop")
    if snapshots_topic_of(manifest.loop) != shelf.partition.topic:
        message = f"the snapshot is of the loop {manifest.loop}, not of the one that {shelf.partition.topic} belongs to"
        raise SnapshotRefused("loop", f"{message}; import it with `--loop {manifest.loop}`")
    await _check_log(reading, topics_of(manifest.loop, loop).training, manifest)
    mine = [entry for entry in shelf.entries if entry.manifest.lineage == lineage]
    same = next((entry for entry in mine if entry.manifest.digest == manifest.digest), None)
    name = f"snapshot {manifest.number} at {show(manifest.position)}"
    if same is not None:
        if same.file == "yes":
            return Import(manifest, content, stores=False, indexes=False, words=f"{name} is there already")
        words = f"the index names {name} and the store lacks its file: it is put back"
        return Import(manifest, content, stores=True, indexes=False, words=words)
    _check_newest(manifest, [entry.manifest for entry in mine if entry.manifest.kind is Kind.SNAPSHOT])
    if shelf.learner is not None:
        raise SnapshotRefused(
            "learner", f"{shelf.learner} learns now and would not see the import; stop what learns, then import"
        )
    words = f"{name} becomes the newest: the next learner begins with it and folds what lies behind"
    return Import(manifest, content, stores=True, indexes=True, words=words)


async def bring_in(reading: Reading, shelf: Shelf, planned: Import) -> None:
    """Do it: the file first, then the index.

    Raises:
        StoreUnavailable, LogUnavailable: It was not taken; nothing is named that is not there.
    """
    manifest = planned.manifest
    assert manifest.store_path is not None, "the plan refuses it"
    if planned.stores:
        await asyncio.to_thread(shelf.store.put, manifest.store_path, planned.content)
    if planned.indexes:
        value = encode_manifest(snapshot_file.seal(manifest))
        await _send(reading, shelf.partition, Outgoing(index_key(manifest).encode(), value))


async def plan_pruning(shelf: Shelf, keep: int) -> Pruning:
    """Say what may go: snapshots beyond the newest `keep` of each lineage, and files that the index does not name.

    The newest snapshot of a lineage that can be loaded is never among them, and nothing that a record names which does
    not count here: another machine may trust the key that signed it.

    Raises:
        SnapshotRefused, StoreUnavailable: The store does not answer, so that nobody can tell what is good.
    """
    if shelf.files is None:
        raise SnapshotRefused("store", f"{shelf.store.address} does not answer: {shelf.store_problem}")
    lineages: dict[str, list[Entry]] = defaultdict(list)
    for entry in shelf.entries:
        if entry.manifest.kind is Kind.SNAPSHOT:
            lineages[entry.manifest.lineage].append(entry)
    entries: list[Entry] = []
    spared: list[Entry] = []
    covered: list[Entry] = []
    taken = {each.key for each in shelf.uncounted}
    for of_lineage in lineages.values():
        newest_first = sorted(
            of_lineage, key=lambda entry: (entry.manifest.position, entry.manifest.number), reverse=True
        )
        good = await _newest_good(shelf, newest_first)
        beyond = newest_first[keep:]
        spared += [entry for entry in beyond if entry is good]
        others = [entry for entry in beyond if entry is not good and good is not None]
        covered += [entry for entry in others if entry.key in taken]
        entries += [entry for entry in others if entry.key not in taken]
    gone, fresh = orphans_of(shelf)
    return Pruning(tuple(entries), tuple(gone), tuple(fresh), tuple(spared), tuple(covered), shelf.uncounted)


async def prune(reading: Reading, shelf: Shelf, planned: Pruning) -> list[str]:
    """Do it: the index first, then the files; return what could not be deleted, in words.

    A learner that runs may have put its next snapshot into the place of an old one meanwhile: that stays.
    """
    held = await reading.reader.range_of(shelf.partition)
    since = Range(max(shelf.end, held.start), held.end)
    taken = {record.key async for record in reading.records(shelf.partition, since)}
    entries = [entry for entry in planned.entries if entry.key not in taken]
    for entry in entries:
        await _send(reading, shelf.partition, Outgoing(entry.key, None))
    problems = []
    paths = [entry.manifest.store_path for entry in entries if entry.manifest.store_path is not None]
    for path in (*paths, *planned.orphans):
        try:
            await asyncio.to_thread(shelf.store.delete, path)
        except (OSError, TailraceError) as cause:
            problems.append(str(cause))
    return problems


async def _newest_good(shelf: Shelf, newest_first: list[Entry]) -> Entry | None:
    for entry in newest_first:
        try:
            await shelf.read(entry)
        except SnapshotRefused:
            continue
        return entry
    return None


async def _check_log(reading: Reading, training: str, manifest: Manifest) -> None:
    offset = manifest.last_block_offset
    if offset is None:
        return
    ((partition, held),) = (await reading.ranges(training)).items()
    record = await reading.first_record(partition, Range(offset, held.end)) if offset >= held.start else None
    value = None if record is None or record.offset != offset else record.value
    refusal = check_last_block(manifest, log_id="", start=held.start, end=held.end, value=value)
    if refusal is not None:
        raise SnapshotRefused(*refusal)


def _check_newest(manifest: Manifest, others: list[Manifest]) -> None:
    newest = max(others, key=lambda other: (other.position, other.number), default=None)
    if newest is not None and (manifest.position, manifest.number) <= (newest.position, newest.number):
        raise SnapshotRefused(
            "older", f"the file is of {show(manifest.position)} (number {manifest.number}), the index holds number "
            f"{newest.number} at {show(newest.position)}; a loop never goes below what exists"
        )  # fmt: skip
    taken = next((other for other in others if other.number >= manifest.number), None)
    if taken is not None:
        raise SnapshotRefused(
            "number", f"the file is number {manifest.number}, the index already holds number {taken.number} at "
            f"{show(taken.position)}: the two come from different learners. Keep the one that `tailrace verify` proves"
        )  # fmt: skip


async def _send(reading: Reading, partition: TopicPartition, record: Outgoing) -> None:
    async with reading.sink() as sink:
        await (await sink.send(partition, [record]))

"""The index of snapshots, as the process that writes it sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from tests.builders import is_one_chain
from tests.log_forms import LogForm
from tests.streams.log_tools import running, send

from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import Kind, Manifest, next_number
from tailrace.stores.key_folder import KeyFolder, Signer
from tailrace.stores.signing import Purpose
from tailrace.stores.snapshot_file import pack
from tailrace.stores.snapshot_store import DirectoryStore
from tailrace.streams.log import Range, Reader, Record, TopicPartition
from tailrace.streams.snapshot_index import SnapshotIndex

PACKED = pack({"loop": b"counters"})


class Interrupted:
    """Reads as a reader does; something else happens after the first batch was asked for."""

    def __init__(self, reader: Reader, act: Callable[[], Awaitable[object]]) -> None:
        self._reader = reader
        self._act = act

    async def range_of(self, partition: TopicPartition) -> Range:
        return await self._reader.range_of(partition)

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        async for batch in self._reader.read(partition, start, end):
            await self._act()
            yield batch


async def put(index: SnapshotIndex, loop: str, position: int) -> Manifest:
    """Write a snapshot as the learner does."""
    previous = next(iter(index.newest()), None)
    manifest = Manifest(
        lineage="a" * 64,
        loop=loop,
        log_id="log",
        kind=Kind.SNAPSHOT,
        number=next_number(index.manifests, "a" * 64),
        position=position_of(position),
        last_block_offset=None,
        last_block_digest=None,
        parts=PACKED.parts,
        state_digest="5" * 64,
        previous_digest=None if previous is None else previous.digest,
        counters={},
        versions={},
        created_at_ms=1_000,
    )
    return await index.put(manifest, PACKED)


async def test_what_is_written_while_the_index_is_read_again_stays_the_newest(embedded_form: LogForm, tmp_path: Path):
    """
    Defence: what was read counts at the end, and never in the place of what this process wrote meanwhile. An older
    one in its slot would give two snapshots one number, and one in its line would be called replayed.
    """
    topic, keys, reasons = await embedded_form.create("snapshots"), KeyFolder(tmp_path / "keys"), list[str]()
    keys.generate(Purpose.SNAPSHOTS)
    log = embedded_form.open()
    async with running(log.sink("test")) as sink, running(log.reader()) as reader:
        index = SnapshotIndex(
            topic,
            lineage="a" * 64,
            versions={},
            store=DirectoryStore(tmp_path / "store"),
            trusted=keys.trusted,
            sink=sink,
            signer=Signer(keys),
            on_refused=reasons.append,
        )
        for position in range(1, 18):  # as many as there are slots, and one more
            await put(index, embedded_form.prefix, position)
        written: list[Manifest] = []

        async def write_more() -> None:
            if not written:  # every slot anew
                written.extend([await put(index, embedded_form.prefix, position) for position in range(18, 34)])

        interrupted: Any = Interrupted(reader, write_more)
        await index.read(interrupted)
        await put(index, embedded_form.prefix, 40)

        assert [34, *range(33, 18, -1)] == [each.number for each in index.newest()]
        assert is_one_chain(index.manifests)
        assert [] == reasons


async def test_a_record_that_is_refused_is_told_once_however_often_the_index_is_read(
    embedded_form: LogForm, tmp_path: Path
):
    topic, keys, reasons = await embedded_form.create("snapshots"), KeyFolder(tmp_path / "keys"), list[str]()
    log = embedded_form.open()
    async with running(log.sink("test")) as sink, running(log.reader()) as reader:
        store = DirectoryStore(tmp_path / "store")
        index = SnapshotIndex(
            topic, lineage="a" * 64, versions={}, store=store, trusted=keys.trusted, on_refused=reasons.append
        )
        await send(sink, topic, "rubbish")
        for _ in range(3):
            await index.read(reader)
        assert 1 == len(reasons)
        await send(sink, topic, "rubbish again")
        await index.read(reader)
        assert 2 == len(reasons)

"""10,000 mutants of snapshots, as files and as index records: none is accepted, each is refused quickly and by name.

Every defence of the load order is held by some of them: take the signature out and `forged` is loaded, the index and
`replayed` is, the cap on growth and `bombs` take the memory, the size of the file and the 10 GB are read.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from tests.stores import mutants
from tests.stores.mutants import KEY, LINEAGE, OTHER_LINEAGE, Good, make_bodies, make_snapshot

from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.snapshots import REASONS, Kind, Manifest
from tailrace.stores.key_folder import TrustFile
from tailrace.stores.signing import TrustedKey
from tailrace.stores.snapshot_store import DirectoryStore
from tailrace.streams.embedded_store import EmbeddedRecord
from tailrace.streams.snapshot_index import SnapshotIndex

WITHIN_S = 0.05
WITHIN_BYTES = 10 * 2**20
NEWEST, PREVIOUS = make_bodies(200), make_bodies(100)


class Gate:
    """A process that would load a snapshot: index, store, trusted keys, codec; and what it says to each mutant.

    Attributes:
        reasons: How often each was given.
        accepted: What was loaded although it is none of the good ones.
        slow: What took longer, or more memory, than a refusal may.
    """

    def __init__(self, folder: Path, codec: StateCodec) -> None:
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        trusted = TrustFile(folder / "keys")
        if not trusted.path.exists():
            (folder / "keys").mkdir()
            trusted.trust(TrustedKey(KEY.public, KEY.purpose))
        self._trusted = trusted
        self._codec = codec
        self.reasons: Counter[str] = Counter()
        self.accepted: list[object] = []
        self.slow: list[tuple[str, float, int]] = []

    def index(self, *known: Good) -> SnapshotIndex:
        """Return an index that knows good snapshots; without inline parts, so that their files are asked for."""
        index = SnapshotIndex(
            "phishing.snapshots",
            lineage=LINEAGE,
            versions={},
            store=self.store,
            trusted=self._trusted,
            on_refused=lambda reason: self.reasons.update((reason,)),
        )
        for good in known:
            manifest = replace(good.manifest, inline={})
            assert index.note(record_of(Good(manifest, b"").record, manifest)) is not None
        return index

    async def load(self, index: SnapshotIndex, manifest: Manifest) -> None:
        """Load what a manifest of the index names, down to the state."""
        try:
            bodies = await index.load(manifest)
            self.accepted.append([self._codec.decode(body) for body in bodies.values()])
        except SnapshotRefused as refused:
            self.reasons[refused.reason] += 1
        except CodecError:
            self.reasons["codec"] += 1

    async def meet(self, index: SnapshotIndex, value: bytes, slot: Manifest) -> None:
        """Let a record come into the index, and load what it names if it counts."""
        manifest = index.note(record_of(value, slot))
        if manifest is not None:
            await self.load(index, manifest)

    async def files(self, newest: Good, contents: Iterable[bytes]) -> None:
        """Put each content in the place of the newest snapshot's file, and load that."""
        index = self.index(newest)
        path = self.path_of(newest)
        for content in contents:
            path.write_bytes(content)
            with self.measured():
                await self.load(index, index.manifests[0])

    async def records(self, newest: Good, values: Iterable[bytes]) -> None:
        """Let each value come into an index that knows the newest snapshot, under its key."""
        for value in values:
            index = self.index(newest)
            with self.measured():
                await self.meet(index, value, newest.manifest)

    def path_of(self, good: Good) -> Path:
        """Return where the file of a snapshot lies, its folder made."""
        assert good.manifest.store_path is not None
        path = self.folder / "store" / good.manifest.store_path
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def measured(self) -> Measured:
        """Measure one refusal: CPU time, since other processes share this machine, and memory at its highest."""
        return Measured(self)


class Measured:
    """Measures what happens inside of it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]
        self._refused = self._gate.reasons.total()
        self._begun = time.process_time()

    def __exit__(self, *_: object) -> None:
        seconds = time.process_time() - self._begun
        size_bytes = tracemalloc.get_traced_memory()[1] - self._before
        if self._gate.reasons.total() == self._refused:
            self._gate.accepted.append("it was passed over without a reason")
        if seconds > WITHIN_S or size_bytes > WITHIN_BYTES:
            self._gate.slow.append((str(self._gate.reasons), seconds, size_bytes))


def record_of(value: bytes, manifest: Manifest) -> EmbeddedRecord:
    """Return a record of the index, under the key of a manifest."""
    return EmbeddedRecord("phishing.snapshots", 0, 7, 5_000, mutants.slot_of(manifest), value, ())


@pytest.fixture(scope="module")
def codec() -> StateCodec:
    return mutants.make_codec()


@pytest.fixture
def gate(tmp_path: Path, codec: StateCodec) -> Iterator[Gate]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.collect()
    gc.freeze()  # else a collection of everything that other tests have loaded falls into some refusal
    tracemalloc.start()
    try:
        yield Gate(tmp_path, codec)
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def assert_all_refused(gate: Gate, count: int, *expected: str) -> None:
    """None was accepted, each was refused in time and by a name from the closed list."""
    assert [] == gate.accepted
    assert [] == gate.slow
    assert count == gate.reasons.total()
    assert set(gate.reasons) <= set(REASONS)
    assert set(expected) <= set(gate.reasons)


def test_the_good_ones_are_accepted_as_files_and_as_records(gate: Gate):
    """The control: without it every test below would hold for a gate that is never open."""
    newest = make_snapshot(NEWEST)

    async def all_of_them() -> None:
        index = gate.index(newest)
        gate.path_of(newest).write_bytes(newest.file)
        await gate.load(index, index.manifests[0])
        await gate.meet(index, newest.record, newest.manifest)

    asyncio.run(all_of_them())

    assert (2, {}) == (len(gate.accepted), gate.reasons)


@pytest.mark.parametrize("compress", [False, True])
def test_3000_files_that_somebody_damaged(gate: Gate, *, compress: bool):
    newest = make_snapshot(NEWEST, compress=compress)

    asyncio.run(gate.files(newest, mutants.damaged(newest.file, seed=compress, count=1_500)))

    assert_all_refused(gate, 1_500, "magic", "manifest", "signature", "length", "stored_digest")


def test_1500_files_of_the_sections_of_good_ones(gate: Gate):
    goods = [make_snapshot(NEWEST), make_snapshot(PREVIOUS, 1), make_snapshot(NEWEST, 3, compress=False)]

    asyncio.run(gate.files(goods[0], mutants.recombined(goods, seed=1, count=1_500)))

    assert_all_refused(gate, 1_500, "magic", "signature", "stored_digest", "length", "index")


def test_1000_files_whose_head_says_something_else(gate: Gate):
    newest = make_snapshot(NEWEST)

    asyncio.run(gate.files(newest, mutants.with_fields_of_the_head(newest, seed=1, count=1_000)))

    assert_all_refused(gate, 1_000, "magic", "format", "manifest", "unsigned", "unknown_key", "signature")


def test_500_files_that_a_stranger_signed(gate: Gate):
    newest = make_snapshot(NEWEST)

    asyncio.run(gate.files(newest, (good.file for good in mutants.forged(NEWEST, seed=1, count=500))))

    assert_all_refused(gate, 500, "unknown_key", "signature", "unsigned")


def test_200_good_files_that_are_not_the_one_that_the_index_names(gate: Gate):
    """Older ones, of another lineage, kind or log: what somebody with access to the store can put there."""
    newest = make_snapshot(NEWEST)
    others = [make_snapshot(PREVIOUS, 1 + number % 9, created_at_ms=number) for number in range(100)]
    others += [make_snapshot(NEWEST, lineage=OTHER_LINEAGE, created_at_ms=number) for number in range(50)]
    others += [make_snapshot(NEWEST, kind=Kind.PUBLICATION, created_at_ms=number) for number in range(50)]

    # A cap on the file's size alone would refuse those that are larger; the steps behind it are what is asked here.
    asyncio.run(gate.files(replace_size(newest), (other.file for other in others)))

    assert_all_refused(gate, 200, "index", "lineage", "kind")


def replace_size(newest: Good) -> Good:
    """Return the newest with counters so many that its file may be larger than all others."""
    return make_snapshot(NEWEST, counters={f"counter {number}": number for number in range(50)})


def test_500_bombs_that_are_signed(gate: Gate):
    """Who holds the key can say any size; what is decompressed stays within it, and within reason."""
    bombs = list(mutants.bombs(seed=1, count=500))

    async def all_of_them() -> None:
        for bomb in bombs:
            gate.path_of(bomb).write_bytes(bomb.file)
            index = gate.index(bomb)
            with gate.measured():
                await gate.load(index, index.manifests[0])

    asyncio.run(all_of_them())

    assert_all_refused(gate, len(bombs), "compression", "too_large", "digest")
    assert 480 < len(bombs)


def test_400_bodies_that_are_signed_and_hostile(gate: Gate):
    """Who holds the key can say anything of a state; the codec reads nothing that this model cannot hold."""

    async def all_of_them() -> None:
        for body in mutants.hostile_bodies(NEWEST["champion"], seed=1, count=400):
            good = make_snapshot(NEWEST | {"champion": body})
            gate.path_of(good).write_bytes(good.file)
            index = gate.index(good)
            with gate.measured():
                await gate.load(index, index.manifests[0])

    asyncio.run(all_of_them())

    assert_all_refused(gate, 400, "codec")
    assert {"codec"} == set(gate.reasons)


def test_100_things_that_are_no_files(gate: Gate):
    """Nothing, 10 GB, a folder, a pipe, links to a good one and into nowhere."""
    newest = make_snapshot(NEWEST)
    path, good = gate.path_of(newest), gate.folder / "good"
    good.write_bytes(newest.file)

    def huge() -> None:
        with path.open("wb") as file:
            file.truncate(10 << 30)

    def huge_with_a_good_beginning() -> None:
        path.write_bytes(newest.file)
        os.truncate(path, 10 << 30)

    def as_large_as_snapshots_may_be() -> None:
        path.write_bytes(newest.file)
        os.truncate(path, 900 << 20)

    acts = [
        as_large_as_snapshots_may_be,
        huge,
        huge_with_a_good_beginning,
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(good),
        lambda: path.symlink_to(gate.folder / "nowhere"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        lambda: path.write_bytes(b""),
    ]

    async def all_of_them() -> None:
        index = gate.index(newest)
        for number in range(100):
            acts[number % len(acts)]()
            with gate.measured():
                await gate.load(index, index.manifests[0])
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    asyncio.run(all_of_them())

    assert_all_refused(gate, 100, "magic", "too_large", "not_a_file")


def test_1800_index_records_that_somebody_damaged(gate: Gate):
    newest = make_snapshot(NEWEST)

    asyncio.run(gate.records(newest, mutants.damaged(newest.record, seed=1, count=1_800)))

    assert_all_refused(gate, 1_800, "manifest", "signature", "stored_digest")


def test_900_index_records_that_say_something_else(gate: Gate):
    newest = make_snapshot(NEWEST)

    asyncio.run(gate.records(newest, mutants.resealed(newest, seed=1, count=900)))

    assert_all_refused(gate, 900, "unsigned", "unknown_key", "signature", "length", "stored_digest", "too_large")


def test_300_index_records_that_a_stranger_signed(gate: Gate):
    newest = make_snapshot(NEWEST)

    asyncio.run(gate.records(newest, (good.record for good in mutants.forged(NEWEST, seed=2, count=300))))

    assert_all_refused(gate, 300, "unknown_key", "signature", "unsigned")


def test_200_older_records_that_come_into_the_index_again(gate: Gate):
    """Signed by the learner, of this lineage, under their own key: only their position tells."""
    newest = make_snapshot(NEWEST, 20)
    older = [make_snapshot(PREVIOUS, 1 + number % 19, created_at_ms=number) for number in range(200)]

    async def all_of_them() -> None:
        for good in older:
            index = gate.index(newest)
            with gate.measured():
                await gate.meet(index, good.record, good.manifest)
            assert [newest.manifest] == list(index.manifests)

    asyncio.run(all_of_them())

    assert_all_refused(gate, 200, "replayed")


def test_50_good_records_of_another_loop(gate: Gate):
    """Defence: the topic belongs to one loop; loops of the same features have one lineage and may have one key."""
    newest = make_snapshot(NEWEST, 20)
    others = [make_snapshot(NEWEST, 20, loop=f"loop_{number}") for number in range(50)]

    asyncio.run(gate.records(newest, (other.record for other in others)))

    assert_all_refused(gate, 50, "loop")
    assert {"loop"} == set(gate.reasons)


def test_100_good_records_under_the_key_of_another(gate: Gate):
    newest = make_snapshot(NEWEST, 20)
    others = [make_snapshot(PREVIOUS, 21 + number % 15, created_at_ms=number) for number in range(50)]
    others += [make_snapshot(NEWEST, 20, lineage=OTHER_LINEAGE, created_at_ms=number) for number in range(50)]

    asyncio.run(gate.records(newest, (other.record for other in others)))

    assert_all_refused(gate, 100, "index")

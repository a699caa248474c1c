"""The learner of a simulated loop: restores, folds, snapshots; and a store that damages what it keeps."""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from typing import Final

from tests.keys import make_key
from tests.simulation.inputs import Entry
from tests.simulation.world import CONTRACT, LOG_ID, TARGET, LogRecord, Seat, Stored, World

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.branches import Branch, Kit
from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.learning import Fold, LoopState, skeletons
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.notices import Logged
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Claim, Owner
from tailrace.domain.snapshots import Kind, Manifest, check_last_block, newest_first, next_number
from tailrace.stores.signing import trusting
from tailrace.stores.snapshot_file import Expected, pack, read, signed, write

LINEAGE: Final = "lineage"
BRANCH: Final = Branch("binary", "model", False, "contract", {})
KEY: Final = make_key()
SEAT: Final = Seat("learn", 0)


def learner(world: World, name: Owner) -> Generator[None, None, None]:
    """Restore the newest good snapshot, fold the tail, go on; snapshot now and then."""
    fold = make_fold(world)
    state = restored(world, fold)
    yield
    while True:
        entry = next(world.log.read(offset_of(state.position)), None)
        if entry is None:
            if not world.owns(SEAT, name):
                return
            if world.inputs_ended and world.finished.get(SEAT) != world.log.next_offset:
                world.finished[SEAT] = world.log.next_offset
                world.live_digest, world.live_outcomes = fold.digest(state), dict(state.outcomes)
            yield
            continue
        yield from _fold_one(world, fold, state, entry)
        if world.rng.random() < 0.02:
            world.snapshots.append(_stored(world, fold, state))
        yield


def make_fold(world: World) -> Fold:
    """Return the fold of one process."""
    build_model = world.rules.build_model

    def kit_of(branch: Branch) -> Kit:
        return Kit(branch, build_model, StateCodec([build_model()]))

    fold = Fold(contract=CONTRACT, target=TARGET, lineage=LINEAGE, codec=StateCodec(skeletons()), kit_of=kit_of)
    fold.contract = world.rules.contract(CONTRACT, world.rng)
    return fold


def logged(entry: Entry[LogRecord]) -> Logged:
    """Return a record of the log as the learner reads it."""
    return Logged(entry.offset, entry.value, sha256(value_of(entry.value)).hexdigest())


def value_of(record: LogRecord) -> bytes:
    """Return bytes that stand for those of the message: different records have different ones."""
    if isinstance(record, Claim):
        return repr(record).encode()
    assert isinstance(record, TrainingBlock)
    return f"{record.partition} {record.owner} {record.number} {record.examples.ids} {record.dropped.ids}".encode()


def restored(world: World, fold: Fold) -> LoopState:
    """Return the state of the newest snapshot that is not damaged, else the beginning."""
    by_digest = {stored.manifest.digest: stored for stored in world.snapshots}
    for manifest in newest_first((stored.manifest for stored in world.snapshots), LINEAGE):
        stored = by_digest[manifest.digest]
        try:
            state = fold.restore(read(stored.content, _expected(manifest)).bodies)
        except (SnapshotRefused, CodecError):
            world.damaged_refused += stored.is_damaged
            if not stored.is_damaged:
                world.violations.append("good snapshot refused")
            continue
        if stored.is_damaged:
            world.violations.append("damaged snapshot restored")
        if fold.digest(state) != manifest.state_digest:
            world.violations.append("restored state has another digest")
        _check_log(world, manifest)
        return state
    return begun(fold)


def begun(fold: Fold) -> LoopState:
    """Return the state before the log's first record; its one branch counts as admitted."""
    state = fold.begin()
    fold.hold(state, fold.begin_branch(BRANCH))
    state.pointers.admitted[BRANCH.lineage] = BRANCH.text
    state.pointers.champion = BRANCH.lineage
    return state


def _check_log(world: World, manifest: Manifest) -> None:
    offset = manifest.last_block_offset
    last = None if offset is None else next(world.log.read(offset)).value
    value = None if last is None else value_of(last)
    if check_last_block(manifest, log_id=LOG_ID, start=0, end=world.log.next_offset, value=value) is not None:
        world.violations.append("log refused after a restore")


def _fold_one(world: World, fold: Fold, state: LoopState, entry: Entry[LogRecord]) -> Generator[None, None, None]:
    offset, record, digest = logged(entry)
    block = fold.open(state, offset, record, digest)
    if block is None:
        return
    done = 0
    while done < len(block.examples):
        stop = done + world.rng.choice([1, 3, 100])
        fold.learn(state, block, offset, done, min(stop, len(block.examples)))
        done = stop
        yield
    fold.close(state, offset)


def _expected(manifest: Manifest) -> Expected:
    return Expected(LINEAGE, trusting([KEY]), 0, LOG_ID, Kind.SNAPSHOT, index=manifest)


def _stored(world: World, fold: Fold, state: LoopState) -> Stored:
    packed = pack(fold.parts(state), compress=world.rng.random() < 0.5)
    manifests = [stored.manifest for stored in world.snapshots]
    manifest = Manifest(
        lineage=LINEAGE,
        loop="loop",
        log_id=LOG_ID,
        kind=Kind.SNAPSHOT,
        number=next_number(manifests, LINEAGE),
        position=state.position,
        last_block_offset=state.last_offset if state.last_offset >= 0 else None,
        last_block_digest=state.last_digest or None,
        parts=packed.parts,
        state_digest=fold.digest(state),
        previous_digest=manifests[-1].digest if manifests else None,
        counters={},
        versions={},
        created_at_ms=0,
    )
    manifest = signed(manifest, KEY)
    content = write(manifest, packed.stored)
    damaged = _damaged(world, content)
    return Stored(manifest, damaged, damaged != content)


def _damaged(world: World, content: bytes) -> bytes:
    """Return what the store kept: whole, cut, or with one bit flipped."""
    chance, place = world.rng.random(), world.rng.randrange(len(content))
    if chance < 0.15:
        return content[:place]
    if chance < 0.3:
        return content[:place] + bytes([content[place] ^ 1 << world.rng.randrange(8)]) + content[place + 1 :]
    return content

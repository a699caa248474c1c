"""The planted bugs that take the place of a rule of the product for as long as a run lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from tests.simulation.environment import replaced
from tests.simulation.rules import Rules

from tailrace.domain import notices
from tailrace.domain.blocks import Examples
from tailrace.domain.branches import BranchState, Filter
from tailrace.domain.join import LabelJoin, recovery
from tailrace.domain.join.memory import WAITING, Identity
from tailrace.domain.join.state import JoinState
from tailrace.domain.learning import Fold
from tailrace.domain.models.encoding import Encoder
from tailrace.domain.notices import Lessons, Logged, Notices, read_notices
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import Pointers
from tailrace.domain.positions import Position
from tailrace.domain.records import Code, Command, Label, Owner, Request
from tailrace.domain.snapshots import Manifest, Refusal
from tailrace.domain.state import LoopState
from tailrace.domain.times import EventTimeMs
from tailrace.stores import snapshot_file
from tailrace.stores.signing import Purpose, TrustList
from tailrace.stores.snapshot_file import Packed
from tailrace.streams import branch_keeper, snapshot_index, training_log
from tailrace.streams.followers import Models, Serving
from tailrace.streams.snapshot_index import SnapshotIndex

Swap = tuple[Any, str, Any]
"""Where a rule lies, its name, and what takes its place."""


@contextmanager
def planted(plant: str | None) -> Iterator[Rules]:
    """Put a bug in place of the product's rule for as long as the context lasts."""
    with ExitStack() as stack:
        for owner, name, wrong in _SWAPPED.get(plant or "", ()):
            stack.enter_context(replaced(owner, name, wrong))
        yield Rules(plant)


def _accept_any_owner(state: OwnershipState, partition: int, owner: str, number: int) -> bool:
    return partition in state.owners


def _accept_any_number(state: OwnershipState, partition: int, owner: str, number: int) -> bool:
    return state.owners.get(partition) == owner


_JUDGE = LabelJoin._judge
_JUDGE_AGAIN = LabelJoin._judge_again


def _judge_whatever_its_revision(join: LabelJoin, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
    newer = label._replace(revision=max(label.revision, identity.revision + 1))
    _JUDGE_AGAIN(join, identity, newer if label.revision < identity.revision else label, watermark_ms)


def _judge_without_implicit_now(join: LabelJoin, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
    reached = max(label.time_ms, watermark_ms)
    if label.y is not None and identity.state == WAITING and reached > identity.time_ms + join.spec.times.horizon_ms:
        join._bury(label, Code.LATE)
    else:
        _JUDGE(join, identity, label, watermark_ms)


_VERIFY = TrustList.verify


def _verifies_nothing_of(purpose: Purpose) -> Callable[..., Refusal | None]:
    def verify(
        trust: TrustList, asked: Purpose, key_id: str, content: bytes, signature: bytes, at_ms: int
    ) -> Refusal | None:
        return None if asked is purpose else _VERIFY(trust, asked, key_id, content, signature, at_ms)

    return verify


def _unchecked_bodies(manifest: Manifest, stored: Mapping[str, memoryview], max_body_bytes: int) -> dict[str, bytes]:
    del manifest, max_body_bytes
    return {name: bytes(content) for name, content in stored.items()}


def _follow_anything(models: Models, serving: Serving) -> None:
    models.followed, models.highest = serving, -1


async def _put_early(index: SnapshotIndex, manifest: Manifest, packed: Packed) -> Manifest:
    put, index._store = index._store.put, _Later(index._store)  # type: ignore[method-assign, assignment]
    later = index._store
    try:
        return await _PUT(index, manifest, packed)
    finally:
        index._store = later.store  # type: ignore[attr-defined]
        for path, content in later.waiting:  # type: ignore[attr-defined]
            put(path, content)


_PUT = SnapshotIndex.put


class _Later:
    """A store that keeps what it is given until later."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.waiting: list[tuple[str, bytes]] = []
        self.delete = store.delete
        self.address = store.address

    def put(self, path: str, content: bytes) -> None:
        self.waiting.append((path, content))


def _learn_half(fold: Fold, branch: BranchState, examples: Examples, first: Position, lessons: Lessons) -> None:
    del first
    missed = lessons.skipped | lessons.left_out
    for row, (x, y) in enumerate(zip(fold.contract.rows(examples.x), lessons.y.tolist(), strict=True)):
        if row in missed:
            continue
        try:
            branch.model.learn_one(x, fold.target.river(y))
        except ArithmeticError:
            continue


def _read_without_skips(records: Iterable[Logged], ownership: OwnershipState) -> Notices:
    found = read_notices(records, ownership)
    for each in found.branches.values():
        each.skips.clear()
    return found


_ADMIT = branch_keeper._admit


def _admit_as_asked(owner: Owner, number: int, request: Request, skips: Iterable[Position]) -> Any:
    del skips
    return _ADMIT(owner, number, request, request.skips)


_REFUSAL_OF_COMMAND = Pointers._refusal_of_command


def _refuse_whatever_its_epoch(pointers: Pointers, record: Command) -> str:
    refusal = _REFUSAL_OF_COMMAND(pointers, record)
    return "" if refusal.startswith("it was made for epoch") and record.branch in pointers.admitted else refusal


class _Nothing:
    """An attribute that forgets what it is given."""

    def __get__(self, state: object, kind: object) -> frozenset[str]:
        return frozenset()

    def __set__(self, state: object, value: object) -> None:
        """Forget it."""


def _hold_unsorted(fold: Fold, state: LoopState, branch: BranchState) -> None:
    del fold
    state.branches = {branch.lineage: branch, **state.branches}


_SWAPPED: Final[dict[str, tuple[Swap, ...]]] = {
    "no_claim_check": ((OwnershipState, "accept", _accept_any_owner),),
    "block_sent_twice": ((OwnershipState, "accept", _accept_any_number),),
    "expiry_without_marks": ((JoinState, "heard", lambda state: state.labels_watermark),),
    "forgotten_correction": ((recovery, "_read_corrections", lambda _state, _corrections: None),),
    "older_revision": ((LabelJoin, "_judge_again", _judge_whatever_its_revision),),
    "implicit_not_now": ((LabelJoin, "_judge", _judge_without_implicit_now),),
    "unverified_snapshots": ((TrustList, "verify", _verifies_nothing_of(Purpose.SNAPSHOTS)),),
    "unchecked_bodies": ((snapshot_file, "_bodies", _unchecked_bodies),),
    "unverified_commands": ((TrustList, "verify", _verifies_nothing_of(Purpose.COMMANDS)),),
    "served_below": (
        (Models, "follow", _follow_anything),
        (Models, "lowest", -1),
        (snapshot_index, "replayed", lambda _manifest, _highest: None),
    ),
    "early_index_record": ((SnapshotIndex, "put", _put_early),),
    "half_applied_learn": ((Fold, "_learn_each", _learn_half),),
    "forgotten_skip": ((training_log, "read_notices", _read_without_skips),),
    "untold_skip": ((branch_keeper, "_admit", _admit_as_asked),),
    "retired_for_good": ((LoopState, "beside", _Nothing()),),
    "corrections_to_come": ((Filter, "reaches_to", 0),),
    "stale_epoch": ((Pointers, "_refusal_of_command", _refuse_whatever_its_epoch),),
    "dropped_example_learned": ((notices, "_is_left_out", lambda *_: False),),
    "correction_not_applied": ((notices, "_corrected", lambda examples, *_: (examples.y, frozenset())),),
    "unsorted_set": (
        (Encoder, "_sorted", lambda encoder, values, depth=0: [encoder._value(v, depth) for v in values]),
    ),
    "unsorted_branches": ((Fold, "hold", _hold_unsorted),),
}

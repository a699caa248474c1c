"""A training log with plain defaults, and the fold of it: override what the test is about."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from river import linear_model, preprocessing

from tailrace.domain.blocks import IMPLICIT, JOINED, Corrections, Dropped, Examples, Served, TrainingBlock, Vector
from tailrace.domain.branches import Branch, Kit
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.learning import Fold
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.notices import Logged, LogRecord, Notices
from tailrace.domain.records import LEARNER, Admit, Claim, Command, CommandKind, Features, Skip, Task
from tailrace.domain.state import LoopState, skeletons

CONTRACT = FeatureContract(
    (FeatureSpec("amount", "number"), FeatureSpec("note", "text", missing="absent"), FeatureSpec("size", "number"))
)
BINARY = TargetContract(Task.BINARY)


def make_model() -> Any:
    """Return a pipeline that raises when it learns a row that has a note: text cannot be scaled."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def make_branch(**overrides: Any) -> Branch:
    """Return the definition of a branch; every version but "river 1" cannot be folded by `make_fold`."""
    given = {"task": "binary", "model": "model", "experimental": False, "contract_id": "contract"}
    return Branch(**(given | {"versions": {"river": "1"}} | overrides))


BRANCH = make_branch()


def make_fold(
    build_model: Callable[[], Any] = make_model,
    target: TargetContract = BINARY,
    lineage: str = "loop",
    contract: FeatureContract = CONTRACT,
) -> Fold:
    def kit_of(branch: Branch) -> Kit | None:
        is_known = branch.versions["river"] == "1"
        return Kit(branch, build_model, StateCodec([build_model()])) if is_known else None

    codec = StateCodec(skeletons())
    return Fold(contract=contract, target=target, lineage=lineage, codec=codec, kit_of=kit_of)


def begun(fold: Fold, *branches: Branch) -> LoopState:
    """Return the state of an empty log in which these branches are admitted and held; the first serves."""
    state = fold.begin()
    for branch in branches or (BRANCH,):
        fold.hold(state, fold.begin_branch(branch))
        state.pointers.admitted[branch.lineage] = branch.text
        state.pointers.champion = state.pointers.champion or branch.lineage
    return state


def skipping(*positions: int, branch: Branch = BRANCH) -> Notices:
    """Return notices that skip these examples."""
    notices = Notices()
    for position in positions:
        notices.skip(branch.lineage, position)
    return notices


def make_row(rng: random.Random, *, poison: bool = False) -> Features:
    x: Features = {"amount": rng.gauss(10, 3), "size": rng.gauss(0, 1)}
    return {"amount": x["amount"], "note": "!", "size": x["size"]} if poison else x


def make_examples(
    count: int = 3,
    seed: int = 0,
    *,
    poison: Iterable[int] = (),
    ys: Sequence[float] | None = None,
    probabilities: Sequence[float] | None = None,
    implicit: Iterable[int] = (),
) -> Examples:
    """Return examples of random rows; those in `poison` make `make_model` raise."""
    rng, poison, implicit = random.Random(seed), set(poison), set(implicit)
    rows = [make_row(rng, poison=row in poison) for row in range(count)]
    ps = np.array([rng.random() for _ in rows] if probabilities is None else probabilities, np.float64)
    y_pred = np.where(np.isnan(ps), math.nan, (ps > 0.5).astype(np.float64))
    offsets = np.arange(count, dtype=np.int64)
    return Examples(
        kinds=np.array([IMPLICIT if row in implicit else JOINED for row in range(count)], np.int64),
        ids=[f"{seed}-{row}" for row in range(count)],
        times_ms=offsets,
        y=np.array([float(rng.random() < 0.5) for _ in rows] if ys is None else ys, np.float64),
        source_partitions=offsets * 0,
        source_offsets=offsets,
        label_partitions=offsets * 0,
        label_offsets=offsets,
        label_broker_ms=offsets,
        state_positions=offsets * 0,
        revisions=offsets * 0,
        sources=[""] * count,
        served=Served(y_pred, ps.reshape(-1, 1)),
        x=CONTRACT.columns(rows),
    )


def make_dropped(count: int = 0) -> Dropped:
    zeros = np.zeros(count, np.int64)
    return Dropped([f"dropped-{row}" for row in range(count)], zeros, zeros, np.arange(count, dtype=np.int64))


def make_block(
    examples: Examples | None = None,
    *,
    number: int = 1,
    owner: str = "joiner-a",
    partition: int = 0,
    dropped: int = 0,
    counts: Mapping[str, int] | None = None,
    contract_id: str | None = None,
    corrections: Corrections | None = None,
) -> TrainingBlock:
    """Return a block of the first owner of partition 0."""
    return TrainingBlock(
        contract_id=contract_id or CONTRACT.id,
        log_id="log",
        partition=partition,
        owner=owner,
        number=number,
        examples=make_examples() if examples is None else examples,
        dropped=make_dropped(dropped),
        vector=Vector(counts=counts or {}),
        corrections=corrections or Corrections.none(),
    )


def make_claim(owner: str = "joiner-a", after: str | None = None, partition: int = 0, log_id: str = "log") -> Claim:
    return Claim(partition, owner, after, log_id)


def make_learner_claim(owner: str = "learner-a", after: str | None = None) -> Claim:
    return Claim(LEARNER, owner, after, "log")


def make_skip(position: int, number: int = 1, owner: str = "learner-a", branch: Branch = BRANCH) -> Skip:
    return Skip(owner, number, position, branch.lineage, "TypeError")


def make_admit(branch: Branch = BRANCH, number: int = 1, owner: str = "learner-a", **overrides: Any) -> Admit:
    given = {"definition": branch.text, "position": 0, "digest": "0" * 64, "by": "eve", "why": "because"}
    return Admit(owner, number, branch.lineage, **(given | overrides))


def make_command(
    branch: Branch = BRANCH,
    number: int = 1,
    owner: str = "learner-a",
    kind: CommandKind = CommandKind.PROMOTE,
    epoch: int = 0,
    source_offset: int = -1,
) -> Command:
    return Command(owner, number, f"id-{number}", kind, branch.lineage, epoch, "eve", "because", source_offset)


def make_log(*records: LogRecord, start: int = 0) -> list[Logged]:
    """Return the records at rising offsets, each with a digest of its own."""
    return [Logged(start + i, record, f"{start + i:064x}") for i, record in enumerate(records)]

"""The fold of many branches: each is what it would be alone, whichever others are held beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.builders import make_corrections
from tests.log_builders import (
    BRANCH,
    begun,
    make_admit,
    make_block,
    make_branch,
    make_claim,
    make_command,
    make_examples,
    make_fold,
    make_learner_claim,
    make_log,
    skipping,
)

from tailrace.domain.branches import Branch, Filter, part_name
from tailrace.domain.errors import ContractError, FoldError
from tailrace.domain.learning import Fold
from tailrace.domain.notices import CorrectedTargets, Logged, Notices
from tailrace.domain.positions import position_of
from tailrace.domain.records import CommandKind
from tailrace.domain.state import LOOP, read_directory

LATER = make_branch(start=position_of(3, 4))
FOREIGN = make_branch(versions={"river": "2"})


def long_log() -> list[Logged]:
    return make_log(
        make_claim(),
        make_learner_claim(),
        make_admit(),
        make_block(make_examples(20, 1)),
        make_admit(LATER, number=2),
        make_block(make_examples(30, 2), number=2),
        make_command(LATER, number=3),
        make_block(make_examples(5, 3), number=3),
    )


def alone(branch: Branch, log: list[Logged], notices: Notices | None = None) -> tuple[Fold, bytes]:
    """Return the body of a branch that was folded by itself."""
    fold = make_fold()
    state = fold.begin()
    fold.hold(state, fold.begin_branch(branch))
    fold.fold(state, log, notices or Notices())
    return fold, fold.body_of(state.branches[branch.lineage])


def test_a_branch_is_the_same_beside_others_and_alone() -> None:
    log, fold = long_log(), make_fold()
    state = begun(fold, BRANCH, LATER)
    state.pointers = fold.begin().pointers

    fold.fold(state, log)

    for branch in (BRANCH, LATER):
        assert alone(branch, log)[1] == fold.body_of(state.branches[branch.lineage])


def test_the_loops_own_part_does_not_depend_on_the_branches_that_are_held() -> None:
    """What a builder folds beside a learner must come to the learner's bytes, though it holds one branch alone."""
    log, parts = long_log(), []
    for branches in ((), (BRANCH,), (BRANCH, LATER)):
        fold = make_fold()
        state = fold.begin()
        for branch in branches:
            fold.hold(state, fold.begin_branch(branch))
        fold.fold(state, log)
        parts.append(fold.parts(state)[LOOP])

    assert 1 == len(set(parts))


def test_a_branch_learns_from_its_start_on() -> None:
    fold = make_fold()
    state = begun(fold, BRANCH, LATER)

    fold.fold(state, long_log())

    later = state.branches[LATER.lineage]
    assert (20 - 4 + 30 + 5, 4) == (later.learned, later.left_out)
    assert state.position == later.position


def test_a_pointer_moves_at_its_position_and_the_champion_with_it() -> None:
    fold, log = make_fold(), long_log()
    state = fold.begin()
    for branch in (BRANCH, LATER):
        fold.hold(state, fold.begin_branch(branch))

    fold.fold(state, log[:6])
    assert state.branches[BRANCH.lineage] is state.champion
    fold.fold(state, log)
    assert state.branches[LATER.lineage] is state.champion
    assert position_of(6) == state.pointers.decisions[-1].position


def test_a_retired_branch_is_let_go() -> None:
    fold = make_fold()
    state = begun(fold, BRANCH, LATER)
    retire = make_command(LATER, kind=CommandKind.RETIRE)

    fold.fold(state, make_log(make_learner_claim(), retire))

    assert [BRANCH.lineage] == list(state.branches)


def test_a_branch_that_is_warmed_beside_goes_on_when_the_log_retires_it() -> None:
    """A branch may be admitted again: without `beside` a learner that warms it would lose it at its retirement."""
    log = long_log()[:5]
    retire = make_command(LATER, number=3, kind=CommandKind.RETIRE)
    log += make_log(retire, make_block(make_examples(5, 3), number=2))[-2:]
    log = [logged._replace(offset=offset) for offset, logged in enumerate(log)]
    fold = make_fold()
    state = fold.begin()
    state.beside = frozenset({LATER.lineage})
    fold.hold(state, fold.begin_branch(LATER))

    fold.fold(state, log)

    assert {BRANCH.lineage} == state.pointers.admitted.keys()
    assert 20 - 4 + 5 == state.branches[LATER.lineage].learned


def test_commands_of_a_former_learner_change_nothing() -> None:
    """
    Without the check of owner and number a zombie's promotion would count, for some readers.
    """
    fold = make_fold()
    state = begun(fold, BRANCH, LATER)
    successor = make_learner_claim("learner-b", after="learner-a")

    fold.fold(state, make_log(make_learner_claim(), successor, make_command(LATER)))

    assert (BRANCH.lineage, 1) == (state.pointers.champion, state.counts.fenced_notices)


def test_admitted_branches_that_can_be_folded_here_and_are_not_held_are_missing() -> None:
    fold = make_fold()
    state = fold.begin()
    log = make_log(make_learner_claim(), make_admit(), make_admit(FOREIGN, number=2), make_admit(LATER, number=3))
    fold.hold(state, fold.begin_branch(LATER))

    fold.fold(state, log)

    assert [BRANCH] == fold.missing(state)
    assert state.champion is None
    assert {} == fold.publication(state)


def test_what_cannot_be_folded_here_is_neither_begun_nor_restored() -> None:
    fold, elsewhere = make_fold(), Fold(
        contract=make_fold().contract, target=make_fold().target, lineage="loop", codec=make_fold()._codec,
        kit_of=lambda branch: None,
    )  # fmt: skip
    parts = fold.parts(begun(fold))

    with pytest.raises(ContractError, match="cannot fold the branch"):
        fold.begin_branch(FOREIGN)
    assert {} == elsewhere.restore(parts).branches
    assert elsewhere.restore_champion(parts) is None


def test_a_branch_that_is_behind_cannot_be_held() -> None:
    fold = make_fold()
    state = fold.begin()
    fold.fold(state, long_log())

    with pytest.raises(ContractError, match="ends at 0:0, the state at 8:0; catch it up first"):
        fold.hold(state, fold.begin_branch(BRANCH))


def test_a_branch_that_is_ahead_waits_and_has_no_part_until_the_state_has_come_to_it() -> None:
    fold, log = make_fold(), long_log()
    ahead = begun(fold, BRANCH)
    fold.fold(ahead, log[:6])
    state = begun(fold, LATER)
    fold.hold(state, ahead.branches[BRANCH.lineage])
    state.pointers.admitted[BRANCH.lineage] = BRANCH.text

    fold.fold(state, log[:4])
    assert part_name(BRANCH.lineage) not in fold.parts(state)
    fold.fold(state, log)

    assert alone(BRANCH, log)[1] == fold.body_of(state.branches[BRANCH.lineage])
    assert part_name(BRANCH.lineage) in fold.parts(state)


def test_a_branch_restored_in_the_middle_of_a_block_learns_the_rest_of_it() -> None:
    fold, log = make_fold(), long_log()
    half = begun(fold, BRANCH)
    half.pointers = fold.begin().pointers
    fold.fold(half, log[:3])
    block = fold.open(half, *log[3])
    assert block is not None
    fold.learn(half, block, 3, 0, 7)
    state = fold.begin()
    fold.hold(state, half.branches[BRANCH.lineage])

    fold.fold(state, log)

    assert alone(BRANCH, log)[1] == fold.body_of(state.branches[BRANCH.lineage])


def test_a_branch_that_was_not_admitted_has_a_part_only_where_it_is_asked_for() -> None:
    fold = make_fold()
    state = fold.begin()
    fold.hold(state, fold.begin_branch(BRANCH))

    assert {LOOP, "branches"} == fold.parts(state).keys()
    assert part_name(BRANCH.lineage) in fold.parts_with(state, BRANCH.lineage)


def test_the_directory_says_which_branch_serves() -> None:
    fold, other = make_fold(), make_branch(model="other")
    state = begun(fold, BRANCH, other)

    champion, definitions = read_directory(fold.parts(state))

    assert BRANCH.lineage == champion
    assert {BRANCH.lineage: BRANCH, other.lineage: other} == definitions
    assert [BRANCH.lineage] == list(read_directory(fold.publication(state))[1])
    assert [other.lineage] == list(fold.restore_branches(fold.parts(state), only=other.lineage))


def test_a_failure_names_the_branch_and_its_skip_concerns_no_other() -> None:
    bad = make_log(make_claim(), make_block(make_examples(9, poison=[4])))
    fold = make_fold()
    state = begun(fold, BRANCH, make_branch(start=position_of(1, 6)))

    with pytest.raises(FoldError) as caught:
        fold.fold(state, bad)
    assert (BRANCH.lineage, position_of(1, 4)) == (caught.value.branch, caught.value.position)

    again = begun(fold, BRANCH, LATER)
    fold.fold(again, bad, skipping(position_of(1, 4)))
    assert (8, 1) == (again.champion.learned, again.champion.skipped)


def test_a_repaired_branch_is_what_a_log_without_the_bad_examples_would_give() -> None:
    """
    The strongest answer to poisoned labels: drop their source, and the model is byte for byte the one that never
    learned them. Compared with a log in which these examples were never written.
    """
    examples = make_examples(30, 1)
    sources = ["crowd" if row % 3 == 0 else "" for row in range(30)]
    kept = [row for row in range(30) if row % 3]
    repaired = make_branch(filter=Filter(sources=("crowd",)))
    log = make_log(make_claim(), make_block(replace(examples, sources=sources)))
    clean = make_fold()
    state = begun(clean)
    for row in kept:
        model = state.champion.model
        model.learn_one(clean.contract.rows(examples.x)[row], bool(examples.y[row]))

    fold = make_fold()
    found = begun(fold, repaired)
    fold.fold(found, log)

    encode = fold.kit(repaired).codec.encode
    assert encode(state.champion.model) == encode(found.champion.model)
    assert (20, 10) == (found.champion.learned, found.champion.left_out)


def test_corrected_labels_are_learned_as_if_they_had_been_right_from_the_start() -> None:
    examples = make_examples(6, 1, ys=[0.0] * 6)
    said = make_corrections(("1-2", 2, 1.0), ("1-4", 4, None))
    log = make_log(make_claim(), make_block(examples), make_block(make_examples(3, 2), number=2, corrections=said))
    corrected = make_branch(filter=Filter(corrected_to=position_of(3)))
    targets = CorrectedTargets(position_of(3))
    for offset, record, _ in log:
        targets.read(offset, record)
    right = make_examples(6, 1, ys=[0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    without = make_branch(filter=Filter(start=position_of(1, 4), end=position_of(1, 5)))

    fold, ours = alone(corrected, log, Notices(corrections=targets.found))
    _, theirs = alone(without, make_log(make_claim(), make_block(right), make_block(make_examples(3, 2), number=2)))

    decode = fold.kit(corrected).codec.decode
    encode = fold.kit(corrected).codec.encode
    assert encode(decode(ours)["model"]) == encode(decode(theirs)["model"])
    assert (8, 1) == (decode(ours)["learned"], decode(ours)["left_out"])


def test_the_definition_of_a_branch_that_is_held_is_known() -> None:
    fold = make_fold()

    assert BRANCH == fold.definition(begun(fold).champion)


def test_the_state_knows_where_the_last_correction_lies_and_keeps_it() -> None:
    """A learner asks it whether there is anything that the serving branch does not know; fenced blocks say nothing."""
    said, fold = make_corrections(("1-0", 0, 1.0)), make_fold()
    state = begun(fold)

    fold.fold(
        state,
        make_log(
            make_claim(),
            make_block(make_examples(2, 1)),
            make_block(number=2, corrections=said),
            make_block(number=3),
            make_block(number=9, corrections=said),
        ),
    )

    assert position_of(3) == state.corrections_end
    assert position_of(3) == fold.restore(fold.parts(state)).corrections_end

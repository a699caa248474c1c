"""Which admitted branches a process goes on without."""

from __future__ import annotations

from tests.log_builders import BRANCH, begun, make_branch, make_fold

from tailrace.streams.held_back import HeldBack

BESIDE = make_branch(model="beside")


def test_a_branch_that_is_held_back_is_neither_missed_nor_taken_from_a_restored_state() -> None:
    """
    A snapshot may hold a branch at which a follower's model raised: it would raise there again after every restore.
    """
    fold = make_fold()
    state, held_back = begun(fold, BRANCH, BESIDE), HeldBack()

    held_back.add(BESIDE.lineage, "its model raised")
    held_back.leave_out(state)

    assert {BRANCH.lineage} == state.branches.keys()
    assert ([BESIDE], []) == (fold.missing(state), held_back.missing(fold, state))
    held_back.discard(BESIDE.lineage)
    assert [BESIDE] == held_back.missing(fold, state)


def test_only_what_is_admitted_is_told() -> None:
    """A branch that was retired since is nobody's concern."""
    state, held_back = begun(make_fold(), BRANCH, BESIDE), HeldBack()
    held_back.add(BESIDE.lineage, "its file is gone")

    told = held_back.remark(state)
    del state.pointers.admitted[BESIDE.lineage]

    assert told.startswith(f"branch {BESIDE.lineage[:12]} is admitted and not folded here: its file is gone; ")
    assert ("", "") == (held_back.remark(state), held_back.remark(None))

"""Erasure: what a filter leaves out is gone from the rewritten log, and nothing else has changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.builders import make_corrections, make_scored_block
from tests.log_builders import (
    BRANCH,
    begun,
    make_admit,
    make_block,
    make_branch,
    make_claim,
    make_command,
    make_dropped,
    make_examples,
    make_fold,
    make_learner_claim,
    make_log,
    make_skip,
)

from tailrace.domain.blocks import ERASED, Lowest, Vector
from tailrace.domain.branches import Filter, digest_of_ids, hash_of_id
from tailrace.domain.erasure import Erasure, survivor_of
from tailrace.domain.notices import Correction, Logged, Notices, read_notices
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import position_of

FORGOTTEN = [hash_of_id(event_id) for event_id in ("1-3", "2-0", "gone")]
REPAIRED = make_branch(filter=Filter(corrected_to=position_of(7), ids=digest_of_ids(FORGOTTEN), ids_to=position_of(7)))


def old_log() -> list[Logged]:
    """A branch, its repair, blocks of two contracts' worth of records, a fenced one, and a skip."""
    said = make_corrections(("1-3", 3, 0.0), ("1-4", 4, 1.0))
    dropped = replace(make_dropped(2), ids=["gone", "stays"])
    return make_log(
        make_claim(),
        make_learner_claim(),
        make_admit(),
        make_block(make_examples(8, 1, poison=[6])),
        make_skip(position_of(3, 6), number=2),
        replace(make_block(make_examples(5, 2), number=2, corrections=said), dropped=dropped),
        make_block(make_examples(5, 2), number=2),
        make_admit(REPAIRED, number=3, ids=tuple(FORGOTTEN), skips=(position_of(3, 6),)),
        make_command(REPAIRED, number=4),
    )


def rewritten(log: list[Logged]) -> tuple[Erasure, list[Logged]]:
    erasure = Erasure(REPAIRED, read_notices(log, OwnershipState()), "new log", "0" * 64)
    return erasure, [Logged(offset, erasure.rewrite(offset, record), digest) for offset, record, digest in log]


def test_the_branch_comes_to_the_same_model_without_its_filter() -> None:
    """
    What makes it safe to throw the old log away. Without the marks that erased rows are, the fold of the new log
    would learn them as rows of zeros.
    """
    log = old_log()
    erasure, new = rewritten(log)
    fold = make_fold()
    before, after = begun(fold, REPAIRED), begun(fold, erasure.survivor)
    before.pointers, after.pointers = fold.begin().pointers, fold.begin().pointers
    notices = read_notices(log, OwnershipState())
    at = position_of(4)
    notices.corrections = {("1-3", 3): (Correction(at, 0.0, ""),), ("1-4", 4): (Correction(at, 1.0, ""),)}

    fold.fold(before, log, notices)
    fold.fold(after, new, _with(read_notices(new, OwnershipState()), notices))

    old, survivor = before.branches[REPAIRED.lineage], after.branches[erasure.survivor.lineage]
    encode = fold.kit(REPAIRED).codec.encode
    assert encode(old.model) == encode(survivor.model)
    assert (old.learned, old.left_out, old.skipped) == (survivor.learned, survivor.left_out, survivor.skipped)
    assert erasure.survivor.lineage == after.pointers.champion
    assert 2 == after.counts.erased


def _with(found: Notices, other: Notices) -> Notices:
    found.corrections = other.corrections
    return found


def test_nothing_of_an_erased_example_is_left_but_where_it_came_from() -> None:
    log = old_log()
    _, new = rewritten(log)
    old, block = log[3].record.examples, new[3].record.examples

    row, same = 3, [row for row in range(8) if row != 3]
    assert (ERASED, "", 0, 0.0, 0, "") == (
        *(block.kinds[row], block.ids[row], block.times_ms[row], block.y[row], block.revisions[row]),
        block.sources[row],
    )
    assert not np.any(block.x.numbers[row])
    assert np.isnan(block.served.y_pred[row])
    assert np.isnan(block.served.proba[row]).all()
    assert {""} == set(block.x.strings[row])
    assert (old.source_offsets[row], old.label_offsets[row]) == (block.source_offsets[row], block.label_offsets[row])
    for column in ("kinds", "times_ms", "y"):
        assert np.array_equal(getattr(old, column)[same], getattr(block, column)[same])
    assert [old.ids[row] for row in same] == [block.ids[row] for row in same]


@pytest.mark.parametrize("name", ["1-3", "2-0", "gone"])
def test_an_erased_id_stands_nowhere_in_the_new_log(name: str) -> None:
    """Fenced blocks are read by people too: `log cat` prints them."""
    _, new = rewritten(old_log())

    for _, record, _ in new:
        assert f"'{name}'" not in repr(record)
        assert hash_of_id(name) not in repr(record)


def test_every_record_keeps_its_place_and_the_log_has_a_new_name() -> None:
    log = old_log()
    erasure, new = rewritten(log)

    assert [record.offset for record in log] == [record.offset for record in new]
    assert [type(record.record) for record in log] == [type(record.record) for record in new]
    assert {"new log"} == {record.record.log_id for record in new if hasattr(record.record, "log_id")}
    assert 2 + 1 + 1 + 1 == erasure.rows  # in two blocks, a dropped one, a correction; the fenced block's own
    assert {("1-3", 3), ("2-0", 0)} == erasure.erased


def test_only_the_survivor_is_admitted_and_its_skips_go_with_it() -> None:
    erasure, new = rewritten(old_log())
    notices = read_notices(new, OwnershipState())

    assert {erasure.survivor.lineage: erasure.survivor.text} == notices.admitted
    assert {position_of(3, 6)} == notices.of(erasure.survivor.lineage).skips
    assert BRANCH.lineage not in {record.record.branch for record in new if hasattr(record.record, "definition")}


def test_the_skip_of_another_branch_and_a_command_stay_as_they_are() -> None:
    log = old_log()
    _, new = rewritten(log)

    assert log[4].record == new[4].record
    assert log[8].record == new[8].record


def test_the_skip_of_the_branch_itself_becomes_the_survivors() -> None:
    skip = make_skip(7, branch=REPAIRED)
    erasure = Erasure(REPAIRED, Notices(), "new log", "")

    assert replace(skip, branch=erasure.survivor.lineage) == erasure.rewrite(9, skip)


def test_a_filter_without_ids_erases_no_dropped_events() -> None:
    branch = make_branch(filter=Filter(sources=("crowd",)))
    block = replace(make_block(make_examples(2)), dropped=make_dropped(2))
    erasure = Erasure(branch, Notices(), "new log", "")

    assert block.dropped == erasure.rewrite(0, block).dropped
    assert 0 == erasure.rows


def test_a_survivor_names_no_event_and_keeps_what_may_concern_the_future() -> None:
    """A source that lied goes on being left out."""
    drop = replace(REPAIRED.filter, sources=("crowd",), start=5)

    assert Filter(position_of(7), ("crowd",), "", 5) == survivor_of(replace(REPAIRED, filter=drop)).filter
    assert survivor_of(REPAIRED) == survivor_of(survivor_of(REPAIRED))


def test_what_is_erased_is_not_erased_again() -> None:
    by_source = make_branch(filter=Filter(sources=("",)))
    erasure = Erasure(by_source, Notices(), "new log", "")
    block = erasure.rewrite(0, make_block(make_examples(3)))
    again = Erasure(survivor_of(by_source), Notices(), "newer log", "")

    assert block == replace(again.rewrite(0, block), log_id="new log")
    assert (3, 0) == (erasure.rows, again.rows)


def test_drift_names_the_true_positions_beside_erased_rows() -> None:
    examples = make_examples(6, 1)
    kinds = examples.kinds.copy()
    kinds[1] = ERASED
    fold = make_fold()
    state = begun(fold)

    fold.fold(state, make_log(make_claim(), make_block(replace(examples, kinds=kinds))))

    assert (5, 1) == (state.champion.learned, state.champion.left_out)
    assert 5 == state.quality.metrics["accuracy"].samples


def test_an_event_that_a_joiner_would_read_again_is_too_young_to_be_erased() -> None:
    """
    Without the question a joiner that takes over after the rewriting would take the event for one that still waits,
    and write it into the log again.
    """
    erasure, _ = rewritten(old_log())
    waiting = Vector(scored_low=Lowest(position_of(5, 1), 0))
    erasure.vectors = {0: waiting}
    source = int(make_examples(8, 1).source_offsets[3])
    block = make_scored_block(("a", 1), ("b", 2), source_offsets=[source, source + 900])

    assert not erasure.too_early(5, block, 0)
    assert erasure.too_early(6, block, 0)
    assert erasure.too_early(5, block, 1)


def test_the_last_accepted_vectors_are_known() -> None:
    erasure, _ = rewritten(old_log())

    assert [0] == list(erasure.vectors)

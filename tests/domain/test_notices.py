"""Notices: what a first pass over the log gathers, and what a branch learns with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.builders import make_corrections
from tests.log_builders import (
    BRANCH,
    make_admit,
    make_block,
    make_branch,
    make_claim,
    make_command,
    make_examples,
    make_fold,
    make_learner_claim,
    make_log,
    make_skip,
)

from tailrace.domain.branches import Filter, hash_of_id
from tailrace.domain.notices import (
    BranchNotices,
    CorrectedTargets,
    Correction,
    Notices,
    lessons_of,
    read_notices,
    read_pointers,
)
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import Pointers
from tailrace.domain.positions import position_of

OTHER = make_branch(model="other")


def test_skips_of_a_tail_are_those_of_the_learner_that_owns_it() -> None:
    """A former learner's skip, and one for what lies ahead of it, change nothing; each counts for its branch alone."""
    log = make_log(
        make_learner_claim("learner-a"),
        make_block(),
        make_skip(position_of(1, 0)),
        make_learner_claim("learner-b", after="learner-a"),
        make_skip(position_of(1, 1), number=2),
        make_skip(position_of(1, 2), owner="learner-b", branch=OTHER),
        make_skip(position_of(9, 0), owner="learner-b", number=2),
    )
    ownership = OwnershipState()

    found = read_notices(log, ownership)

    assert {position_of(1, 0)} == found.of(BRANCH.lineage).skips
    assert {position_of(1, 2)} == found.of(OTHER.lineage).skips
    assert BranchNotices() == found.of("unknown")
    assert OwnershipState() == ownership


def test_what_admits_a_branch_names_its_skips_and_ids() -> None:
    skips = (position_of(0), position_of(9))
    log = make_log(
        make_learner_claim(), make_admit(OTHER, ids=("aa", "bb"), skips=skips), make_command(OTHER, number=2)
    )

    found = read_notices(log, OwnershipState())

    assert BranchNotices({position_of(0)}, frozenset({"aa", "bb"})) == found.of(OTHER.lineage)
    assert {OTHER.lineage: OTHER.text} == found.admitted


def said(y: float | None, position: int = 0, source: str = "") -> Correction:
    return Correction(position, y, source)


def test_pointers_are_brought_up_to_date_as_the_fold_does_it() -> None:
    """Blocks may be left out; records of a former owner, and those without their turn, decide nothing."""
    fold, other = make_fold(), make_branch(start=9)
    log = make_log(
        make_claim(),
        make_learner_claim(),
        make_admit(),
        make_block(),
        make_admit(other, number=2),
        make_skip(position_of(3), number=3),
        make_command(other, number=4),
        make_command(number=4, epoch=1),
        make_command(number=1, owner="learner-b", epoch=1),
    )
    state = fold.begin()
    fold.hold(state, fold.begin_branch(BRANCH))
    fold.fold(state, log)
    ownership, pointers = OwnershipState(), Pointers()

    for part in (log[:2], [record for record in log[2:] if record.offset != 3]):
        read_pointers(part, ownership, pointers)

    assert other.lineage == pointers.champion
    assert state.pointers.dump() == pointers.dump()


def test_two_passes_are_put_together() -> None:
    one = Notices(
        {"a": BranchNotices({1}, frozenset("x"))},
        {"a": "text"},
        {("e", 1): (said(1.0), said(0.0)), ("f", 1): (said(0.0),)},
        {"a": 7, "c": 9},
    )
    two = Notices(
        {"a": BranchNotices({2}), "b": BranchNotices({3})},
        {"b": "text"},
        {("e", 1): (said(1.0),), ("f", 1): (said(0.0), said(None))},
        {"a": 8, "b": 3, "c": 2},
    )

    one.merge(two)

    assert {"a": BranchNotices({1, 2}, frozenset("x")), "b": BranchNotices({3})} == one.branches
    assert {"a": "text", "b": "text"} == one.admitted
    assert {"a": 8, "b": 3, "c": 9} == one.last_admitted
    expected = {("e", 1): (said(1.0), said(0.0)), ("f", 1): (said(0.0), said(None))}
    assert expected == one.corrections, "what reaches further stays"


def test_accepted_corrections_are_gathered_by_event_in_the_order_of_the_log() -> None:
    """Those of fenced blocks, and those at or after the end, are not."""
    targets = CorrectedTargets(position_of(4))
    first = make_corrections(("a", 1, 1.0), ("b", 1, 0.0), ("a", 1, 0.0))
    second = make_corrections(("b", 1, None), source="crowd")
    late = make_corrections(("a", 1, 1.0))
    for offset, record, _ in make_log(
        make_claim(),
        make_block(corrections=first),
        make_block(number=9, corrections=late),
        make_block(number=2, corrections=second),
        make_block(number=3, corrections=late),
    ):
        targets.read(offset, record)
    targets.read(3, make_skip(0))

    at, later = position_of(1), position_of(3)
    expected = {
        ("a", 1): (Correction(at, 1.0, ""), Correction(at, 0.0, "")),
        ("b", 1): (Correction(at, 0.0, ""), Correction(later, None, "crowd")),
    }
    assert expected == targets.found


def test_a_branch_without_a_filter_learns_everything_but_what_it_skips() -> None:
    examples = make_examples(4)

    lessons = lessons_of(examples, 100, Filter(), BranchNotices({99, 101, 104}), {("0-0", 0): (said(1.0),)})

    assert examples.y is lessons.y
    assert ({1}, set(), False) == (lessons.skipped, lessons.left_out, lessons.is_whole)
    assert lessons_of(examples, 100, Filter(), BranchNotices(), {}).is_whole


def test_corrections_count_up_to_where_the_filter_says() -> None:
    """Row 1 is corrected, row 2 is withdrawn, row 3 lies behind the position; the recorded targets stay as they are."""
    examples = make_examples(4, ys=[0.0, 0.0, 0.0, 0.0])
    corrections = {("0-1", 1): (said(1.0),), ("0-2", 2): (said(None),), ("0-3", 3): (said(1.0),)}

    lessons = lessons_of(examples, 100, Filter(corrected_to=103), BranchNotices(), corrections)

    assert [0.0, 1.0, 0.0, 0.0] == lessons.y.tolist()
    assert {2} == lessons.left_out
    assert not np.any(examples.y)
    assert lessons_of(examples, 103, Filter(corrected_to=103), BranchNotices(), corrections).is_whole
    assert lessons_of(examples, 100, Filter(corrected_to=103), BranchNotices(), {}).is_whole


def test_of_several_corrections_the_last_one_before_the_position_and_of_a_good_source_counts() -> None:
    """So that two branches can read one list, and a source that is dropped corrects nothing either."""
    examples = make_examples(1, ys=[0.0])
    corrections = {("0-0", 0): (said(2.0, 110), said(3.0, 120), said(None, 130, "crowd"))}

    def learned(drop: Filter) -> tuple[list[float], frozenset[int]]:
        lessons = lessons_of(examples, 100, drop, BranchNotices(), corrections)
        return lessons.y.tolist(), lessons.left_out

    assert ([0.0], frozenset()) == learned(Filter(corrected_to=110))
    assert ([2.0], frozenset()) == learned(Filter(corrected_to=111))
    assert ([3.0], frozenset()) == learned(Filter(corrected_to=130))
    assert ([0.0], {0}) == learned(Filter(corrected_to=131))
    assert ([3.0], frozenset()) == learned(Filter(corrected_to=131, sources=("crowd",)))


def test_examples_are_left_out_by_source_by_id_and_by_place() -> None:
    examples = replace(make_examples(4), sources=["crowd", "", "expert", "crowd"])
    notices = BranchNotices({103}, frozenset({hash_of_id("0-2")}))

    def left_out(drop: Filter) -> frozenset[int]:
        return lessons_of(examples, 100, drop, notices, {}).left_out

    assert {0, 3} == left_out(Filter(sources=("crowd",)))
    assert {3} == left_out(Filter(sources=("crowd",), start=101))
    assert {2} == left_out(Filter(ids="digest", ids_to=103))
    assert set() == left_out(Filter(ids="digest", ids_to=102))
    assert {0, 2, 3} == left_out(Filter(ids="digest", ids_to=103, sources=("crowd",)))
    assert {2, 3} == left_out(Filter(ids="digest", ids_to=103, sources=("crowd",), start=101))
    assert {1, 2} == left_out(Filter(start=101, end=103))
    assert set() == lessons_of(examples, 100, Filter(sources=("crowd",)), notices, {}).skipped

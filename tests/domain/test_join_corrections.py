"""What later labels of an event do to it: H = 100, D = 20, S = 5, R = 50, C = 30."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from tests.builders import (
    make_forward,
    make_join_spec,
    make_label,
    make_limits,
    make_scored_block,
    make_times,
    restart_join,
)

from tailrace.domain.blocks import CORRECTED, IMPLICIT, WITHDRAWN
from tailrace.domain.join import Batch, JoinSpec, LabelJoin
from tailrace.domain.records import Code, DeadLabel, Label

EVENT = make_scored_block(("a", 1_000))
CORRECTED_UNTIL = 1_130


class Said(NamedTuple):
    """A row of `Corrections`."""

    kind: int
    id: str
    time_ms: int
    y: float
    revision: int
    source: str
    label_offset: int


def spec_of(
    *, implicit: float | None = None, corrections_ms: int = 30, max_rows: int = 500, partitions: int = 1
) -> JoinSpec:
    return make_join_spec(
        times=make_times(corrections_ms=corrections_ms),
        implicit=implicit,
        limits=make_limits(max_rows=max_rows),
        partitions=partitions,
    )


def joined(*labels: Label, spec: JoinSpec | None = None) -> Batch:
    """Return what comes of one event and its labels, each with the next offset."""
    join = LabelJoin(spec or spec_of())
    join.on_scored(0, EVENT)
    for label in numbered(*labels):
        join.on_label(label, home=0)
    return join.take()


def numbered(*labels: Label) -> list[Label]:
    return [label._replace(offset=offset) for offset, label in enumerate(labels)]


def said(batch: Batch) -> list[Said]:
    rows = batch.corrections
    return [
        Said(*row)
        for row in zip(
            rows.kinds.tolist(),
            rows.ids,
            rows.times_ms.tolist(),
            rows.y.tolist(),
            rows.revisions.tolist(),
            rows.sources,
            rows.label_offsets.tolist(),
            strict=True,
        )
    ]


def in_force(batch: Batch) -> float:
    """Return the target that counts in the end; NaN: it is withdrawn."""
    return float([*batch.examples.y, *batch.corrections.y][-1])


def test_a_label_of_a_higher_revision_corrects_and_leaves_the_example_as_it_is() -> None:
    batch = joined(make_label("a", 1_010, 1.0), make_label("a", 1_020, 0.0, revision=1, source="desk"))

    assert batch.examples.y.tolist() == [1.0]
    assert said(batch) == [Said(CORRECTED, "a", 1_000, 0.0, 1, "desk", 1)]
    assert batch.vector.counts == {"corrected": 1, "joined": 1}
    assert batch.dead == []


def test_an_example_says_of_which_revision_and_source_its_label_was() -> None:
    examples = joined(make_label("a", 1_010, 1.0, revision=4, source="desk")).examples

    assert (examples.revisions.tolist(), examples.sources) == ([4], ["desk"])


def test_a_higher_revision_without_a_target_withdraws() -> None:
    batch = joined(make_label("a", 1_010, 1.0), make_label("a", 1_020, None, revision=1))

    (row,) = said(batch)
    assert (row.kind, math.isnan(row.y)) == (WITHDRAWN, True)
    assert batch.vector.counts == {"joined": 1, "withdrawn": 1}


def test_what_was_withdrawn_may_be_said_again() -> None:
    batch = joined(
        make_label("a", 1_010, 1.0), make_label("a", 1_020, None, revision=1), make_label("a", 1_030, 1.0, revision=2)
    )

    assert [row.kind for row in said(batch)] == [WITHDRAWN, CORRECTED]
    assert in_force(batch) == 1.0


@pytest.mark.parametrize("y", [1.0, 0.0, None])
def test_an_older_revision_after_a_newer_one_is_a_duplicate_whatever_it_says(y: float | None) -> None:
    batch = joined(make_label("a", 1_010, 1.0, revision=5), make_label("a", 1_020, y, revision=4))

    assert said(batch) == []
    assert batch.vector.counts == {"duplicate": 1, "joined": 1}


def test_a_newer_revision_that_says_the_same_still_rules_out_what_lies_between() -> None:
    """Without a row for the confirmation, the older revision would take effect: at once, or after a restart."""
    batch = joined(
        make_label("a", 1_010, 1.0, revision=1),
        make_label("a", 1_020, 1.0, revision=3),
        make_label("a", 1_030, 0.0, revision=2),
    )

    assert [(row.y, row.revision) for row in said(batch)] == [(1.0, 3)]
    assert batch.vector.counts == {"corrected": 1, "duplicate": 1, "joined": 1}


def test_of_equal_revisions_the_first_counts() -> None:
    second = make_label("a", 1_020, 0.0, revision=1)

    batch = joined(make_label("a", 1_010, 1.0, revision=1), second)

    assert batch.dead == [DeadLabel(second._replace(offset=1), Code.CONFLICTING)]
    assert said(batch) == []


def test_a_withdrawal_of_the_same_revision_changes_nothing() -> None:
    batch = joined(make_label("a", 1_010, 1.0, revision=1), make_label("a", 1_020, None, revision=1))

    assert batch.vector.counts == {"duplicate": 1, "joined": 1}


def test_nothing_can_be_withdrawn_before_a_label_has_spoken() -> None:
    """A withdrawal leaves no trace then: the next label joins, whatever its revision."""
    batch = joined(make_label("a", 1_010, None, revision=7), make_label("a", 1_020, 1.0, revision=1))

    assert said(batch) == []
    assert batch.vector.counts == {"joined": 1, "withdrawn": 1}


@pytest.mark.parametrize(
    ("time_ms", "counts"),
    [
        (CORRECTED_UNTIL, {"corrected": 1, "joined": 1}),
        (CORRECTED_UNTIL + 1, {"joined": 1, "late": 1}),
        (1_150, {"joined": 1, "late": 1}),
        (1_151, {"joined": 1}),
    ],
)
def test_corrections_are_taken_until_their_time_has_passed_boundary_included(
    time_ms: int, counts: dict[str, int]
) -> None:
    """Past T + H + C a correction is late, past T + H + R it belongs to no event that is known."""
    batch = joined(make_label("a", 1_010, 1.0), make_label("a", time_ms, 0.0, revision=1))

    assert batch.vector.counts == counts


def test_a_correction_is_late_by_the_watermark_before_it_too() -> None:
    batch = joined(
        make_label("a", 1_010, 1.0), make_label("other", 1_131, 1.0), make_label("a", 1_050, 0.0, revision=1)
    )

    assert batch.vector.counts == {"joined": 1, "late": 1}


def test_a_late_label_of_a_higher_revision_that_says_the_same_is_a_duplicate() -> None:
    batch = joined(make_label("a", 1_010, 1.0), make_label("a", 1_131, 1.0, revision=1))

    assert batch.vector.counts == {"duplicate": 1, "joined": 1}


@pytest.mark.parametrize(
    ("y", "revision", "outcome"), [(0.0, 9, "conflicting"), (1.0, 9, "duplicate"), (0.0, 0, "conflicting")]
)
def test_where_corrections_are_not_taken_revisions_say_nothing(y: float, revision: int, outcome: str) -> None:
    first = make_label("a", 1_010, 1.0, revision=1)

    batch = joined(first, make_label("a", 1_020, y, revision=revision), spec=spec_of(corrections_ms=0))

    assert batch.vector.counts == {"joined": 1, outcome: 1}


def test_a_late_first_word_on_an_event_that_waits_writes_its_implicit_target_and_the_correction() -> None:
    batch = joined(make_label("a", 1_101, 1.0), spec=spec_of(implicit=0.0))

    assert (batch.examples.kinds.tolist(), batch.examples.y.tolist()) == ([IMPLICIT], [0.0])
    assert said(batch) == [Said(CORRECTED, "a", 1_000, 1.0, 0, "", 0)]
    assert batch.vector.counts == {"corrected": 1, "implicit": 1}


def test_the_implicit_target_and_its_correction_are_never_in_two_blocks() -> None:
    join = LabelJoin(spec_of(implicit=0.0, max_rows=1))
    join.on_scored(0, EVENT)

    join.on_label(make_label("a", 1_101, 1.0), home=0)

    assert join.is_full
    batch = join.take()
    assert (len(batch.examples), len(batch.corrections)) == (1, 1)
    assert not join.has_output


def test_an_implicit_target_that_was_written_is_corrected_by_a_first_word() -> None:
    join = LabelJoin(spec_of(implicit=0.0))
    join.on_scored(0, make_scored_block(("a", 1_000), ("end", 1_120)))
    join.on_label(make_label("end", 1_101, 1.0), home=0)
    join.expire()
    join.take()

    join.on_label(make_label("a", 1_110, 0.0, offset=1), home=0)

    batch = join.take()
    assert len(batch.examples) == 0
    assert batch.vector.counts == {"corrected": 1}


@pytest.mark.parametrize(("implicit", "time_ms"), [(None, 1_101), (0.0, CORRECTED_UNTIL + 1)])
def test_a_first_word_is_late_where_nothing_is_implicit_and_where_corrections_have_ended(
    implicit: float | None, time_ms: int
) -> None:
    batch = joined(make_label("a", time_ms, 1.0), spec=spec_of(implicit=implicit))

    assert batch.vector.counts == {"late": 1}


@pytest.mark.parametrize(("y", "outcome"), [(None, "withdrawn"), (1.0, "late")])
def test_a_dropped_event_has_nothing_to_correct(y: float | None, outcome: str) -> None:
    join = LabelJoin(spec_of())
    join.on_scored(0, make_scored_block(("a", 1_000), ("end", 1_120)))
    join.on_label(make_label("end", 1_101, 1.0), home=0)
    join.expire()
    join.take()

    join.on_label(make_label("a", 1_110, y, offset=1, revision=1), home=0)

    batch = join.take()
    assert batch.vector.counts == {outcome: 1}
    assert said(batch) == []


def test_early_labels_are_judged_in_their_order_corrections_included() -> None:
    join = LabelJoin(spec_of())
    for label in numbered(make_label("a", 1_010, 1.0), make_label("a", 1_020, 0.0, revision=1)):
        join.on_label(label, home=0)

    join.on_scored(0, EVENT)

    batch = join.take()
    assert batch.examples.y.tolist() == [1.0]
    assert in_force(batch) == 0.0


def test_a_forwarded_correction_is_judged_by_the_watermark_of_its_own_partition() -> None:
    join = LabelJoin(spec_of(partitions=2))
    join.on_scored(0, EVENT)
    join.on_label(make_label("a", 1_010, 1.0), home=0)
    late = make_forward(make_label("a", 1_050, 0.0, partition=1, revision=1), watermark_ms=CORRECTED_UNTIL + 1)
    in_time = make_forward(make_label("a", 1_050, 0.0, 1, partition=1, revision=1), watermark_ms=CORRECTED_UNTIL)

    join.on_relabelled(0, late)
    join.on_relabelled(1, in_time)

    batch = join.take()
    assert [dead.code for dead in batch.dead] == [Code.LATE]
    assert [row.label_offset for row in said(batch)] == [1]


def test_corrections_alone_fill_a_block_and_are_waited_for() -> None:
    join = LabelJoin(spec_of(max_rows=2))
    join.on_scored(0, EVENT)
    join.on_label(make_label("a", 1_010, 1.0), home=0)
    join.take()

    join.on_label(make_label("a", 1_020, 0.0, 1, revision=1), home=0)
    has_output, is_full = join.has_output, join.is_full
    join.on_label(make_label("a", 1_030, 1.0, 2, revision=2), home=0)

    assert (has_output, is_full, join.is_full) == (True, False, True)
    assert join.take().contract_id is None


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (make_label("a", 1_040, 0.0, 3, revision=2), "duplicate"),
        (make_label("a", 1_040, 1.0, 3, revision=2), "conflicting"),
        (make_label("a", 1_040, 1.0, 3, revision=1), "duplicate"),
        (make_label("a", 1_040, 1.0, 3, revision=3), "corrected"),
    ],
)
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_join_that_is_made_again_knows_what_counts_of_every_event(last: Label, outcome: str, blocks: int) -> None:
    """Recovery reads targets and revisions from examples and then from corrections, in one block or in several."""
    spec, join = spec_of(), LabelJoin(spec_of())
    labels = numbered(
        make_label("a", 1_010, 0.0), make_label("a", 1_020, None, revision=1), make_label("a", 1_030, 0.0, revision=2)
    )
    join.on_scored(0, EVENT)
    batches = []
    for label in labels:
        join.on_label(label, home=0)
        if blocks > 1 or label is labels[-1]:
            batches.append(join.take())
            join.acknowledged(10 * len(batches))

    again = restart_join(spec, batches, scored=[EVENT], labels=labels)
    again.on_label(last, home=0)

    assert again.take().vector.counts == {outcome: 1}


def test_a_correction_keeps_the_row_of_its_example_in_reach() -> None:
    """The oldest row that recovery must read is the example's, not the correction's."""
    join = LabelJoin(spec_of())
    join.acknowledged(10)
    join.on_scored(0, EVENT)
    join.on_label(make_label("a", 1_010, 1.0), home=0)
    join.take()
    join.acknowledged(20)
    join.on_label(make_label("a", 1_020, 0.0, 1, revision=1), home=0)

    assert join.take().vector.oldest_row == 10


def test_a_correction_of_an_event_that_is_forgotten_is_passed_over_by_recovery() -> None:
    spec, join = spec_of(), LabelJoin(spec_of())
    join.on_scored(0, EVENT)
    join.on_label(make_label("a", 1_010, 1.0), home=0)
    batches = [join.take(), join.take()]
    join.acknowledged(20)
    join.on_label(make_label("a", 1_020, 0.0, 1, revision=1), home=0)
    end = make_scored_block(("b", 5_000))
    join.on_scored(1, end)
    join.on_label(make_label("b", 5_000, 1.0, 2), home=0)
    batches.append(join.take())

    again = restart_join(spec, batches, scored=[EVENT, end])

    assert batches[-1].vector.oldest_row == 20
    assert again.remembered == 1

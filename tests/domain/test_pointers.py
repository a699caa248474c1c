"""Pointers: one champion, moved by commands of its epoch alone, the same for every reader."""

from __future__ import annotations

import random

from tests.log_builders import BRANCH, make_admit, make_branch, make_command

from tailrace.domain.branches import Filter
from tailrace.domain.pointers import DECISIONS_KEPT, MAX_ADMITTED, Pointers
from tailrace.domain.records import CommandKind

OTHER = make_branch(model="other")


def both_admitted() -> Pointers:
    pointers = Pointers()
    pointers.admit(1, make_admit())
    pointers.admit(2, make_admit(OTHER))
    return pointers


def test_the_first_branch_that_is_admitted_becomes_the_champion() -> None:
    pointers = both_admitted()

    assert (BRANCH.lineage, 0) == (pointers.champion, pointers.epoch)
    assert [BRANCH.lineage, OTHER.lineage] == list(pointers.admitted)
    assert ["", ""] == [decision.refusal for decision in pointers.decisions]


def test_a_promotion_moves_the_pointer_and_begins_an_epoch() -> None:
    pointers = both_admitted()

    decision = pointers.command(3, make_command(OTHER, source_offset=8))

    assert (OTHER.lineage, 1, 9) == (pointers.champion, pointers.epoch, pointers.commands_next)
    assert ("promote", OTHER.lineage, "eve", "because", "", 1, 3) == (
        *(decision.kind, decision.branch, decision.by, decision.why, decision.refusal, decision.epoch),
        decision.position,
    )


def test_a_command_of_another_epoch_changes_nothing() -> None:
    """
    A command takes effect at most once: the second time its epoch is over. Without the comparison of epochs the
    repeated promotions here would move the pointer again.
    """
    pointers = both_admitted()
    pointers.command(3, make_command(OTHER))
    pointers.command(4, make_command(BRANCH, epoch=1))

    again = pointers.command(5, make_command(OTHER))

    assert BRANCH.lineage == pointers.champion
    assert "it was made for epoch 0, this is epoch 2; look again, then repeat" == again.refusal


def test_what_the_learner_decides_itself_does_not_bring_old_commands_back() -> None:
    """
    Its own commands come from no offset. If they moved the next offset back, a restart would read all of them again.
    """
    pointers = both_admitted()
    pointers.command(3, make_command(OTHER, source_offset=8))

    pointers.command(4, make_command(BRANCH, epoch=1))

    assert 9 == pointers.commands_next


def test_a_retired_branch_is_not_admitted_any_more() -> None:
    pointers = both_admitted()

    pointers.command(3, make_command(OTHER, kind=CommandKind.RETIRE))

    assert [BRANCH.lineage] == list(pointers.admitted)
    assert "the branch is not admitted" in pointers.command(4, make_command(OTHER, epoch=1)).refusal


def test_what_cannot_be_is_refused_with_its_reason() -> None:
    pointers = both_admitted()

    assert "it serves already" == pointers.command(3, make_command()).refusal
    retirement = make_command(kind=CommandKind.RETIRE)
    assert "it serves; promote another branch first" == pointers.command(4, retirement).refusal
    assert "it is admitted already" == pointers.admit(5, make_admit()).refusal
    assert (
        "definition that cannot be read" in pointers.admit(6, make_admit(make_branch(start=1), definition="{}")).refusal
    )
    foreign = make_admit(make_branch(start=1), definition=OTHER.text)
    assert "its definition is that of another branch" == pointers.admit(7, foreign).refusal
    assert (BRANCH.lineage, 0, 2) == (pointers.champion, pointers.epoch, len(pointers.admitted))


def test_a_branch_that_counts_corrections_to_come_is_refused() -> None:
    """
    What a filter counts must stand in the log before the branch is admitted, else two learners that came to know the
    corrections at different times would come to different states.
    """
    pointers, branch = both_admitted(), make_branch(filter=Filter(corrected_to=8))

    too_early = pointers.admit(7, make_admit(branch)).refusal
    in_time = pointers.admit(8, make_admit(branch)).refusal

    assert "its filter speaks of what is not in the log yet; build it again, up to the log's end" == too_early
    assert "" == in_time


def test_the_number_of_admitted_branches_is_bounded() -> None:
    pointers = Pointers()
    for start in range(MAX_ADMITTED):
        pointers.admit(start, make_admit(make_branch(start=start)))

    refused = pointers.admit(99, make_admit(make_branch(start=99)))

    assert f"{MAX_ADMITTED} branches are admitted, which is the most; retire one first" == refused.refusal


def test_only_the_last_decisions_are_remembered() -> None:
    pointers = both_admitted()
    for position in range(100):
        pointers.command(position, make_command(epoch=77))

    assert DECISIONS_KEPT == len(pointers.decisions)
    assert 99 == pointers.decisions[-1].position


def test_pointers_come_back_from_their_plain_form() -> None:
    pointers = both_admitted()
    pointers.command(3, make_command(OTHER, source_offset=8))

    assert pointers == Pointers.load(pointers.dump())


def test_a_storm_of_commands_leaves_one_champion_per_epoch() -> None:
    """
    10,000 commands, duplicate, stale, reordered, for branches that do not exist: epochs rise by one at a time, each has
    one admitted champion, and two readers of the same records agree in all of it.
    """
    rng = random.Random(5)
    branches = [make_branch(model=f"m{number}") for number in range(6)]
    records = [make_admit(branch) for branch in branches[:4]]
    records += [
        make_command(
            rng.choice(branches), kind=rng.choice(list(CommandKind)), epoch=epoch + rng.choice([-2, -1, 0, 0, 1])
        )
        for epoch in (number // 12 for number in range(10_000))
    ]
    one, other = Pointers(), Pointers()
    champions: dict[int, str] = {}
    for position, record in enumerate(records):
        for pointers in (one, other):
            if position < 4:
                pointers.admit(position, record)
            else:
                pointers.command(position, record)
        assert one.champion in one.admitted
        assert one.champion == champions.setdefault(one.epoch, one.champion)

    assert one == other
    assert list(champions) == list(range(one.epoch + 1))

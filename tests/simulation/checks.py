"""What must hold of the join when everything has come to rest: outcomes, targets in force, dead letters, books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.simulation.oracle import Expected, Outcome, accepted, expect, in_force, outcomes_of
from tests.simulation.world import World

from tailrace.domain.books import LabelRecord, Letter, Topics, recompute
from tailrace.domain.records import Code, Label, Owner

_EVENT_OUTCOMES = ("joined", "implicit", "dropped", "repeated", "stale")
_LABEL_OUTCOMES = ("joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned")


def check_join(world: World, problems: Counter[str]) -> Counter[str]:
    """Compare what came of the inputs with the oracle; return the counters of the accepted blocks."""
    records = [entry.value for entry in world.log.entries]
    blocks = list(accepted(records))
    expected = expect(world.case, world.scored, world.case.labels, blocks)
    rows = outcomes_of(blocks)
    _check_outcomes(expected, rows, problems)
    _check_in_force(expected, rows, problems)
    _check_dead(world, expected, {(block.partition, block.owner, block.number) for block in blocks}, problems)
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(block.vector.counts)
    for outcome in {*_EVENT_OUTCOMES, *_LABEL_OUTCOMES}:
        problems[f"counter {outcome}"] += counts[outcome] != expected.counts[outcome]
    _check_books(world, counts, expected, problems)
    _check_recomputed_books(world, counts, problems)
    problems["memory kept at the end"] += sum(left > 1 for left in world.left.values())
    return counts


def _check_in_force(expected: Expected, rows: Sequence[Outcome], problems: Counter[str]) -> None:
    try:
        found = in_force(rows)
    except LookupError:
        problems["correction before its example"] += 1
        return
    problems["target in force differs"] += len(expected.in_force.items() ^ found.items())


def _check_outcomes(expected: Expected, rows: Sequence[Outcome], problems: Counter[str]) -> None:
    found = Counter(rows)
    problems["outcome missing"] += len(expected.outcomes - found.keys())
    problems["outcome wrong"] += len(found.keys() - expected.outcomes)
    problems["outcome twice"] += sum(times - 1 for times in found.values())


def _check_dead(world: World, expected: Expected, counted: set[tuple[int, Owner, int]], problems: Counter[str]) -> None:
    dead = {(letter.place, letter.code) for letter in world.letters if letter.block in counted}
    problems["dead letter missing"] += len(expected.dead - dead)
    problems["dead letter wrong"] += len(dead - expected.dead)


def _check_books(world: World, counts: Counter[str], expected: Expected, problems: Counter[str]) -> None:
    sent = {(p, entry.offset) for p, topic in enumerate(world.case.events) for entry in topic.entries}
    found = {
        (entry.value.source_partition, offset)
        for topic in world.scored
        for entry in topic.entries
        for offset in entry.value.source_offsets.tolist()
        if offset < 10**9
    }
    problems["event not scored"] += len(sent ^ found)
    scored = sum(len(entry.value.ids) for topic in world.scored for entry in topic.entries)
    outcomes = sum(counts[outcome] for outcome in _EVENT_OUTCOMES)
    problems["books of events"] += scored != outcomes + expected.counts["waiting"]
    labels = sum(_is_label(entry.value) for topic in world.case.labels for entry in topic.entries)
    outcomes = sum(counts[outcome] for outcome in _LABEL_OUTCOMES)
    problems["books of labels"] += labels + counts["received"] != (
        outcomes + counts["forwarded"] + expected.counts["early"]
    )


def _check_recomputed_books(world: World, counts: Counter[str], problems: Counter[str]) -> None:
    case = world.case
    scored = [(p, entry.value) for p, topic in enumerate(world.scored) for entry in topic.entries]
    labels = [
        LabelRecord((q, entry.offset), entry.value, case.home(entry.value.id) if entry.value else 0)
        for q, topic in enumerate(case.labels)
        for entry in topic.entries
    ]
    letters = [Letter(letter.place, Code(letter.code), letter.block) for letter in world.letters]
    letters += [Letter(record.source, Code.TARGET_INVALID) for record in labels if record.label is None]
    topics = Topics(
        case.partitions,
        {(block.source_partition, offset) for _, block in scored for offset in block.source_offsets.tolist()},
        scored,
        labels,
        [(p, entry.value) for p, topic in enumerate(world.relabelled) for entry in topic.entries],
        [(entry.offset, entry.value) for entry in world.log.entries],
        label_letters=letters,
    )
    books = recompute(topics, case.times)
    problems["recomputed books do not hold"] += not books.holds
    (found,) = (balance.parts for balance in books.balances if balance.line == "labels")
    problems["recomputed labels differ"] += any(found[outcome] != counts[outcome] for outcome in _LABEL_OUTCOMES)


def _is_label(value: Label | None) -> bool:
    return value is not None

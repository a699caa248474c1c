"""Labels at the edges of their time, and labels with revisions, through a whole loop that restarts in the middle."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tests.scenarios.harness import Scenario, now_ms, running, until

from tailrace.domain.blocks import WITHDRAWN, TrainingBlock
from tailrace.domain.books import Balance
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.inspection.rows import RowReader
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import decode_training
from tailrace.wire.dead_letter import parse

HORIZON_MS = 10_000
WITHIN_MS = 4_000
LABELS = {"id": "id", "target": "y", "time": "at", "revision": "version", "source": "by"}


async def scenario_of(made: Any, **changes: Any) -> Scenario:
    """Make a loop of one partition, so that the order of labels is the order in which they are sent."""
    found: Scenario = await made(
        partitions=1,
        horizon="10s",
        disorder="10s",
        skew="0s",
        corrections_within="4s",
        labels={"topic": made.form.topic("labels"), **LABELS},
        **changes,
    )
    return found


def events_of(count: int, at_ms: int) -> list[dict[str, Any]]:
    return [{"id": f"e{number}", "at": at_ms, "a": number / count, "b": 0.5} for number in range(count)]


async def labelled(scenario: Scenario, events: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]) -> None:
    """Send the events and then the labels, and restart the process between any two halves of the labels."""
    half = len(labels) // 2
    await scenario.user.events(*events)
    for part in (labels[:half], labels[half:]):
        process = await scenario.start()
        await scenario.user.labels(*part)
        await until(lambda: _labels_read(scenario), "every label is accounted for")
        await scenario.stop(process)


async def _labels_read(scenario: Scenario) -> bool:
    sent = len(await scenario.user.read(scenario.domain.topics.labels))
    line = (await books(scenario))["labels"]
    return line.holds and line.total == sent


async def books(scenario: Scenario) -> dict[str, Balance]:
    name, loop = next(iter(scenario.settings.loops.items()))
    async with running(scenario.log.reader()) as reader:
        account = await account_of(Reading(scenario.settings, scenario.log, reader), name, loop)
    assert not account.books.learned_twice
    return {balance.line: balance for balance in account.books.balances}


async def blocks_of(scenario: Scenario) -> list[TrainingBlock]:
    """Return the blocks that count."""
    ownership, found = OwnershipState(), []
    for record in await scenario.user.read(scenario.domain.topics.training):
        content = decode_training(record.value or b"")
        if isinstance(content, Claim):
            ownership.claim(content)
        elif isinstance(content, TrainingBlock) and ownership.accept(content.partition, content.owner, content.number):
            found.append(content)
    return found


async def in_force(scenario: Scenario) -> dict[str, tuple[float | None, int]]:
    """Return target and revision that count of each event, as whoever reads the log finds them."""
    found: dict[str, tuple[float | None, int]] = {}
    for block in await blocks_of(scenario):
        examples, said = block.examples, block.corrections
        for event_id, y, revision in zip(examples.ids, examples.y.tolist(), examples.revisions.tolist(), strict=True):
            found[event_id] = (y, revision)
        for n, event_id in enumerate(said.ids):
            assert event_id in found, "a correction is never before its example"
            y = None if said.kinds[n] == WITHDRAWN else float(said.y[n])
            found[event_id] = (y, int(said.revisions[n]))
    return found


async def dead(scenario: Scenario) -> Counter[str]:
    letters = [parse(record.headers) for record in await scenario.user.read(scenario.domain.topics.dead_labels)]
    return Counter(letter.rejection.code.value for letter in {letter.offset: letter for letter in letters}.values())


def nonzero(balance: Balance) -> dict[str, int]:
    return {part: count for part, count in balance.parts.items() if count}


@pytest.mark.parametrize("missing", ["drop", False])
async def test_a_label_is_in_time_up_to_the_very_end_of_its_horizon_and_late_after_it(made: Any, missing: Any) -> None:
    """
    At the horizon a label is learned, a millisecond later it is late: a dead letter, or with an implicit target its
    correction until corrections end. Event times alone decide, so a restart in the middle changes nothing.
    """
    scenario = await scenario_of(made, missing=missing)
    delays = [1_000, HORIZON_MS - 1, HORIZON_MS, HORIZON_MS + 1, HORIZON_MS + WITHIN_MS, HORIZON_MS + WITHIN_MS + 1]
    at_ms = now_ms() - 60_000
    labels = [{"id": f"e{n}", "at": at_ms + delay_ms, "y": True} for n, delay_ms in enumerate(delays)]

    await labelled(scenario, events_of(len(delays), at_ms), labels)

    line = (await books(scenario))["labels"]
    found = await in_force(scenario)
    assert {f"e{n}": (1.0, 0) for n in range(3)}.items() <= found.items()
    if missing == "drop":
        assert nonzero(line) == {"joined": 3, "late": 3}
        assert await dead(scenario) == {"late": 3}
        assert found.keys() == {"e0", "e1", "e2"}
    else:
        assert nonzero(line) == {"joined": 3, "corrected": 2, "late": 1}
        assert await dead(scenario) == {"late": 1}
        assert (found["e3"], found["e4"]) == ((1.0, 0), (1.0, 0))


async def test_a_correction_is_in_time_up_to_the_very_end_of_what_is_taken(made: Any) -> None:
    scenario = await scenario_of(made)
    at_ms, end_ms = now_ms() - 60_000, HORIZON_MS + WITHIN_MS
    words = [(0, 1_000, 0, True), (1, 1_000, 0, True), (0, end_ms, 1, False), (1, end_ms + 1, 1, False)]
    labels = [{"id": f"e{n}", "at": at_ms + ms, "version": revision, "y": y} for n, ms, revision, y in words]

    await labelled(scenario, events_of(2, at_ms), labels)

    assert nonzero((await books(scenario))["labels"]) == {"joined": 2, "corrected": 1, "late": 1}
    assert await in_force(scenario) == {"e0": (0.0, 1), "e1": (1.0, 0)}


async def test_the_highest_revision_counts_in_whatever_order_revisions_come(made: Any) -> None:
    """
    Revisions 1 to 5 of forty events in any order, some withdrawing, some sent twice, some contradicted by another
    value of the same revision: of each event the highest counts, an older one never, also over a restart.
    """
    scenario = await scenario_of(made)
    rng, at_ms = random.Random(5), now_ms() - 60_000
    events = events_of(40, at_ms)
    labels = []
    expected: dict[str, tuple[float | None, int]] = {}
    for event in events:
        revisions = list(range(1, 6))
        rng.shuffle(revisions)
        said = [(rng.random() < 0.5, revisions.pop())]  # the first has a target, so that there is an example
        said += [(rng.choice([True, False, None]), revision) for revision in revisions]
        y, revision = max(said, key=lambda word: word[1])
        expected[event["id"]] = (None if y is None else float(y), revision)
        words = [word for word in said for _ in range(rng.choice([1, 1, 2]))]
        words += [(not y, revision) for y, revision in rng.sample(said, 1) if y is not None]
        labels += [
            {"id": event["id"], "at": at_ms + 100 + n, "y": y, "version": revision, "by": rng.choice(["desk", "users"])}
            for n, (y, revision) in enumerate(words)
        ]
    labels.sort(key=lambda label: label["at"])

    await labelled(scenario, events, labels)

    line = (await books(scenario))["labels"]
    assert await in_force(scenario) == expected
    assert (line.total, line.parts["joined"]) == (len(labels), 40)
    assert all(line.parts[part] for part in ("corrected", "withdrawn", "duplicate", "conflicting"))
    assert line.parts["late"] == line.parts["orphaned"] == line.parts["rejected"] == 0


async def test_the_log_is_shown_with_what_corrects_and_withdraws(made: Any) -> None:
    scenario = await scenario_of(made)
    at_ms = now_ms() - 60_000
    words = [(True, 0, "desk"), (False, 1, "users"), (None, 2, "")]
    labels = [
        {"id": "e0", "at": at_ms + n, "y": y, "version": revision, "by": source}
        for n, (y, revision, source) in enumerate(words)
    ]

    await labelled(scenario, events_of(1, at_ms), labels)

    name, loop = next(iter(scenario.settings.loops.items()))
    async with running(scenario.log.reader()) as reader:
        rows = RowReader(Reading(scenario.settings, scenario.log, reader), name, loop, shows_values=True)
        shown = [row async for row in rows.rows("training", None, None, None) if row.get("id") == "e0"]
    assert [(row["kind"], row["label"], row["y"]) for row in shown] == [
        ("joined", "0/0", True),
        ("corrected", "0/1", False),
        ("withdrawn", "0/2", None),
    ]
    assert [(row.get("revision"), row.get("source")) for row in shown] == [(None, "desk"), (1, "users"), (2, None)]


async def test_a_tombstone_withdraws_nothing_and_a_label_of_a_source_says_so_in_the_log(made: Any) -> None:
    scenario = await scenario_of(made)
    at_ms = now_ms() - 60_000
    await scenario.user.events(*events_of(1, at_ms))
    process = await scenario.start()

    await scenario.user.labels({"id": "e0", "at": at_ms + 1, "y": True, "version": 1, "by": "desk"})
    await scenario.user.raw(scenario.domain.topics.labels, 0, Outgoing(b"e0", None))
    await scenario.user.labels({"id": "e0", "at": at_ms + 2, "version": 2, "by": "users"})
    await until(lambda: _labels_read(scenario), "every label is accounted for")

    counters = scenario.loop_of(process).recorder.counts
    assert await dead(scenario) == {"empty_value": 1, "target_missing": 1}
    assert await in_force(scenario) == {"e0": (1.0, 1)}
    assert (counters["labels_joined"], counters["labels_withdrawn"]) == (1, 0)
    assert ["desk"] == [source for block in await blocks_of(scenario) for source in block.examples.sources]

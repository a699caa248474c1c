"""Bad input through the whole loop, on both forms of the log: one dead letter each, and nobody else notices.

Every record of `tests/wire/poison.py`, and as Avro of `avro_poison.py`, is sent between two good ones, events and labels alike, and the same good
records are sent to a loop that sees no bad one. What is compared is read from the topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from tests.conftest import make_form
from tests.log_forms import LogForm
from tests.scenarios.bad_records import (
    AVRO,
    BAD,
    BAD_AVRO,
    FEATURES,
    JSON,
    KINDS,
    MODEL,
    TARGETS,
    Bad,
    Format,
    bad_of,
    between,
    good_event,
    good_label,
    open_wide,
)
from tests.scenarios.harness import Scenario, running, until
from tests.wire.avro_poison import SCHEMAS
from tests.wire.poison import Kind

from tailrace.domain.books import Books
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim
from tailrace.domain.status import RoleState
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Record
from tailrace.wire.avro_codec import decode_training
from tailrace.wire.dead_letter import CODE, CONNECT, parse

WARM = 30

CONNECT_NAMES = ("topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name")
CONNECT_NAMES += ("exception.class.name", "exception.message")


@dataclass(frozen=True)
class Ended:
    """What one loop left behind.

    Attributes:
        offsets: Of the bad records, where there were any.
        claims: How often anybody claimed a part of the training log; more than at a start would be a restart.
    """

    offsets: dict[tuple[Kind, str], int]
    predictions: list[dict[str, Any]]
    letters: dict[Kind, list[Record]]
    books: Books
    roles: dict[str, tuple[bool, str]]
    states: list[RoleState]
    has_crashed: bool
    claims: int


async def live(form: LogForm, folder: Path, bad: Sequence[Bad], format_: Format) -> Ended:
    """Run one loop: warm it, mix events, mix labels, ask once more; then read what it left behind."""
    read_as: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
    if format_ is AVRO:
        for kind, schema in SCHEMAS.items():
            (folder / f"{kind}.avsc").write_bytes(orjson.dumps(schema))
            read_as[kind] = {"format": "avro", "schema_file": f"{kind}.avsc"}
    scenario = await Scenario.make(
        form,
        folder,
        partitions=1,
        features=FEATURES,
        events={"topic": form.topic("events"), "id": "id", "time": "at", **read_as["events"]},
        labels={"topic": form.topic("labels"), "id": "id", "time": "at", **TARGETS, **read_as["labels"]},
        corrections_within="0s",  # so that no target at all is one that is null
        champion={"model": MODEL},
    )
    try:
        return await _live(scenario, bad, format_)
    finally:
        await scenario.close()


async def _live(scenario: Scenario, bad: Sequence[Bad], format_: Format) -> Ended:
    user, topics = scenario.user, scenario.domain.topics
    await open_wide(scenario)
    process = await scenario.start()
    mixed = {kind: [each for each in bad if each.kind == kind] for kind in KINDS}
    beside = len(bad_of(format_))
    numbers = range(WARM, WARM + beside)
    offsets: dict[tuple[Kind, str], int] = {}

    async def answered(count: int) -> None:
        async def are_there() -> bool:
            return len(await user.read(topics.predictions)) >= count

        await until(are_there, f"{count} events are answered")

    await user.raw(topics.events, 0, *(good_event(number, format_) for number in range(WARM)))
    await user.raw(topics.labels, 0, *(good_label(number, format_) for number in range(WARM)))
    await until(lambda: scenario.learned(process) == WARM, "the model is warm")
    for topic, make, kind in ((topics.events, good_event, "events"), (topics.labels, good_label, "labels")):
        sent = between([make(number, format_) for number in numbers], [each.record for each in mixed[kind]])
        at = dict(zip(map(id, sent), await user.raw(topic, 0, *sent), strict=True))
        offsets |= {(each.kind, each.name): at[id(each.record)] for each in mixed[kind]}
        await answered(WARM + beside)
    await until(lambda: scenario.learned(process) == WARM + beside, "every good label is learned")
    await user.raw(topics.events, 0, *(good_event(numbers.stop + number, format_) for number in range(10)))
    await answered(WARM + beside + 10)
    books = await balanced(scenario, WARM + beside + 10 + len(mixed["events"]), WARM + beside)
    return Ended(
        offsets,
        await user.predictions(),
        {"events": await user.read(topics.dead_events), "labels": await user.read(topics.dead_labels)},
        books,
        process.readiness(),
        [report.state for report in scenario.loop_of(process).reports.values()],
        process.crashed,
        await claims_that_count(scenario),
    )


async def claims_that_count(scenario: Scenario) -> int:
    ownership = OwnershipState()
    log = [decode_training(each.value or b"") for each in await scenario.user.read(scenario.domain.topics.training)]
    return sum(ownership.claim(record) for record in log if isinstance(record, Claim))


async def balanced(scenario: Scenario, events: int, examples: int) -> Books:
    """Return the books once all events and examples are in them."""
    name, loop = next(iter(scenario.settings.loops.items()))
    found: list[Books] = []

    async def is_complete() -> bool:
        async with running(scenario.log.reader()) as reader:
            found[:] = [(await account_of(Reading(scenario.settings, scenario.log, reader), name, loop)).books]
        lines = {balance.line: balance for balance in found[0].balances}
        return lines["events"].total == events and lines.get("examples", lines["events"]).total >= examples

    await until(is_complete, "every event is in the books")
    return found[0]


Made: TypeAlias = Callable[[Format], tuple[Ended, Ended]]


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """For each format a loop that was sent every bad record, and one that was sent none."""

    def lived(name: str, bad: Sequence[Bad], format_: Format) -> Ended:
        folder = tmp_path_factory.mktemp(name)
        return asyncio.run(live(make_form(request, folder, request.param), folder, bad, format_))

    @cache
    def both(format_: Format) -> tuple[Ended, Ended]:
        return lived("poisoned", bad_of(format_), format_), lived("clean", (), format_)

    return both


@pytest.fixture
def ended(made: Made, format_: Format) -> tuple[Ended, Ended]:
    """What the two loops of one format left behind."""
    return made(format_)


in_each_format = pytest.mark.parametrize("format_", [JSON, AVRO], ids=["json", "avro"])


@pytest.mark.parametrize(
    ("format_", "bad"),
    [pytest.param(each, bad, id=f"{each.name}-{bad.kind}-{bad.name}") for each in (JSON, AVRO) for bad in bad_of(each)],
)
def test_a_bad_record_becomes_one_dead_letter_as_it_was_and_with_its_code(ended, bad):
    poisoned, _ = ended
    offset = poisoned.offsets[bad.kind, bad.name]

    (letter,) = [each for each in poisoned.letters[bad.kind] if parse(each.headers).offset == offset]

    sent = bad.record
    assert (sent.key, sent.value, sent.timestamp_ms) == (letter.key, letter.value, letter.timestamp)
    assert list(sent.headers) == list(parse(letter.headers).headers)
    assert bad.code == parse(letter.headers).rejection.code
    ours = dict(letter.headers[len(sent.headers) :])
    assert {*(CONNECT + name for name in CONNECT_NAMES), CODE} <= ours.keys()


def test_there_are_at_least_forty_kinds_of_bad_events_and_of_bad_labels():
    for table in (BAD, BAD_AVRO):
        assert all(len({bad.name for bad in table if bad.kind == kind}) >= 40 for kind in KINDS)


@in_each_format
def test_there_are_no_other_dead_letters(ended, format_):
    poisoned, clean = ended

    assert {"events": 0, "labels": 0} == {kind: len(letters) for kind, letters in clean.letters.items()}
    assert len(bad_of(format_)) == sum(len(letters) for letters in poisoned.letters.values())


@in_each_format
def test_the_neighbours_of_bad_records_are_answered_as_without_them(ended, format_):
    poisoned, clean = ended

    def answers(predictions: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
        named = ("event_id", "event_time", "y_pred", "proba", "outcome", "model", "version")
        return sorted((each["event_id"], orjson.dumps([each.get(name) for name in named])) for each in predictions)

    assert WARM + len(bad_of(format_)) + 10 == len(clean.predictions)
    assert len({each["proba"] for each in clean.predictions}) > WARM
    assert answers(clean.predictions) == answers(poisoned.predictions)


@in_each_format
def test_no_role_restarts_and_all_still_run(ended):
    poisoned, clean = ended

    assert not poisoned.has_crashed
    assert all(is_ready for is_ready, _ in poisoned.roles.values())
    assert [RoleState.RUNNING] * 3 == poisoned.states
    assert clean.claims == poisoned.claims == 2


@in_each_format
def test_the_books_hold_and_name_the_rejected(ended, format_):
    poisoned, _ = ended

    lines = {balance.line: balance for balance in poisoned.books.balances}
    assert poisoned.books.holds, [str(balance) for balance in poisoned.books.balances]
    for kind in KINDS:
        assert lines[kind].parts["rejected"] == sum(bad.kind == kind for bad in bad_of(format_))

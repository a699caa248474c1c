"""Bad input through the whole loop, on both forms of the log: one dead letter each, and nobody else notices.

Every record of `tests/wire/poison.py` is sent between two good ones, events and labels alike, and the same good
records are sent to a loop that sees no bad one. What is compared is read from the topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from tests.conftest import make_form
from tests.log_forms import LogForm
from tests.scenarios.harness import Scenario, running, until
from tests.wire.poison import POISON, TIMESTAMP_MS, Kind, event, label

from tailrace.domain.books import Books
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim, Code
from tailrace.domain.status import RoleState
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Outgoing, Record
from tailrace.wire.avro_codec import decode_training
from tailrace.wire.dead_letter import CODE, CONNECT, parse

FEATURES: dict[str, Any] = {
    "amount": {"type": "number", "min": 0, "max": 1000},
    "country": {"type": "category", "values": ["de", "fr", "us"]},
    "note": {"type": "text", "missing": "absent", "max_length": 20},
    "score": "number",
    "user.age": {"type": "integer", "min": 0, "max": 150},
    "vip": "boolean",
}
MODEL = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler()) | LogisticRegression()"
LARGEST_INPUT_BYTES = (1 << 20) + (1 << 19)
WARM = 30

CONNECT_NAMES = ("topic", "partition", "offset", "connector.name", "task.id", "stage", "class.name")
CONNECT_NAMES += ("exception.class.name", "exception.message")


class Bad(NamedTuple):
    """One record that cannot be used, and the code it is rejected with."""

    name: str
    kind: Kind
    record: Outgoing
    code: Code


def envelopes(kind: Kind) -> Iterable[Bad]:
    """Yield records whose value is plain, and whose key, headers or timestamp are what Kafka allows at its edges."""
    plain = Outgoing(b"e-1", b"hello", (), TIMESTAMP_MS)
    cases = {
        "no-key": plain._replace(key=None),
        "empty-key": plain._replace(key=b""),
        "key-of-any-bytes": plain._replace(key=bytes(range(256))),
        "header-without-value": plain._replace(headers=(("traceparent", None), ("empty", b""))),  # type: ignore[arg-type]
        "header-twice": plain._replace(headers=(("x", b"1"), ("x", b"2"), ("", b"\x00\xff"))),
        "header-of-ours": plain._replace(headers=((CODE, b"late"), (CONNECT + "topic", b"elsewhere"))),
        "header-name-beyond-ascii": plain._replace(headers=(("größe✓", b"1"),)),
        "timestamp-zero": plain._replace(timestamp_ms=0),
        "timestamp-of-the-past": plain._replace(timestamp_ms=1),
        "timestamp-of-the-future": plain._replace(timestamp_ms=TIMESTAMP_MS * 2),
    }
    return (Bad(name, kind, record, Code.NOT_JSON) for name, record in cases.items())


def of_table(kind: Kind) -> Iterable[Bad]:
    """Yield the table's records, each with a key and headers of its own."""
    for number, poison in enumerate(each for each in POISON if each.kind == kind):
        headers = (("traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1)), ("from", poison.name.encode()))
        record = Outgoing(poison.name.encode(), poison.value, headers, TIMESTAMP_MS)
        yield Bad(poison.name, kind, record, poison.code)


BAD: tuple[Bad, ...] = tuple(
    bad
    for kind in ("events", "labels")
    for bad in (*of_table(kind), *envelopes(kind))  # type: ignore[arg-type]
)


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


def is_vip(number: int) -> bool:
    return number % 3 == 0


def good_event(number: int) -> Outgoing:
    value = event(
        id=f"g{number}", at=TIMESTAMP_MS + number, amount=number * 37 % 1000, score=number / 7, vip=is_vip(number)
    )
    return Outgoing(b"g%d" % number, value, (), TIMESTAMP_MS)


def good_label(number: int) -> Outgoing:
    value = label(id=f"g{number}", at=TIMESTAMP_MS + number, verdict="fraud" if number % 5 < 2 else "fine")
    return Outgoing(b"g%d" % number, value, (), TIMESTAMP_MS)


def between(good: Sequence[Outgoing], bad: Sequence[Outgoing]) -> list[Outgoing]:
    """Return the records with each bad one between two good ones."""
    mixed = [each for pair in zip(good, bad, strict=False) for each in pair]
    return [*mixed, *good[len(bad) :]]


async def live(form: LogForm, folder: Path, bad: Sequence[Bad]) -> Ended:
    """Run one loop: warm it, mix events, mix labels, ask once more; then read what it left behind."""
    scenario = await Scenario.make(
        form,
        folder,
        partitions=1,
        features=FEATURES,
        labels={
            "topic": form.topic("labels"),
            "id": "id",
            "target": "verdict",
            "revision": "version",
            "source": "by",
            "time": "at",
            "positive": "fraud",
            "negative": "fine",
        },
        corrections_within="0s",  # so that no target at all is one that is null
        champion={"model": MODEL},
    )
    try:
        return await _live(scenario, bad)
    finally:
        await scenario.close()


async def _live(scenario: Scenario, bad: Sequence[Bad]) -> Ended:
    user, topics = scenario.user, scenario.domain.topics
    await open_wide(scenario)
    process = await scenario.start()
    mixed = {kind: [each for each in bad if each.kind == kind] for kind in ("events", "labels")}
    numbers = range(WARM, WARM + len(BAD))
    offsets: dict[tuple[Kind, str], int] = {}

    async def answered(count: int) -> None:
        async def are_there() -> bool:
            return len(await user.read(topics.predictions)) >= count

        await until(are_there, f"{count} events are answered")

    await user.raw(topics.events, 0, *map(good_event, range(WARM)))
    await user.raw(topics.labels, 0, *map(good_label, range(WARM)))
    await until(lambda: scenario.learned(process) == WARM, "the model is warm")
    for topic, make, kind in ((topics.events, good_event, "events"), (topics.labels, good_label, "labels")):
        sent = between([make(number) for number in numbers], [each.record for each in mixed[kind]])
        at = dict(zip(map(id, sent), await user.raw(topic, 0, *sent), strict=True))
        offsets |= {(each.kind, each.name): at[id(each.record)] for each in mixed[kind]}
        await answered(WARM + len(BAD))
    await until(lambda: scenario.learned(process) == WARM + len(BAD), "every good label is learned")
    await user.raw(topics.events, 0, *(good_event(numbers.stop + number) for number in range(10)))
    await answered(WARM + len(BAD) + 10)
    books = await balanced(scenario, WARM + len(BAD) + 10 + len(mixed["events"]))
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


async def open_wide(scenario: Scenario) -> None:
    """Let the inputs take records that are too large, too old or of the future: others may have made the topics."""
    admin = scenario.log.admin()
    settings = {"max.message.bytes": str(LARGEST_INPUT_BYTES), "message.timestamp.after.max.ms": str((1 << 63) - 1)}
    for topic in (scenario.domain.topics.events, scenario.domain.topics.labels):
        await admin.alter(topic, settings | {"retention.ms": "-1"})
    await admin.close()


async def balanced(scenario: Scenario, events: int) -> Books:
    """Return the books once all events are in them."""
    name, loop = next(iter(scenario.settings.loops.items()))
    found: list[Books] = []

    async def is_complete() -> bool:
        async with running(scenario.log.reader()) as reader:
            found[:] = [(await account_of(Reading(scenario.settings, scenario.log, reader), name, loop)).books]
        lines = {balance.line: balance for balance in found[0].balances}
        return lines["events"].total == events and lines.get("examples", lines["events"]).total >= WARM + len(BAD)

    await until(is_complete, "every event is in the books")
    return found[0]


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Ended]:
    """A loop that was sent every bad record, and one that was sent none."""

    def lived(name: str, bad: Sequence[Bad]) -> Ended:
        folder = tmp_path_factory.mktemp(name)
        return asyncio.run(live(make_form(request, folder, request.param), folder, bad))

    return lived("poisoned", BAD), lived("clean", ())


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.kind}-{bad.name}")
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
    assert all(len({bad.name for bad in BAD if bad.kind == kind}) >= 40 for kind in ("events", "labels"))


def test_there_are_no_other_dead_letters(ended):
    poisoned, clean = ended

    assert {"events": 0, "labels": 0} == {kind: len(letters) for kind, letters in clean.letters.items()}
    assert len(BAD) == sum(len(letters) for letters in poisoned.letters.values())


def test_the_neighbours_of_bad_records_are_answered_as_without_them(ended):
    poisoned, clean = ended

    def answers(predictions: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
        named = ("event_id", "event_time", "y_pred", "proba", "outcome", "model", "version")
        return sorted((each["event_id"], orjson.dumps([each.get(name) for name in named])) for each in predictions)

    assert WARM + len(BAD) + 10 == len(clean.predictions)
    assert len({each["proba"] for each in clean.predictions}) > WARM
    assert answers(clean.predictions) == answers(poisoned.predictions)


def test_no_role_restarts_and_all_still_run(ended):
    poisoned, clean = ended

    assert not poisoned.has_crashed
    assert all(is_ready for is_ready, _ in poisoned.roles.values())
    assert [RoleState.RUNNING] * 3 == poisoned.states
    assert clean.claims == poisoned.claims == 2


def test_the_books_hold_and_name_the_rejected(ended):
    poisoned, _ = ended

    lines = {balance.line: balance for balance in poisoned.books.balances}
    assert poisoned.books.holds, [str(balance) for balance in poisoned.books.balances]
    for kind in ("events", "labels"):
        assert lines[kind].parts["rejected"] == sum(bad.kind == kind for bad in BAD)

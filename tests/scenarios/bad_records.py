"""The records of `tests/wire/poison.py`, and as Avro of `avro_poison.py`, as they are sent, and good ones to send around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tests.scenarios.harness import Scenario
from tests.wire import avro_poison
from tests.wire.avro_poison import AVRO_POISON
from tests.wire.poison import POISON, TIMESTAMP_MS, Kind, Poison, event, label

from tailrace.domain.records import Code
from tailrace.streams.log import Outgoing
from tailrace.wire.dead_letter import CODE, CONNECT

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
TARGETS = {"target": "verdict", "positive": "fraud", "negative": "fine", "revision": "version", "source": "by"}


class Bad(NamedTuple):
    """One record that cannot be used, and the code it is rejected with."""

    name: str
    kind: Kind
    record: Outgoing
    code: Code


@dataclass(frozen=True, eq=False)
class Format:
    """One format of user topics: its bad records and makers of good values."""

    name: Literal["json", "avro"]
    poison: Sequence[Poison]
    event: Callable[..., bytes]
    label: Callable[..., bytes]
    not_decoded: Code


JSON = Format("json", POISON, event, label, Code.NOT_JSON)
AVRO = Format("avro", AVRO_POISON, avro_poison.event, avro_poison.label, Code.NOT_AVRO)


def envelopes(kind: Kind, code: Code) -> Iterable[Bad]:
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
    return (Bad(name, kind, record, code) for name, record in cases.items())


def of_table(kind: Kind, table: Sequence[Poison]) -> Iterable[Bad]:
    """Yield the table's records, each with a key and headers of its own."""
    for number, poison in enumerate(each for each in table if each.kind == kind):
        headers = (("traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1)), ("from", poison.name.encode()))
        record = Outgoing(poison.name.encode(), poison.value, headers, TIMESTAMP_MS)
        yield Bad(poison.name, kind, record, poison.code)


KINDS: tuple[Kind, ...] = ("events", "labels")


def bad_of(format_: Format) -> tuple[Bad, ...]:
    return tuple(
        bad for kind in KINDS for bad in (*of_table(kind, format_.poison), *envelopes(kind, format_.not_decoded))
    )


BAD = bad_of(JSON)
BAD_AVRO = bad_of(AVRO)


def is_vip(number: int) -> bool:
    return number % 3 == 0


def good_event(number: int, format_: Format) -> Outgoing:
    value = format_.event(
        id=f"g{number}", at=TIMESTAMP_MS + number, amount=number * 37 % 1000, score=number / 7, vip=is_vip(number)
    )
    return Outgoing(b"g%d" % number, value, (), TIMESTAMP_MS)


def good_label(number: int, format_: Format) -> Outgoing:
    value = format_.label(id=f"g{number}", at=TIMESTAMP_MS + number, verdict="fraud" if number % 5 < 2 else "fine")
    return Outgoing(b"g%d" % number, value, (), TIMESTAMP_MS)


def between(good: Sequence[Outgoing], bad: Sequence[Outgoing]) -> list[Outgoing]:
    """Return the records with each bad one between two good ones."""
    mixed = [each for pair in zip(good, bad, strict=False) for each in pair]
    return [*mixed, *good[len(bad) :]]


async def open_wide(scenario: Scenario) -> None:
    """Let the inputs take records that are too large, too old or of the future: others may have made the topics."""
    admin = scenario.log.admin()
    settings = {"max.message.bytes": str(LARGEST_INPUT_BYTES), "message.timestamp.after.max.ms": str((1 << 63) - 1)}
    for topic in (scenario.domain.topics.events, scenario.domain.topics.labels):
        await admin.alter(topic, settings | {"retention.ms": "-1"})
    await admin.close()

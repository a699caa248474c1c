"""I12: no feature value and no secret stands where others may read it: logs, heartbeats, announcements, metrics.

A value is recognised by its digits, which no other number has; that a target is told nobody could see here.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson
from tests.faults.audit import Violations
from tests.faults.ledger import Ledger
from tests.faults.topics import Topics

from tailrace.domain.errors import CodecError
from tailrace.domain.status import to_plain
from tailrace.settings import Settings
from tailrace.wire.dead_letter import parse

_MOST_VALUES = 400
_DECIMALS = 10  # by which a value is recognised, so that one that is printed with less precision is, too
_NUMBER = re.compile(rf"\d+\.\d{{{_DECIMALS},}}")
_MIN_SECRET = 8


@dataclass(frozen=True)
class Needles:
    """What must stand nowhere: some feature values, long enough to be told from any other number, and secrets.

    Targets are true and false here, which nobody could search for.
    """

    values: frozenset[float]
    secrets: frozenset[str]

    @classmethod
    def of(cls, ledger: Ledger, settings: Settings) -> Needles:
        """Collect values from the events, evenly spread, and the secrets of the settings."""
        features = ledger.topics.domain.contract.names
        column = [
            record for each in ledger.topics.all_of(ledger.topics.domain.topics.events) for record in each.records
        ]
        values: list[float] = []
        for record in column[:: max(1, len(column) // _MOST_VALUES)]:
            if (record.partition, record.offset) in ledger.events:
                raw = orjson.loads(record.value or b"")
                values += [raw[name] for name in features if _is_long(raw.get(name))]
        return cls(frozenset(values), frozenset(_secrets_of(settings)))

    @cached_property
    def _by_digits(self) -> Mapping[int, float]:
        return {_digits(value): value for value in self.values}

    def find(self, number: float) -> float | None:
        """Return the value that a number in a text is, with or without its sign, perhaps rounded; None: none of them."""
        digits = _digits(number)
        near = (self._by_digits.get(each) for each in (digits, digits - 1, digits + 1))
        return next((each for each in near if each is not None), None)


def no_value_is_told(needles: Needles, say: Violations, logs: Collection[Path], texts: Mapping[str, str]) -> None:
    """I12: no feature value and no secret stands in logs or in pages that anybody may read."""
    pages = [(path.name, path.read_text(errors="replace")) for path in logs if path.exists()]
    for name, text in [*pages, *texts.items()]:
        _search(needles, name, text, say)


def no_value_is_told_in_topics(needles: Needles, topics: Topics, say: Violations) -> None:
    """I12: nor in heartbeats, announcements, or the words of dead letters."""
    names = topics.domain.topics
    for name in (names.status, names.model_events):
        records = [record for column in topics.all_of(name) for record in column.records]
        decoded = [each for column in topics.all_of(name) for each in column.decoded if each is not None]
        plain = [to_plain(each) if name == names.status else repr(each) for each in decoded]
        _search(needles, name, "\n".join(map(str, plain)), say)
        _search_bytes(needles, name, b"\n".join(record.value or b"" for record in records), say)
    for name in (names.dead_events, names.dead_labels):
        for record in (record for column in topics.all_of(name) for record in column.records):
            try:
                _search(needles, name, parse(record.headers).rejection.detail, say)
            except CodecError:
                continue  # I2 tells it


def _search(needles: Needles, name: str, text: str, say: Violations) -> None:
    for found in _NUMBER.findall(text):
        if (value := needles.find(float(found))) is not None:
            say.say("I12", f"{name} tells the feature value {value!r}")
    say.say_all("I12", (f"{name} tells a secret" for secret in needles.secrets if secret in text))


def _search_bytes(needles: Needles, name: str, content: bytes, say: Violations) -> None:
    for value in needles.values:
        if struct.pack("<d", value) in content or repr(value).encode() in content:
            say.say("I12", f"{name} holds the feature value {value!r}")
    say.say_all("I12", (f"{name} holds a secret" for secret in needles.secrets if secret.encode() in content))


def _digits(value: float) -> int:
    return math.floor(abs(value) * 10**_DECIMALS)


def _is_long(value: object) -> bool:
    return isinstance(value, float) and "e" not in repr(value) and len(repr(value)) > _DECIMALS + 5


def _secrets_of(settings: Settings) -> Iterator[str]:
    given = (settings.kafka.password, settings.snapshots.secret)
    yield from (each.get_secret_value() for each in given if each is not None)
    for file in settings.keys.folder.glob("*.key"):
        lines = file.read_text().splitlines()
        yield from (line for line in lines if len(line) >= _MIN_SECRET and not line.startswith("-"))

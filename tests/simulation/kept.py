"""Topics of one partition as bytes: what processes of the product read and append."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.simulation.inputs import Entry, Topic

from tailrace.domain.notices import LogRecord
from tailrace.streams.log import Headers
from tailrace.wire.avro_codec import decode_training, encode_training

TRAINING: Final = "loop.training"
COMMANDS: Final = "loop.commands"
SNAPSHOTS: Final = "loop.snapshots"
MODEL_EVENTS: Final = "loop.model-events"


class Kept(NamedTuple):
    """A record as the product reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class TrainingLog:
    """The training log: agents of ours append records, processes of the product bytes; both can be read.

    Attributes:
        read_before: Bytes → their record: what is decoded twice is the same.
    """

    topic: Topic[LogRecord]
    kept: list[Kept] = field(default_factory=list)
    read_before: dict[bytes, LogRecord] = field(default_factory=dict)

    def append(self, record: LogRecord, now_ms: int) -> int:
        """Append a record; return its offset."""
        return self.append_bytes(encode_training(record), now_ms)

    def append_bytes(self, value: bytes, now_ms: int) -> int:
        """Append a record as it was sent; return its offset."""
        offset = self.topic.append(self.decode(value), now_ms)
        self.kept.append(Kept(TRAINING, 0, offset, now_ms, None, value))
        return offset

    def decode(self, value: bytes) -> LogRecord:
        """Decode a record, once."""
        found = self.read_before.get(value)
        if found is None:
            found = self.read_before[value] = decode_training(value)
        return found

    def records(self, start: int, end: int) -> list[Kept]:
        """Return the records of [start, end)."""
        first = self.topic.index(start)
        return self.kept[first : self.topic.index(end)]


@dataclass(slots=True)
class ByteTopic:
    """Commands, snapshots: what processes of the product and others append.

    Attributes:
        on_append: Told of each record.
    """

    name: str
    kept: list[Kept] = field(default_factory=list)
    on_append: Callable[[Kept], None] = lambda _record: None

    def append(self, key: bytes | None, value: bytes | None, now_ms: int) -> int:
        """Append a record; return its offset."""
        record = Kept(self.name, 0, len(self.kept), now_ms, key, value)
        self.kept.append(record)
        self.on_append(record)
        return record.offset


__all__ = ["COMMANDS", "MODEL_EVENTS", "SNAPSHOTS", "TRAINING", "ByteTopic", "Entry", "Kept", "TrainingLog"]

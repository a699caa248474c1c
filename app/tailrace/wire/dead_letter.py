"""The headers of a rejected record, under the names that Kafka Connect uses, and ours beside them.

Key, value, timestamp and the original headers go along byte for byte; our headers stand after the original ones.
A record that was dead-lettered, replayed and rejected again carries both sets: the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, Protocol, TypeAlias

from tailrace.domain.errors import CodecError
from tailrace.domain.records import Code, Owner, Rejection, Stage

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

CONNECT: Final = "__connect.errors."
CODE: Final = "tailrace.dlq.code"
BLOCK: Final = "tailrace.dlq.block"
LEFT_OUT: Final = "tailrace.dlq.left_out"
SIZE: Final = "tailrace.dlq.value_bytes"
SHA256: Final = "tailrace.dlq.value_sha256"
ATTEMPT: Final = "tailrace.dlq.attempt"
"""Of a record that was sent back: how often. It is a header of the record, so a new dead letter carries it along."""

_DECIDED_BY: Final = {
    Stage.DECODE: "tailrace.wire.json_codec",
    Stage.VALIDATE: "tailrace.domain.contract",
    Stage.PREDICT: "tailrace.domain.scoring",
    Stage.JOIN: "tailrace.domain.join",
}
_FIRST: Final = CONNECT + "topic"
COPY_BYTES: Final = 1_024
"""So much of a value goes along where the whole record is too large: enough to see what it is."""

_MAX_ATTEMPT_DIGITS: Final = 9  # a producer may write anything into a header


class Rejected(Protocol):
    """What is needed of the record that was rejected."""

    @property
    def topic(self) -> str:
        """The input topic."""

    @property
    def partition(self) -> int:
        """Of the input topic."""

    @property
    def offset(self) -> int:
        """In that partition."""

    @property
    def headers(self) -> Headers:
        """As the producer wrote them."""


class BlockName(NamedTuple):
    """Names a training block: a dead letter of the join counts only if this block was accepted."""

    partition: int
    owner: Owner
    number: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.owner}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> BlockName:
        """Read `partition/owner/number`.

        Raises:
            ValueError: The text is none.
        """
        partition, _, rest = text.partition("/")
        owner, _, number = rest.rpartition("/")
        return cls(int(partition), owner, int(number))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What the headers of a dead letter say.

    Attributes:
        topic, partition, offset: Where the record came from.
        connector: `tailrace.<loop>`.
        member: Who rejected it.
        block: The training block it belongs to; None where no block decides.
        headers: The original ones.
        is_whole: Whether key, value and headers of the record go along; False where they were too large.
    """

    topic: str
    partition: int
    offset: int
    connector: str
    member: str
    rejection: Rejection
    block: BlockName | None
    headers: Headers
    is_whole: bool = True

    @property
    def attempt(self) -> int:
        """How often the record has been sent back already; what is no count is none."""
        (*_, text) = (b"0", *(value or b"" for name, value in self.headers if name == ATTEMPT))
        return int(text) if text.isdigit() and len(text) <= _MAX_ATTEMPT_DIGITS else 0

    @property
    def headers_again(self) -> list[tuple[str, bytes | None]]:
        """The headers of the record as it is sent back once more."""
        kept = [header for header in self.headers if header[0] != ATTEMPT]
        return [*kept, (ATTEMPT, str(self.attempt + 1).encode())]


def encode(
    record: Rejected, rejection: Rejection, loop: str, member: str, block: BlockName | str | None = None
) -> list[tuple[str, bytes | None]]:
    """Return the headers of the dead letter of a record: its own, then ours.

    Args:
        block: The training block that the rejection belongs to, or its name as text; only the join has one.
    """
    ours = {
        _FIRST: record.topic,
        CONNECT + "partition": str(record.partition),
        CONNECT + "offset": str(record.offset),
        CONNECT + "connector.name": f"tailrace.{loop}",
        CONNECT + "task.id": member,
        CONNECT + "stage": rejection.stage.value,
        CONNECT + "class.name": _decided_by(rejection),
        CONNECT + "exception.class.name": f"tailrace.{rejection.code.value}",
        CONNECT + "exception.message": rejection.detail,
        CODE: rejection.code.value,
    }
    if block is not None:
        ours[BLOCK] = str(block)
    return [*record.headers, *((name, text.encode()) for name, text in ours.items())]


def without_record(headers: Headers, value: bytes | None = None) -> list[tuple[str, bytes | None]]:
    """Return the headers of a dead letter whose record is too large for the topic: only ours, and what it was."""
    said = f"key, headers, and the value from byte {COPY_BYTES} on: too large for this topic"
    left = [*headers[_start_of_ours(headers) :], (LEFT_OUT, said.encode())]
    if value is not None:
        left += [(SIZE, str(len(value)).encode()), (SHA256, sha256(value).hexdigest().encode())]
    return left


def parse(headers: Headers) -> DeadLetter:
    """Read the headers of a dead letter.

    Raises:
        CodecError: They are not those of a dead letter of Tailrace.
    """
    start = _start_of_ours(headers)
    ours = {name: value or b"" for name, value in headers[start:]}
    try:
        block = BlockName.parse(ours[BLOCK].decode()) if BLOCK in ours else None
        rejection = Rejection(
            Code(ours[CODE].decode()),
            Stage(ours[CONNECT + "stage"].decode()),
            ours[CONNECT + "exception.message"].decode(),
        )
        return DeadLetter(
            ours[_FIRST].decode(),
            int(ours[CONNECT + "partition"]),
            int(ours[CONNECT + "offset"]),
            ours[CONNECT + "connector.name"].decode(),
            ours[CONNECT + "task.id"].decode(),
            rejection,
            block,
            tuple(headers[:start]),
            LEFT_OUT not in ours,
        )
    except (KeyError, ValueError) as cause:
        raise CodecError(f"the headers of a dead letter are incomplete ({type(cause).__name__})") from cause


def _decided_by(rejection: Rejection) -> str:
    return "tailrace.wire.avro_objects" if rejection.code is Code.NOT_AVRO else _DECIDED_BY[rejection.stage]


def _start_of_ours(headers: Headers) -> int:
    start = max((index for index, (name, _) in enumerate(headers) if name == _FIRST), default=None)
    if start is None:
        raise CodecError(f"a dead letter lacks the header {_FIRST}; another program wrote it")
    return start

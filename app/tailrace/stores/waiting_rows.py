"""Identities and scored rows as bytes, for the waiting room on disk.

The value of an id is its identities, newest first; each that waits carries its row: what was served and x, as the
block had them. What all rows of a block have in common but rarely changes (contract, model, lineage, shape) is a
*heading*, kept once and named by a number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.blocks import ScoredBlock, Served, XColumns
from tailrace.domain.join.memory import WAITING, Identity

_IDENTITY: Final = Struct(">BBqqqdqqII")
"""State, whether y is given, time, position, watermark, y, revision, row_at, heading, bytes of the row."""

_LENGTH: Final = Struct(">I")
_CELL: Final = np.dtype("<u8")
_FIXED: Final = 4
"""Cells before the numbers: state position, source partition, source offset, y_pred."""


@dataclass(frozen=True, slots=True)
class Heading:
    """What rows have in common: of their block, and how many columns of each kind a row has.

    Attributes:
        absent: Columns of the presence matrix; None: the block has none.
    """

    contract_id: str
    log_id: str
    model: str
    version: str
    proba: int
    numbers: int
    integers: int
    absent: int | None

    @classmethod
    def of(cls, block: ScoredBlock) -> Heading:
        """Return the heading of a block's rows."""
        x = block.x
        return cls(
            block.contract_id,
            block.log_id,
            block.model,
            block.version,
            block.served.proba.shape[1],
            x.numbers.shape[1],
            x.integers.shape[1],
            None if x.absent is None else x.absent.shape[1],
        )

    def dump(self) -> bytes:
        """Return the heading as it is kept."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, content: bytes) -> Heading:
        """Read what `dump` returned."""
        return cls(**json.loads(content))

    @property
    def cells(self) -> int:
        """How many cells of 8 bytes a row has."""
        return _FIXED + self.proba + self.numbers + self.integers


class Kept(NamedTuple):
    """One identity as it was read, without its row, and the row if it waits."""

    identity: Identity
    heading: int
    row: bytes


def encode_rows(block: ScoredBlock) -> list[bytes]:
    """Return every row of a block."""
    count, x = len(block.ids), block.x
    here = np.array([[block.state_position, block.source_partition]], dtype=np.int64).repeat(count, axis=0)
    columns = (
        here,
        block.source_offsets[:, None],
        block.served.y_pred[:, None],
        block.served.proba,
        x.numbers,
        x.integers,
    )
    cells = np.hstack([np.ascontiguousarray(column).view(_CELL) for column in columns if column.shape[1]])
    rows = _cut(cells.tobytes(), 8 * cells.shape[1])
    if x.absent is not None and x.absent.size:
        rows = [row + more for row, more in zip(rows, _cut(x.absent.tobytes(), x.absent.shape[1]), strict=True)]
    if x.strings and x.strings[0]:
        rows = [row + b"".join(map(_text, texts)) for row, texts in zip(rows, x.strings, strict=True)]
    return rows


def encode_identities(newest: Identity, row_of: Callable[[ScoredBlock, int], tuple[int, bytes]]) -> bytes:
    """Return the value of an id.

    Args:
        newest: The others hang on it.
        row_of: (block, row) → its heading's number, and the row.
    """
    pieces: list[bytes] = []
    identity: Identity | None = newest
    while identity is not None:
        heading, row = (0, b"") if identity.block is None else row_of(identity.block, identity.row)
        y = identity.y
        head = _IDENTITY.pack(
            identity.state,
            y is not None,
            identity.time_ms,
            identity.position,
            identity.watermark_ms,
            0.0 if y is None else y,
            identity.revision,
            identity.row_at,
            heading,
            len(row),
        )
        pieces += (head, row)
        identity = identity.older
    return b"".join(pieces)


def decode_identities(event_id: str, value: bytes) -> list[Kept]:
    """Return the identities of an id, newest first and each with the next hanging on it."""
    found: list[Kept] = []
    at = 0
    while at < len(value):
        state, has_y, time_ms, position, watermark_ms, y, revision, row_at, heading, size = _IDENTITY.unpack_from(
            value, at
        )
        at += _IDENTITY.size
        said = y if has_y else None
        identity = Identity(
            event_id, time_ms, position, watermark_ms, None, None, 0, state, said, revision=revision, row_at=row_at
        )
        if found:
            found[-1].identity.older = identity
        found.append(Kept(identity, heading, value[at : at + size]))
        at += size
    return found


def give_rows(kept: Iterable[Kept], headings: Sequence[Heading]) -> None:
    """Give those that wait their rows back, each as a block of one row."""
    by_heading: dict[int, list[Kept]] = {}
    for each in kept:
        if each.identity.state == WAITING:
            by_heading.setdefault(each.heading, []).append(each)
    for number, group in by_heading.items():
        for each, block in zip(group, _blocks(headings[number], group), strict=True):
            each.identity.block = block


def _blocks(heading: Heading, kept: Sequence[Kept]) -> Iterator[ScoredBlock]:
    size = 8 * heading.cells
    cells = np.frombuffer(b"".join([each.row[:size] for each in kept]), dtype=_CELL).reshape(len(kept), heading.cells)
    ints, floats = cells.view(np.int64), cells.view(np.float64)
    begin = _FIXED
    proba = floats[:, begin : begin + heading.proba]
    numbers = floats[:, begin + heading.proba : begin + heading.proba + heading.numbers]
    integers = ints[:, begin + heading.proba + heading.numbers :]
    absent = heading.absent or 0
    has_absent = heading.absent is not None
    positions, partitions = ints[:, 0].tolist(), ints[:, 1].tolist()
    times_ms = np.array([each.identity.time_ms for each in kept], dtype=np.int64)
    for at, each in enumerate(kept):
        row = slice(at, at + 1)
        yield ScoredBlock(
            heading.contract_id,
            heading.log_id,
            heading.model,
            heading.version,
            positions[at],
            partitions[at],
            ints[row, 2],
            [each.identity.id],
            times_ms[row],
            Served(floats[row, 3], proba[row]),
            XColumns(
                numbers[row],
                integers[row],
                [tuple(_texts(each.row, size + absent))],
                _presence(each.row[size : size + absent]) if has_absent else None,
            ),
        )


def _presence(row: bytes) -> NDArray[np.bool_]:
    return np.frombuffer(row, dtype=np.bool_).reshape(1, len(row))


def _cut(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def _text(text: str) -> bytes:
    content = text.encode()
    return _LENGTH.pack(len(content)) + content


def _texts(row: bytes, at: int) -> Iterator[str]:
    while at < len(row):
        (size,) = _LENGTH.unpack_from(row, at)
        at += _LENGTH.size
        yield row[at : at + size].decode()
        at += size

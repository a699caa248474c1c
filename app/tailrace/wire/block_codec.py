"""The columns of blocks ↔ the fields of their Avro records: arrays as little-endian bytes, ids as one text.

Decoded arrays share the memory of the value and cannot be written to. Ids are joined by NUL, which no id contains:
an Avro array of strings costs six times as much. The id of an erased row of the training log is empty; no other is.

Invariant: every column of a decoded block has as many rows as the block has ids. Bytes changed *inside* a column
are the transport's business: Kafka checks its batches, the embedded log its pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.blocks import (
    Bools,
    Corrections,
    Dropped,
    Examples,
    Floats,
    Ints,
    Lowest,
    ScoredBlock,
    Served,
    TrainingBlock,
    Vector,
    XColumns,
)
from tailrace.domain.errors import CodecError, ContractError
from tailrace.domain.positions import ROWS_PER_MESSAGE

Fields: TypeAlias = dict[str, Any]

SEPARATOR: Final = "\0"

_FLOAT: Final = np.dtype("<f8")
_INT: Final = np.dtype("<i8")
_SCALARS: Final = ("contract_id", "log_id", "model", "version", "state_position", "source_partition")
_EXAMPLE_INTS: Final = (
    "kinds",
    "times_ms",
    "source_partitions",
    "source_offsets",
    "label_partitions",
    "label_offsets",
    "label_broker_ms",
    "state_positions",
)
_CORRECTION_INTS: Final = (
    "kinds",
    "times_ms",
    "label_partitions",
    "label_offsets",
    "label_broker_ms",
)
_DROPPED_INTS: Final = ("times_ms", "source_partitions", "source_offsets")
_VECTOR_NUMBERS: Final = (
    "scored_next",
    "labels_next",
    "relabelled_next",
    "relabelled_low",
    "scored_watermark_ms",
    "labels_watermark_ms",
    "oldest_row",
)


def scored_fields(block: ScoredBlock) -> Fields:
    """Return the fields of `scored_block.avsc`.

    Raises:
        ContractError: The columns differ in length, or an id contains NUL.
    """
    n = len(block.ids)
    fields: Fields = {name: getattr(block, name) for name in _SCALARS}
    fields["ids"] = _joined(block.ids)
    fields["source_offsets"] = _packed(block.source_offsets, _INT, n)
    fields["times_ms"] = _packed(block.times_ms, _INT, n)
    fields["served"] = _served_fields(block.served, n)
    fields["x"] = _x_fields(block.x, n)
    return fields


def scored_block(fields: Fields) -> ScoredBlock:
    """Read the fields of `scored_block.avsc`.

    Raises:
        CodecError: The columns differ in length.
    """
    ids = _split(fields["ids"])
    n = len(ids)
    return ScoredBlock(
        **{name: fields[name] for name in _SCALARS},
        ids=ids,
        source_offsets=_column(fields, "source_offsets", _INT, n),
        times_ms=_column(fields, "times_ms", _INT, n),
        served=_served(fields["served"], n),
        x=_x(fields["x"], n),
    )


def training_fields(block: TrainingBlock) -> Fields:
    """Return the fields of `training_block.avsc`.

    Raises:
        ContractError: The columns differ in length, or an id contains NUL.
    """
    return {
        "contract_id": block.contract_id,
        "log_id": block.log_id,
        "partition": block.partition,
        "owner": block.owner,
        "number": block.number,
        "examples": _examples_fields(block.examples),
        "dropped": _dropped_fields(block.dropped),
        "corrections": _corrections_fields(block.corrections) if len(block.corrections) else None,
        "vector": _vector_fields(block.vector),
    }


def training_block(fields: Fields) -> TrainingBlock:
    """Read the fields of `training_block.avsc`.

    Raises:
        CodecError: The columns differ in length.
    """
    corrections = fields["corrections"]
    parts = {
        "examples": _examples(fields["examples"]),
        "dropped": _dropped(fields["dropped"]),
        "corrections": Corrections.none() if corrections is None else _corrections(corrections),
        "vector": _vector(fields["vector"]),
    }
    return TrainingBlock(**(fields | parts))


def _examples_fields(examples: Examples) -> Fields:
    n = len(examples)
    fields: Fields = {name: _packed(getattr(examples, name), _INT, n) for name in _EXAMPLE_INTS}
    fields["ids"] = _joined_erased(examples.ids)
    fields["y"] = _packed(examples.y, _FLOAT, n)
    fields["revisions"] = _packed_revisions(examples.revisions, n)
    fields["sources"] = _joined_sources(examples.sources, n)
    fields["served"] = _served_fields(examples.served, n)
    fields["x"] = _x_fields(examples.x, n)
    return fields


def _examples(fields: Fields) -> Examples:
    ids = _split_erased(fields)
    n = len(ids)
    return Examples(
        **{name: _column(fields, name, _INT, n) for name in _EXAMPLE_INTS},
        ids=ids,
        y=_column(fields, "y", _FLOAT, n),
        revisions=_revisions(fields, n),
        sources=_sources(fields["sources"], n),
        served=_served(fields["served"], n),
        x=_x(fields["x"], n),
    )


def _corrections_fields(corrections: Corrections) -> Fields:
    n = len(corrections)
    fields: Fields = {name: _packed(getattr(corrections, name), _INT, n) for name in _CORRECTION_INTS}
    fields["ids"] = _joined_erased(corrections.ids)
    fields["y"] = _packed(corrections.y, _FLOAT, n)
    fields["revisions"] = _packed_revisions(corrections.revisions, n)
    fields["sources"] = _joined_sources(corrections.sources, n)
    return fields


def _corrections(fields: Fields) -> Corrections:
    ids = _split_erased(fields)
    n = len(ids)
    return Corrections(
        **{name: _column(fields, name, _INT, n) for name in _CORRECTION_INTS},
        ids=ids,
        y=_column(fields, "y", _FLOAT, n),
        revisions=_revisions(fields, n),
        sources=_sources(fields["sources"], n),
    )


def _dropped_fields(dropped: Dropped) -> Fields:
    fields: Fields = {name: _packed(getattr(dropped, name), _INT, len(dropped)) for name in _DROPPED_INTS}
    return fields | {"ids": _joined_erased(dropped.ids)}


def _dropped(fields: Fields) -> Dropped:
    ids = _split_erased(fields)
    return Dropped(ids=ids, **{name: _column(fields, name, _INT, len(ids)) for name in _DROPPED_INTS})


def _vector_fields(vector: Vector) -> Fields:
    fields: Fields = {name: getattr(vector, name) for name in _VECTOR_NUMBERS}
    fields["scored_low"] = _lowest_fields(vector.scored_low)
    fields["labels_low"] = _lowest_fields(vector.labels_low)
    fields["relabelled_covered"] = _of_partitions(vector.relabelled_covered)
    fields["marks_ms"] = _of_partitions(vector.marks_ms)
    fields["idle_moves"] = [{"offset": offset, "watermark_ms": to_ms} for offset, to_ms in vector.idle_moves]
    fields["counts"] = dict(sorted(vector.counts.items()))
    return fields


def _vector(fields: Fields) -> Vector:
    return Vector(
        **{name: fields[name] for name in _VECTOR_NUMBERS},
        scored_low=Lowest(**fields["scored_low"]),
        labels_low=Lowest(**fields["labels_low"]),
        relabelled_covered={each["partition"]: each["value"] for each in fields["relabelled_covered"]},
        marks_ms={each["partition"]: each["value"] for each in fields["marks_ms"]},
        idle_moves=tuple((move["offset"], move["watermark_ms"]) for move in fields["idle_moves"]),
        counts=fields["counts"],
    )


def _lowest_fields(lowest: Lowest) -> Fields:
    return {"position": lowest.position, "watermark_ms": lowest.watermark_ms}


def _of_partitions(numbers: Mapping[int, int]) -> list[Fields]:
    return [{"partition": partition, "value": value} for partition, value in sorted(numbers.items())]


def _served_fields(served: Served, n: int) -> Fields:
    width = served.proba.shape[1]
    return {
        "y_pred": _packed(served.y_pred, _FLOAT, n),
        "proba_width": width,
        "proba": _packed(served.proba, _FLOAT, n, width),
    }


def _served(fields: Fields, n: int) -> Served:
    return Served(_column(fields, "y_pred", _FLOAT, n), _table(fields, "proba", _FLOAT, n, fields["proba_width"]))


def _x_fields(x: XColumns, n: int) -> Fields:
    string_width = len(x.strings[0]) if x.strings else 0
    number_width, integer_width = x.numbers.shape[1], x.integers.shape[1]
    strings = list(chain.from_iterable(x.strings))
    if len(x.strings) != n or len(strings) != n * string_width:
        raise _misshapen("strings", len(strings), n)
    return {
        "number_width": number_width,
        "integer_width": integer_width,
        "string_width": string_width,
        "numbers": _packed(x.numbers, _FLOAT, n, number_width),
        "integers": _packed(x.integers, _INT, n, integer_width),
        "strings": strings,
        "absent": b"" if x.absent is None else _packed_bits(x.absent, n, number_width + integer_width + string_width),
    }


def _x(fields: Fields, n: int) -> XColumns:
    widths = fields["number_width"], fields["integer_width"], fields["string_width"]
    return XColumns(
        _table(fields, "numbers", _FLOAT, n, widths[0]),
        _table(fields, "integers", _INT, n, widths[1]),
        _string_rows(fields["strings"], n, widths[2]),
        _unpacked_bits(fields["absent"], n, sum(widths)),
    )


def _string_rows(flat: list[str], n: int, width: int) -> list[tuple[str, ...]]:
    if width < 0 or len(flat) != n * width:
        raise _wrong_length("strings", len(flat), n, width)
    return list(zip(*[iter(flat)] * width, strict=True)) if flat else [()] * n


def _packed_bits(absent: Bools, n: int, width: int) -> bytes:
    if absent.shape != (n, width):
        raise _misshapen("absent", absent.size, n)
    return np.packbits(absent).tobytes()


def _unpacked_bits(packed: bytes, n: int, width: int) -> Bools | None:
    if not packed:
        return None
    if len(packed) != -(-n * width // 8):
        raise _wrong_length("absent", len(packed), n, width)
    bits: Bools = np.unpackbits(np.frombuffer(packed, np.uint8), count=n * width).view(np.bool_).reshape(n, width)
    bits.flags.writeable = False
    return bits


def _joined(ids: Sequence[str]) -> str:
    joined = SEPARATOR.join(ids)
    if len(ids) >= ROWS_PER_MESSAGE or joined.count(SEPARATOR) != max(len(ids) - 1, 0) or "" in ids:
        message = f"a block of {len(ids)} rows has too many of them, or an id that is empty or contains NUL"
        raise ContractError(message)
    return joined


def _joined_erased(ids: Sequence[str]) -> str:
    """Join the ids of rows of the training log, where an erased one is empty."""
    return _joined(ids) if "" not in ids else SEPARATOR.join(ids)


def _split_erased(fields: Fields) -> list[str]:
    joined: str = fields["ids"]
    if SEPARATOR * 2 not in joined and joined.strip(SEPARATOR) == joined:
        return _split(joined) if joined or not fields["times_ms"] else [""]
    ids = joined.split(SEPARATOR)
    if len(ids) >= ROWS_PER_MESSAGE:
        raise CodecError(f"a block of {len(ids)} rows has too many of them")
    return ids


def _split(joined: str) -> list[str]:
    ids = joined.split(SEPARATOR) if joined else []
    if len(ids) >= ROWS_PER_MESSAGE or "" in ids:
        message = f"a block of {len(ids)} rows has too many of them, or an id that is empty"
        raise CodecError(message)
    return ids


def _joined_sources(sources: Sequence[str], n: int) -> str:
    if len(sources) != n:
        raise _misshapen("sources", len(sources), n)
    if not any(sources):
        return ""
    joined = SEPARATOR.join(sources)
    if joined.count(SEPARATOR) != n - 1:
        raise ContractError("the source of a label contains NUL; it must be refused when the label is decoded")
    return joined


def _sources(joined: str, n: int) -> list[str]:
    if not joined:
        return [""] * n
    sources = joined.split(SEPARATOR)
    if len(sources) != n:
        raise _wrong_length("sources", len(sources), n, 1)
    return sources


def _packed_revisions(revisions: Ints, n: int) -> bytes:
    packed = _packed(revisions, _INT, n)
    return packed if revisions.any() else b""


def _revisions(fields: Fields, n: int) -> Ints:
    if fields["revisions"]:
        return _column(fields, "revisions", _INT, n)
    revisions = np.zeros(n, _INT)
    revisions.flags.writeable = False
    return revisions


def _packed(array: Floats | Ints, dtype: np.dtype[Any], n: int, width: int | None = None) -> bytes:
    if array.shape != ((n,) if width is None else (n, width)):
        raise _misshapen("a column", array.size, n)
    return array.astype(dtype, copy=False).tobytes()


def _column(fields: Fields, name: str, dtype: np.dtype[Any], n: int) -> NDArray[Any]:
    return _table(fields, name, dtype, n, 1).reshape(n)


def _table(fields: Fields, name: str, dtype: np.dtype[Any], n: int, width: int) -> NDArray[Any]:
    packed: bytes = fields[name]
    if width < 0 or len(packed) != n * width * dtype.itemsize:
        raise _wrong_length(name, len(packed), n, width)
    return np.frombuffer(packed, dtype).reshape(n, width)


def _misshapen(name: str, size: int, n: int) -> ContractError:
    return ContractError(f"{name} of a block has {size} values, which do not fit its {n} ids; build all columns alike")


def _wrong_length(name: str, size: int, n: int, width: int) -> CodecError:
    return CodecError(f"column {name} of a block has length {size}, which does not fit {n} rows of {width}")

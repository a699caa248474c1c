"""Values of an Avro topic → fields: the reader that a pinned schema stands for, strict to the last byte.

A value is the plain Avro body of the topic's schema, or the single-object encoding of it or of an older pinned one.
The bytes themselves choose no other schema.

fastavro, which parses the schemas, reads values too leniently for input of strangers: it takes varints of any length,
ints beyond 32 bits, booleans other than 0 and 1, negative branches and symbols, blocks of any claimed size, and leaves
bytes behind. All of that would have to be walked before it is read, and a walk that checks every byte has read the
value. So this is the walk; fastavro's writer is its oracle in the tests.

Invariant: every byte is consumed and every byte is right, or the value is rejected. Nothing takes more memory than
its bytes justify: block counts are bounded by the bytes left, and arrays, which no feature can come from, are checked
and not kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from struct import Struct
from typing import Any, Final, TypeAlias

from tailrace.domain.features import Raw
from tailrace.domain.records import Code, Rejection, Stage
from tailrace.wire.pinned_schema import PinnedSchema, kind_of
from tailrace.wire.schemas import FINGERPRINT_BYTES, Schema

Read: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""Takes a value and where to begin; returns what stands there and where it ends."""

SINGLE_OBJECT: Final = b"\xc3\x01"
MAX_VARINT_BYTES: Final = 10  # 64 bits in sevens

_BODY: Final = len(SINGLE_OBJECT) + FINGERPRINT_BYTES
_FRAMED: Final = 5  # a schema registry's framing: a zero byte and four bytes of id
_FIXED_WIDTH: Final[Mapping[str, str]] = {"float": "f", "double": "d"}


class _MalformedError(Exception):
    """Bytes that are no value of the type; says which of them in words."""


def avro_reader(schema: PinnedSchema, older: Sequence[PinnedSchema] = ()) -> Callable[[bytes], Raw | Rejection]:
    """Return the `ObjectReader` of a topic.

    Args:
        schema: Of plain bodies, and of most single objects.
        older: Schemas that single objects may name as well; fields that they lack have the defaults of `schema`, and
            fields whose names are aliases in `schema` have their names there.
    """
    plain = _Compiler(schema).record(schema.root)
    bodies = {each.fingerprint: _with_defaults(each, schema) for each in older} | {schema.fingerprint: plain}

    def read(value: bytes) -> Raw | Rejection:
        named = bodies.get(value[len(SINGLE_OBJECT) : _BODY]) if value[: len(SINGLE_OBJECT)] == SINGLE_OBJECT else None
        body, start = (plain, 0) if named is None else (named, _BODY)
        found = _whole(body, value, start)
        if not isinstance(found, _MalformedError):
            return found
        return Rejection(Code.NOT_AVRO, Stage.DECODE, f"{found}{_hint(plain, value, is_named=named is not None)}")

    return read


def _with_defaults(older: PinnedSchema, schema: PinnedSchema) -> Read:
    read = _Compiler(older).record(older.root)
    known = older.fields(older.root)
    new = [field for field in schema.root["fields"] if field["name"] not in known]
    present = schema.fields(schema.root)
    former = {
        alias: field["name"]
        for field in new
        for alias in field.get("aliases", ())
        if alias in known and alias not in present
    }
    defaults = {field["name"]: field["default"] for field in new if isinstance(field.get("default"), str | int | float)}

    def read_older(value: bytes, at: int) -> tuple[Any, int]:
        found, at = read(value, at)
        for alias, name in former.items():
            found[name] = found.pop(alias)
        return defaults | found, at

    return read_older


def _whole(read: Read, value: bytes, start: int) -> Raw | _MalformedError:
    try:
        found: Raw
        found, end = read(value, start)
    except (IndexError, struct.error):
        return _MalformedError(f"the value ends after {len(value)} bytes, in the middle of a field")
    except UnicodeDecodeError:
        return _MalformedError("the value holds text that is not UTF-8")
    except _MalformedError as problem:
        return problem
    if end != len(value):
        return _MalformedError(f"the value has {len(value)} bytes; the schema's fields end after {end}")
    return found


def _hint(plain: Read, value: bytes, *, is_named: bool) -> str:
    if is_named:
        return ""
    if value[: len(SINGLE_OBJECT)] == SINGLE_OBJECT:
        return (
            f"; as a single object it names the schema {value[len(SINGLE_OBJECT) : _BODY].hex()}, which is not pinned"
        )
    if value[:1] == b"\0" and not isinstance(_whole(plain, value, _FRAMED), _MalformedError):
        return "; after five bytes of a schema registry's framing it would fit; send plain bodies or single objects"
    return ""


class _Compiler:
    """Makes a reader of each type; a named type is made once."""

    def __init__(self, schema: PinnedSchema) -> None:
        self._schema = schema
        self._records: dict[str, Read] = {}

    def reader(self, schema: Schema) -> Read:
        schema = self._schema.resolved(schema)
        kind = kind_of(schema)
        if kind in _PRIMITIVE:
            return _PRIMITIVE[kind]
        made: dict[str, Callable[[Any], Read]] = {
            "record": self.record,
            "enum": lambda enum: _enum(enum["symbols"]),
            "fixed": lambda fixed: _fixed(fixed["size"]),
            "union": lambda branches: _union([self.reader(branch) for branch in branches]),
            "array": lambda array: _array(self.reader(array["items"])),
            "map": lambda map_: _map(self.reader(map_["values"])),
        }
        return made[kind](schema)

    def record(self, schema: Mapping[str, Any]) -> Read:
        name = schema["name"]
        if name not in self._records:
            self._records[name] = self._record(schema)
        return self._records[name]

    def _record(self, schema: Mapping[str, Any]) -> Read:
        steps: list[Callable[[dict[str, Any], bytes, int], int]] = []
        # Neighbours of fixed width are unpacked at once: a row of doubles is what most events are.
        for is_fixed, fields in groupby(schema["fields"], lambda field: self._width(field["type"]) != ""):
            members = list(fields)
            if is_fixed:
                layout = Struct("<" + "".join(self._width(field["type"]) for field in members))
                steps.append(_unpacked([field["name"] for field in members], layout))
            else:
                steps += [_named(field["name"], self.reader(field["type"])) for field in members]

        def read(value: bytes, at: int) -> tuple[Any, int]:
            found: dict[str, Any] = {}
            for step in steps:
                at = step(found, value, at)
            return found, at

        return read

    def _width(self, schema: Schema) -> str:
        return _FIXED_WIDTH.get(kind_of(self._schema.resolved(schema)), "")


def _unpacked(names: Sequence[str], layout: Struct) -> Callable[[dict[str, Any], bytes, int], int]:
    unpack_from, size = layout.unpack_from, layout.size

    def step(found: dict[str, Any], value: bytes, at: int) -> int:
        found.update(zip(names, unpack_from(value, at), strict=True))
        return at + size

    return step


def _named(name: str, read: Read) -> Callable[[dict[str, Any], bytes, int], int]:
    def step(found: dict[str, Any], value: bytes, at: int) -> int:
        found[name], at = read(value, at)
        return at

    return step


def _null(_value: bytes, at: int) -> tuple[None, int]:
    return None, at


def _boolean(value: bytes, at: int) -> tuple[bool, int]:
    byte = value[at]
    if byte > 1:
        raise _MalformedError(f"byte {at} is {byte}, where a boolean is 0 or 1")
    return byte == 1, at + 1


def _long(value: bytes, at: int) -> tuple[int, int]:
    byte = value[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    number, shift = byte & 0x7F, 7
    for end in range(at + 1, at + MAX_VARINT_BYTES):
        byte = value[end]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number >> 64:
                raise _MalformedError(f"the varint at byte {at} has more than 64 bits")
            return (number >> 1) ^ -(number & 1), end + 1
        shift += 7
    raise _MalformedError(f"the varint at byte {at} has more than {MAX_VARINT_BYTES} bytes")


def _int(value: bytes, at: int) -> tuple[int, int]:
    number, end = _long(value, at)
    if not -(1 << 31) <= number < 1 << 31:
        raise _MalformedError(f"the int at byte {at} has more than 32 bits")
    return number, end


def _bytes(value: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(value, at)
    if not 0 <= size <= len(value) - at:
        raise _MalformedError(f"a length before byte {at} is {size}; {len(value) - at} bytes are left")
    return value[at : at + size], at + size


def _string(value: bytes, at: int) -> tuple[str, int]:
    text, at = _bytes(value, at)
    return text.decode(), at


def _float(value: bytes, at: int) -> tuple[float, int]:
    return _FLOAT.unpack_from(value, at)[0], at + _FLOAT.size


def _double(value: bytes, at: int) -> tuple[float, int]:
    return _DOUBLE.unpack_from(value, at)[0], at + _DOUBLE.size


def _fixed(size: int) -> Read:
    def read(value: bytes, at: int) -> tuple[bytes, int]:
        if size > len(value) - at:
            raise IndexError
        return value[at : at + size], at + size

    return read


def _enum(symbols: Sequence[str]) -> Read:
    def read(value: bytes, at: int) -> tuple[str, int]:
        index, end = _int(value, at)
        if not 0 <= index < len(symbols):
            raise _MalformedError(f"the enum at byte {at} has the symbol {index} of {len(symbols)}")
        return symbols[index], end

    return read


def _union(branches: Sequence[Read]) -> Read:
    def read(value: bytes, at: int) -> tuple[Any, int]:
        index, end = _long(value, at)
        if not 0 <= index < len(branches):
            raise _MalformedError(f"the union at byte {at} has the branch {index} of {len(branches)}")
        return branches[index](value, end)

    return read


def _array(read_item: Read) -> Read:
    def read(value: bytes, at: int) -> tuple[None, int]:
        count, at, end = _block(value, at)
        while count:
            for _ in range(count):
                _, at = read_item(value, at)
            _check_block(at, end)
            count, at, end = _block(value, at)
        return None, at

    return read


def _map(read_item: Read) -> Read:
    def read(value: bytes, at: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        count, at, end = _block(value, at)
        while count:
            for _ in range(count):
                key, at = _string(value, at)
                found[key], at = read_item(value, at)
            _check_block(at, end)
            count, at, end = _block(value, at)
        return found, at

    return read


def _block(value: bytes, at: int) -> tuple[int, int, int | None]:
    """Return how many items a block has, where they begin, and where they end if the block says so."""
    start = at
    count, at = _long(value, at)
    end = None
    if count < 0:
        count = -count
        size, at = _long(value, at)
        end = at + size
    # Every item takes at least one byte: the schema was refused otherwise.
    if count > len(value) - at:
        raise _MalformedError(f"the block at byte {start} has {count} items; {len(value) - at} bytes are left")
    return count, at, end


def _check_block(at: int, end: int | None) -> None:
    if end is not None and at != end:
        raise _MalformedError(f"a block says that it ends at byte {end}; its items end at byte {at}")


_FLOAT: Final = Struct("<f")
_DOUBLE: Final = Struct("<d")
_PRIMITIVE: Final[Mapping[str, Read]] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _float,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}

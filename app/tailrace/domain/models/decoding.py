"""Reads states: bytes → new objects, running nothing that the bytes choose. See `codec` for the promises."""

from __future__ import annotations

import collections
import functools
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
from river.utils import VectorDict

from tailrace.domain.errors import CodecError
from tailrace.domain.models.attribute_types import AttributeRule
from tailrace.domain.models.codec_format import (
    CODEC_VERSION,
    DTYPES,
    WORDS,
    Caps,
    Node,
    Remake,
    Reserved,
    Value,
    derived_attributes,
)
from tailrace.domain.models.symbols import SymbolTable, is_plain, is_rust, slots_of

_KEY_WORDS = 624
_HEAD = b"\x95" + bytes([CODEC_VERSION]) + b"\xc4\x20"
"""How every state begins: five parts, the version, and 32 bytes of fingerprint to follow."""


@dataclass(frozen=True, slots=True)
class _Reference:
    number: int


@dataclass(frozen=True, slots=True)
class _Method:
    owner: int
    function: Any  # A function or a method descriptor of a class.


@dataclass(frozen=True, slots=True)
class _Layout:
    kind: type
    names: tuple[str, ...]
    rules: tuple[AttributeRule | None, ...]
    slots: dict[str, Any]
    derived: dict[str, Remake | None]


class Decoder:
    """Reads one state, once: first every node comes into being, empty; then each gets what it holds."""

    def __init__(self, table: SymbolTable, caps: Caps) -> None:
        self._table = table
        self._caps = caps
        self._layouts: list[_Layout] = []
        self._objects: list[Any] = []
        self._reserved = Reserved(caps)
        self._depth = 0

    def decode(self, body: bytes) -> Any:
        """Return the state that `body` describes.

        Raises:
            CodecError: The bytes are of another version or table, or break a rule of the format.
            Exception: The bytes are not well-formed; any kind, the caller turns it into a CodecError.
        """
        head = _HEAD + self._table.fingerprint
        if not body.startswith(_HEAD):
            raise CodecError(f"the bytes are not a state of codec version {CODEC_VERSION}; fold the log again")
        if not body.startswith(head):
            raise CodecError("the state was written for another model or other library versions; fold the log again")
        _, _, layouts, root, nodes = self._unpacked(body)
        if len(nodes) > self._caps.nodes:
            raise CodecError(f"the state has {len(nodes)} objects; at most {self._caps.nodes} are read")
        if max(map(len, nodes), default=0) > self._caps.longest_node:
            raise CodecError(f"a list or dict of the state is too long; at most {self._caps.entries} entries are read")
        self._layouts = [self._layout(*layout) for layout in layouts]
        self._objects = [None if node[0] == Node.VECTOR else self._empty(node) for node in nodes]
        for number, node in enumerate(nodes):
            if node[0] == Node.VECTOR:
                self._objects[number] = self._vector(node)
        for filled, node in zip(self._objects, nodes, strict=True):
            fill = _FILLERS.get(node[0])
            if fill is not None:
                fill(self, filled, node)
        return self._value(root)

    def _unpacked(self, body: bytes) -> Any:
        # A frozen set may hold another: each is unpacked inside of the one around it, and takes much of C's stack.
        if self._depth > self._caps.tuple_depth + 1:
            raise CodecError("values that lie too deep in each other; the bytes are not ours")
        self._depth += 1
        found = msgpack.unpackb(
            body,
            raw=False,
            use_list=False,
            unicode_errors="surrogatepass",
            ext_hook=self._extension,
            max_str_len=self._caps.text_bytes,
            max_bin_len=self._caps.array_bytes,
            max_ext_len=self._caps.text_bytes,
            max_array_len=max(self._caps.nodes, self._caps.longest_node),
            max_map_len=0,
        )
        self._depth -= 1
        return found

    def _extension(self, code: int, content: bytes) -> Any:
        read = _EXTENSIONS.get(code)
        if read is None:
            raise CodecError(f"a value of unknown kind {code}; the bytes are not ours")
        return read(self, content)

    def _layout(self, number: int, *names: str) -> _Layout:
        kind = self._table.symbol(number)
        if not isinstance(kind, type) or not is_plain(kind):
            raise CodecError(f"entry {number} of the table is no class with attributes; the bytes are not ours")
        derived = derived_attributes(kind)
        known = self._table.attribute_names(kind) - derived.keys()
        for name in names:
            if name not in known or (name.startswith("__") and name.endswith("__")):
                raise CodecError(
                    f"{kind.__qualname__} has no attribute of the name in its layout; the bytes are not ours"
                )
        rules = tuple(self._table.attribute_rule(kind, name) for name in names)
        return _Layout(kind, names, rules, slots_of(kind), derived)

    def _value(self, raw: Any) -> Any:
        kind = type(raw)
        if kind is _Reference:
            return self._object(raw.number)
        if kind is tuple:
            return tuple([self._value(part) for part in raw])
        if kind is _Method:
            return self._method(raw)
        return raw

    def _object(self, number: int) -> Any:
        found = self._objects[number]
        if found is None:
            raise CodecError("a part that must exist first refers to a later one; the bytes are not ours")
        return found

    def _method(self, raw: _Method) -> Any:
        owner = self._object(raw.owner)
        name = raw.function.__name__
        if getattr(type(owner), name, None) is not raw.function:
            raise CodecError(f"{type(owner).__qualname__} has no such method; the bytes are not ours")
        return getattr(owner, name)

    def _pairs(self, raw: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        keys, values = raw[::2], raw[1::2]
        for key, value in zip(keys, values, strict=True):
            yield self._pure(key), self._value(value)

    def _pure(self, raw: Any) -> Any:
        todo = [raw]
        while todo:
            part = todo.pop()
            if type(part) is tuple:
                todo.extend(part)
            elif type(part) in (_Reference, _Method):
                raise CodecError("an object as a key; the bytes are not ours")
        return raw

    def _empty(self, node: Sequence[Any]) -> Any:
        make = _MAKERS.get(node[0])
        if make is None:
            raise CodecError("a node of unknown kind; the bytes are not ours")
        return make(self, node)

    def _instance(self, node: Sequence[Any]) -> Any:
        return object.__new__(self._layouts[node[1]].kind)

    def _fill_instance(self, filled: Any, node: Sequence[Any]) -> None:
        layout = self._layouts[node[1]]
        for name, rule, raw in zip(layout.names, layout.rules, node[2:], strict=True):
            value = self._value(raw)
            if rule is not None and not rule.allows(value):
                raise CodecError(
                    f"{layout.kind.__qualname__}.{name} holds {_shown(value)}, which no such object can; "
                    f"the bytes are not ours"
                )
            self._set(filled, layout, name, value)
        for name, remake in layout.derived.items():
            if remake is not None:
                self._set(filled, layout, name, remake())

    def _set(self, filled: Any, layout: _Layout, name: str, value: Any) -> None:
        """Set one attribute without running code of its class: properties and `__setattr__` are passed by."""
        slot = layout.slots.get(name)
        if slot is not None:
            slot.__set__(filled, value)
        else:
            filled.__dict__[name] = value

    def _rust(self, node: Sequence[Any]) -> Any:
        _, number, arguments, content = node
        kind = self._table.symbol(number)
        if not isinstance(kind, type) or not is_rust(kind) or kind is VectorDict or type(content) is not bytes:
            raise CodecError(f"entry {number} of the table is no compiled class; the bytes are not ours")
        self._pure(arguments)
        self._reserved.add(kind, arguments)
        return _revive(kind, arguments, content)

    def _vector(self, node: Sequence[Any]) -> Any:
        return VectorDict(dict(self._pairs(node[2:])), self._value(node[1]))

    def _fill_default(self, filled: Any, node: Sequence[Any]) -> None:
        filled.default_factory = self._value(node[1])
        filled.update(self._pairs(node[2:]))

    def _fill_partial(self, filled: Any, node: Sequence[Any]) -> None:
        filled.__setstate__((self._value(node[1]), self._value(node[2]), dict(self._pairs(node[3:])), {}))

    def _array(self, node: Sequence[Any]) -> Any:
        _, dtype, shape, content = node
        return np.frombuffer(content, dtype=_dtype(dtype)).reshape(shape).copy()

    def _random(self, node: Sequence[Any]) -> random.Random:
        _, words, gauss = node
        if gauss is not None and not (type(gauss) is float and isfinite(gauss)):
            raise CodecError("a generator whose next number is none; the bytes are not ours")
        generator = random.Random(0)
        generator.setstate((3, WORDS.unpack(words), gauss))
        return generator

    def _random_state(self, node: Sequence[Any]) -> np.random.RandomState:
        _, key, position, has_gauss, gauss = node
        # NumPy does not look at the position, and would read what lies behind the key.
        if not (0 <= position <= _KEY_WORDS and has_gauss in {0, 1} and isfinite(gauss)):
            raise CodecError("a generator that stands beside its numbers; the bytes are not ours")
        generator = np.random.RandomState(0)
        generator.set_state(("MT19937", np.frombuffer(key, dtype="<u4"), position, has_gauss, gauss))
        return generator

    def _generator(self, node: Sequence[Any]) -> np.random.Generator:
        _, state, increment, has_uint32, uinteger = node
        source: Any = np.random.PCG64(0)
        words = {"state": state, "inc": increment}
        source.state = {"bit_generator": "PCG64", "state": words, "has_uint32": has_uint32, "uinteger": uinteger}
        return np.random.Generator(source)


def _revive(kind: type, arguments: tuple[Any, ...], content: bytes) -> Any:
    """Make a compiled object of its arguments and bytes.

    River's compiled classes panic on bytes that they do not understand, and a panic is no `Exception`.
    """
    try:
        made: Any = kind.__new__(kind, *arguments)
        made.__setstate__(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as cause:
        raise CodecError(f"{kind.__qualname__} refuses its bytes; take another snapshot") from cause
    return made


def _shown(value: object) -> str:
    return repr(value) if type(value) is float else f"a {type(value).__qualname__}"


def _dtype(name: str) -> np.dtype[Any]:
    if name not in DTYPES:
        raise CodecError("an array of an unknown type of numbers; the bytes are not ours")
    return np.dtype(name)


def _read_method(decoder: Decoder, content: bytes) -> _Method:
    return _Method(int.from_bytes(content[:4], "big"), decoder._table.symbol(int.from_bytes(content[4:], "big")))


def _read_scalar(decoder: Decoder, content: bytes) -> Any:
    dtype, number = decoder._unpacked(content)
    return np.frombuffer(number, dtype=_dtype(dtype))[0]


def _read_frozenset(decoder: Decoder, content: bytes) -> frozenset[Any]:
    return frozenset(decoder._pure(decoder._unpacked(content)))


_EXTENSIONS: dict[int, Callable[[Decoder, bytes], Any]] = {
    Value.REFERENCE: lambda _, content: _Reference(int.from_bytes(content, "big")),
    Value.INTEGER: lambda _, content: int.from_bytes(content, "big", signed=True),
    Value.SYMBOL: lambda decoder, content: decoder._table.symbol(int.from_bytes(content, "big")),
    Value.COMPLEX: lambda _, content: complex(*struct.unpack(">dd", content)),
    Value.FROZENSET: _read_frozenset,
    Value.SCALAR: _read_scalar,
    Value.METHOD: _read_method,
}

_MAKERS: dict[int, Callable[[Decoder, Sequence[Any]], Any]] = {
    Node.LIST: lambda *_: [],
    Node.DICT: lambda *_: {},
    Node.ORDERED: lambda *_: collections.OrderedDict(),
    Node.COUNTER: lambda *_: collections.Counter(),
    Node.DEFAULT: lambda *_: collections.defaultdict(),
    Node.SET: lambda *_: set(),
    Node.DEQUE: lambda _, node: collections.deque(maxlen=node[1]),
    Node.PARTIAL: lambda *_: functools.partial(int),
    Node.INSTANCE: Decoder._instance,
    Node.RUST: Decoder._rust,
    Node.ARRAY: Decoder._array,
    Node.RANDOM: Decoder._random,
    Node.RANDOM_STATE: Decoder._random_state,
    Node.GENERATOR: Decoder._generator,
}

_FILLERS: dict[int, Callable[[Decoder, Any, Sequence[Any]], None]] = {
    Node.LIST: lambda decoder, filled, node: filled.extend(map(decoder._value, node[1:])),
    Node.DICT: lambda decoder, filled, node: filled.update(decoder._pairs(node[1:])),
    Node.ORDERED: lambda decoder, filled, node: filled.update(decoder._pairs(node[1:])),
    Node.COUNTER: lambda decoder, filled, node: dict.update(filled, decoder._pairs(node[1:])),
    Node.SET: lambda decoder, filled, node: filled.update(map(decoder._pure, node[1:])),
    Node.DEQUE: lambda decoder, filled, node: filled.extend(map(decoder._value, node[2:])),
    Node.DEFAULT: Decoder._fill_default,
    Node.PARTIAL: Decoder._fill_partial,
    Node.INSTANCE: Decoder._fill_instance,
}

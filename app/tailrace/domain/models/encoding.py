"""Writes states: objects → canonical bytes. See `codec` for the format and its promises."""

from __future__ import annotations

import collections
import functools
import random
import struct
import types
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import numpy as np
from river.utils import VectorDict

from tailrace.domain.errors import CodecError
from tailrace.domain.models.attribute_types import AttributeRule
from tailrace.domain.models.codec_format import (
    CODEC_VERSION,
    DTYPES,
    NAN,
    WORDS,
    Caps,
    Node,
    Reserved,
    Value,
    derived_attributes,
    lookup_attributes,
    packed,
    packer,
    touched_entries,
)
from tailrace.domain.models.symbols import SymbolTable, attributes_of, is_plain, is_rust, method_function, slots_of

_REFERENCE, _INSTANCE = int(Value.REFERENCE), int(Node.INSTANCE)
_INT_MIN, _INT_END = -(1 << 63), 1 << 64
_WHAT_TO_DO = "use a part of River that is on the support list, or keep plain numbers, texts, lists and dicts"


class _Shape(NamedTuple):
    """How objects of one class with the same attributes are written: layout, order, and what each may hold."""

    number: int
    names: tuple[str, ...]
    rules: tuple[tuple[str, AttributeRule], ...]


class _Reading(NamedTuple):
    """How the attributes of one class's objects are read.

    Attributes:
        is_bare: They are the object's `__dict__`, and nothing else.
        lookups: Those that are written without untouched entries.
    """

    is_bare: bool
    lookups: frozenset[str]


class Encoder:
    """Writes one state, once. Node `i` belongs to the i-th mutable object that was met."""

    def __init__(self, table: SymbolTable, caps: Caps) -> None:
        self._table = table
        self._caps = caps
        self._numbers: dict[int, int] = {}
        self._reserved = Reserved(caps)
        self._met: list[Any] = []  # Keeps objects alive too, so that no id is used twice.
        self._layouts: dict[tuple[int, tuple[str, ...]], int] = {}
        self._shapes: dict[tuple[type, tuple[str, ...]], _Shape] = {}
        self._readings: dict[type, _Reading] = {}
        self._node_kinds: set[type] = {*_WRITERS}

    def encode(self, state: object) -> bytes:
        """Return the canonical bytes of `state`.

        Raises:
            CodecError: See `StateCodec.encode`.
        """
        root = self._value(state)
        nodes: list[bytes] = []
        size, pack, longest = 0, packer(), self._caps.longest_node
        for met in self._met:  # It grows meanwhile.
            node = self._node(met)
            if len(node) > longest:
                raise self._too_long(node)
            body = pack(node)
            nodes.append(body)
            size += len(body)
            if size > self._caps.state_bytes:
                raise CodecError(
                    f"the state is larger than {self._caps.state_bytes} bytes; "
                    f"bound the model (fewer trees, a smaller depth or window)"
                )
        layouts = [[number, *names] for number, names in self._layouts]
        head = msgpack.Packer(use_bin_type=True, autoreset=False, unicode_errors="surrogatepass")
        head.pack_array_header(5)
        for part in (CODEC_VERSION, self._table.fingerprint, layouts, root):
            head.pack(part)
        head.pack_array_header(len(nodes))
        return b"".join((head.bytes(), *nodes))

    def _too_long(self, node: list[Any]) -> CodecError:
        return CodecError(
            f"a list or dict of some {len(node) // 2} entries in the state; at most {self._caps.entries} "
            f"are kept: bound the names of features, the categories or the window"
        )

    def _value(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is float:
            return NAN if isnan(value) else value  # NaN has many forms; it is written in one.
        if kind in self._node_kinds:
            number = self._numbers.get(id(value))
            return _reference(self._meet(value) if number is None else number)
        if kind is bool or value is None:
            return value
        if kind is str or kind is bytes:
            return self._text(value)
        if kind is int:
            return value if _INT_MIN <= value < _INT_END else _integer(value)
        number = self._numbers.get(id(value))
        if number is not None:
            return _reference(number)
        if kind is tuple:
            return [self._value(part, self._deeper(depth)) for part in value]
        return self._rare(value, kind, depth)

    def _values(self, values: Iterable[Any]) -> list[Any]:
        # Most are floats, and stand for themselves; NaN alone differs from itself.
        value = self._value
        return [each if type(each) is float and each == each else value(each) for each in values]  # noqa: PLR0124

    def _rare(self, value: Any, kind: type, depth: int) -> Any:
        symbol = self._table.number_of(value)
        if symbol is not None:
            return msgpack.ExtType(Value.SYMBOL, symbol.to_bytes(2, "big"))
        if kind is frozenset:
            return msgpack.ExtType(Value.FROZENSET, packed(self._sorted(value, self._deeper(depth))))
        if kind is complex:
            return msgpack.ExtType(Value.COMPLEX, struct.pack(">dd", self._value(value.real), self._value(value.imag)))
        if isinstance(value, np.generic):
            return msgpack.ExtType(Value.SCALAR, packed([_dtype(value), _canonical(np.asarray(value)).tobytes()]))
        if isinstance(value, types.MethodType) or (kind is types.BuiltinMethodType and not _is_function(value)):
            return self._method(value)
        return _reference(self._meet(value))

    def _text(self, value: str | bytes) -> str | bytes:
        # Most texts are far below the cap whatever their characters are; only the others are measured.
        if len(value) * 4 > self._caps.text_bytes:
            size = len(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))
            if size > self._caps.text_bytes:
                raise CodecError(
                    f"a text of {size} bytes in the state; at most {self._caps.text_bytes} are kept: "
                    f"bound the feature's length in the contract"
                )
        return value

    def _deeper(self, depth: int) -> int:
        if depth >= self._caps.tuple_depth:
            raise CodecError(f"tuples more than {self._caps.tuple_depth} deep in the state; use lists instead")
        return depth + 1

    def _meet(self, value: object) -> int:
        number = self._numbers[id(value)] = len(self._met)
        if number >= self._caps.nodes:
            raise CodecError(
                f"the state has more than {self._caps.nodes} objects; bound the model (fewer trees, a smaller depth)"
            )
        self._met.append(value)
        return number

    def _method(self, method: types.MethodType | types.BuiltinMethodType) -> msgpack.ExtType:
        function = self._table.number_of(method_function(method))
        owner = self._value(method.__self__)
        if function is None or not _is_reference(owner):
            raise CodecError(
                f"the state holds the bound method {method.__qualname__}, which a freshly built model does not; "
                f"keep the object and call its method instead"
            )
        return msgpack.ExtType(Value.METHOD, owner.data + function.to_bytes(2, "big"))

    def _sorted(self, values: Iterable[Any], depth: int = 0) -> list[Any]:
        return sorted((self._pure(self._value(value, depth)) for value in values), key=packed)

    def _pure(self, value: Any) -> Any:
        """Return `value` if it is the same whoever holds it: what keys of dicts and elements of sets must be."""
        todo = [value]
        while todo:
            part = todo.pop()
            if type(part) is list:
                todo.extend(part)
            elif type(part) is msgpack.ExtType and part.code in (Value.REFERENCE, Value.METHOD):
                raise CodecError(
                    f"an object is the key of a dict or the element of a set in the state, and has no canonical place; "
                    f"{_WHAT_TO_DO}"
                )
        return value

    def _items(self, mapping: dict[Any, Any]) -> list[Any]:
        value = self._value
        found: list[Any] = []
        for key, item in mapping.items():
            found.append(key if type(key) is str and len(key) < 256 else self._pure(value(key)))
            found.append(item if type(item) is float and item == item else value(item))  # noqa: PLR0124 - NaN
        return found

    def _node(self, value: Any) -> list[Any]:
        kind: type = type(value)
        write = _WRITERS.get(kind)
        if write is not None:
            return write(self, value)
        if is_rust(kind):
            return self._rust(value, kind)
        if is_plain(kind) and self._table.number_of(kind) is not None:
            return self._instance(value, kind)
        raise CodecError(_unknown(value, kind))

    def _instance(self, value: object, kind: type) -> list[Any]:
        reading = self._readings.get(kind) or self._new_reading(kind)
        attributes: dict[str, Any] = vars(value) if reading.is_bare else attributes_of(value)
        for name in reading.lookups:
            attributes[name] = touched_entries(attributes[name])
        shape = (kind, tuple(attributes))
        number, names, rules = self._shapes.get(shape) or self._new_shape(shape)
        for name, rule in rules:
            if not rule.allows(attributes[name]):
                raise CodecError(
                    f"{kind.__qualname__}.{name} holds {_short(attributes[name])}, which no such object should; "
                    f"the model has come apart, and no snapshot of it would be read again"
                )
        return [_INSTANCE, number, *self._values([attributes[name] for name in names])]

    def _new_reading(self, kind: type) -> _Reading:
        lookups = lookup_attributes(kind)
        is_bare = bool(kind.__dictoffset__) and not slots_of(kind) and not lookups
        self._readings[kind] = made = _Reading(is_bare, lookups)
        self._node_kinds.add(kind)
        return made

    def _new_shape(self, shape: tuple[type, tuple[str, ...]]) -> _Shape:
        kind, found = shape
        names = tuple(sorted(set(found) - derived_attributes(kind).keys()))
        for name in names:
            if name not in self._table.attribute_names(kind):
                raise CodecError(
                    f"{kind.__qualname__} has the attribute {name!r}, which its class does not declare or assign; "
                    f"declare it in the class body"
                )
        layout = (self._symbol(kind), names)
        number = self._layouts.setdefault(layout, len(self._layouts))
        rules = [(name, rule) for name in names if (rule := self._table.attribute_rule(kind, name)) is not None]
        self._shapes[shape] = found_shape = _Shape(number, names, tuple(rules))
        return found_shape

    def _symbol(self, kind: type) -> int:
        number = self._table.number_of(kind)
        if number is None:
            raise CodecError(_unknown(None, kind))
        return number

    def _rust(self, value: Any, kind: type) -> list[Any]:
        arguments = value.__getnewargs__() if hasattr(kind, "__getnewargs__") else ()
        self._reserved.add(kind, arguments)
        return [Node.RUST, self._symbol(kind), self._value(arguments), bytes(value.__getstate__())]

    def _vector(self, value: Any) -> list[Any]:
        entries, factory, mask, _ = value.__reduce__()[1]
        if mask is not None:
            raise CodecError(f"a masked VectorDict is a view and no state; {_WHAT_TO_DO}")
        numbers = {key: float(number) for key, number in entries.items()}
        return [Node.VECTOR, self._value(factory), *self._items(numbers)]

    def _default(self, value: collections.defaultdict[Any, Any]) -> list[Any]:
        return [Node.DEFAULT, self._value(value.default_factory), *self._items(value)]

    def _partial(self, value: functools.partial[Any]) -> list[Any]:
        return [Node.PARTIAL, self._value(value.func), self._value(value.args), *self._items(value.keywords)]

    def _array(self, value: np.ndarray[Any, Any]) -> list[Any]:
        if value.nbytes > self._caps.array_bytes:
            raise CodecError(
                f"an array of {value.nbytes} bytes in the state; at most {self._caps.array_bytes} are kept"
            )
        return [Node.ARRAY, _dtype(value), list(value.shape), _canonical(value).tobytes()]

    def _random(self, value: random.Random) -> list[Any]:
        _, words, gauss = value.getstate()
        return [Node.RANDOM, WORDS.pack(*words), gauss]

    def _random_state(self, value: np.random.RandomState) -> list[Any]:
        _, key, position, has_gauss, gauss = value.get_state(legacy=True)
        return [Node.RANDOM_STATE, np.asarray(key, dtype="<u4").tobytes(), int(position), int(has_gauss), float(gauss)]

    def _generator(self, value: np.random.Generator) -> list[Any]:
        state: Any = value.bit_generator.state
        if state["bit_generator"] != "PCG64":
            raise CodecError(
                f"a generator of kind {state['bit_generator']} in the state; use numpy.random.default_rng(seed)"
            )
        words = [self._value(state["state"]["state"]), self._value(state["state"]["inc"])]
        return [Node.GENERATOR, *words, state["has_uint32"], state["uinteger"]]


_WRITERS: dict[type, Callable[[Encoder, Any], list[Any]]] = {
    list: lambda encoder, value: [Node.LIST, *encoder._values(value)],
    dict: lambda encoder, value: [Node.DICT, *encoder._items(value)],
    collections.OrderedDict: lambda encoder, value: [Node.ORDERED, *encoder._items(value)],
    collections.Counter: lambda encoder, value: [Node.COUNTER, *encoder._items(value)],
    collections.deque: lambda encoder, value: [Node.DEQUE, value.maxlen, *encoder._values(value)],
    set: lambda encoder, value: [Node.SET, *encoder._sorted(value)],
    collections.defaultdict: Encoder._default,
    functools.partial: Encoder._partial,
    VectorDict: Encoder._vector,
    np.ndarray: Encoder._array,
    random.Random: Encoder._random,
    np.random.RandomState: Encoder._random_state,
    np.random.Generator: Encoder._generator,
}


def _reference(number: int) -> msgpack.ExtType:
    # Without the checks of its constructor, which cost more than all the rest: one is made for every object.
    return tuple.__new__(msgpack.ExtType, (_REFERENCE, number.to_bytes(4, "big")))


def _is_reference(value: Any) -> bool:
    return type(value) is msgpack.ExtType and value.code == Value.REFERENCE


def _integer(value: int) -> msgpack.ExtType:
    return msgpack.ExtType(Value.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _is_function(value: Any) -> bool:
    return value.__self__ is None or isinstance(value.__self__, types.ModuleType)


def _dtype(value: Any) -> str:
    name: str = value.dtype.str
    if name not in DTYPES:
        raise CodecError(f"an array of {value.dtype.name} in the state; only numbers and booleans can be kept")
    return name


def _canonical(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `array` with every NaN in one form, whichever instruction made it."""
    if array.dtype.kind not in "fc":
        return array
    return np.where(np.isnan(array), np.array(NAN, dtype=array.dtype), array)


def _short(value: object) -> str:
    return repr(value) if type(value) is float else f"a {type(value).__qualname__}"


def _unknown(value: object, kind: type) -> str:
    """Return why an object has no place in a state, and what to do."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        name = f"{value.__module__}.{value.__qualname__}"
        return f"the state holds {name}, which a freshly built model does not refer to; {_WHAT_TO_DO}"
    return f"the state holds an object of {name}, which is not among the classes of this model; {_WHAT_TO_DO}"

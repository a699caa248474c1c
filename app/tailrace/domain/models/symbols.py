"""The frozen table of classes and callables that an encoded state may refer to.

Encoded states hold numbers, never names: number `i` means entry `i` of this table, and the table is made from
*code* — the objects that a freshly built model already consists of, plus the classes that its family creates
while it learns. So nothing that stands in bytes decides what is imported or called. Two tables are the same table
when their names are; `fingerprint` lets a reader refuse bytes that were written with another one.

The table also knows, per class, which attributes its instances can have: those that the class declares, those that
its methods assign, and those that the freshly built objects have; and of what types they are (`attribute_types`).
"""

from __future__ import annotations

import collections
import dis
import functools
import hashlib
import types
from collections.abc import Iterable, Iterator
from typing import Any

from tailrace.domain.errors import CodecError
from tailrace.domain.models.attribute_types import AttributeRule, SeenAttribute, codes_of, rule_of

FACTORIES: tuple[type, ...] = (
    bool, int, float, str, bytes, list, dict, set, frozenset, tuple,
    collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque,
)  # fmt: skip
"""In every table: containers and numbers, which do nothing but come into being when they are called."""

RUST_MODULE = "river._river_rust"
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)


def is_rust(kind: type) -> bool:
    """Tell whether `kind` is one of River's compiled classes, which carry their state as opaque bytes."""
    return kind.__module__.startswith(RUST_MODULE)


@functools.lru_cache(maxsize=4096)
def is_plain(kind: type) -> bool:
    """Tell whether `kind` is a Python class whose instances are nothing but attributes.

    Python knows: it refuses to make an instance without its constructor where a built-in or compiled base keeps more.
    """
    try:
        object.__new__(kind)
    except TypeError:
        return False
    return True


def attributes_of(instance: object) -> dict[str, Any]:
    """Return the attributes of a plain instance, from its `__dict__` and its slots, without calling its code."""
    found: dict[str, Any] = dict(getattr(instance, "__dict__", ()))
    kind: type = type(instance)
    for name, member in slots_of(kind).items():
        try:
            found[name] = member.__get__(instance, kind)
        except AttributeError:
            continue  # A slot that was never set.
    return found


@functools.lru_cache(maxsize=4096)
def slots_of(kind: type) -> dict[str, Any]:
    """Return slot name → descriptor of `kind` and its bases."""
    return {
        name: member
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    }


class SymbolTable:
    """A frozen table: number ↔ class or callable, and class → possible attribute names.

    Attributes:
        names: `module.qualified_name` of every entry, in order of their numbers.
        fingerprint: SHA-256 of the names, 32 bytes.
    """

    def __init__(self, skeletons: Iterable[object], family: Iterable[object] = ()) -> None:
        """Make the table.

        Args:
            skeletons: Freshly built objects of the kinds that will be encoded; they are only read.
            family: Further classes and functions that such objects create or hold while they learn.

        Raises:
            CodecError: Two different entries have the same name.
        """
        entries: dict[str, object] = {}
        attributes: dict[type, dict[str, SeenAttribute]] = {}
        for symbol in (*FACTORIES, *family, *_found_in(skeletons, attributes)):
            name = _name_of(symbol)
            if entries.setdefault(name, symbol) is not symbol:
                raise CodecError(
                    f"two different classes or functions are named {name}, and the codec goes by names; rename one"
                )
        self.names = tuple(sorted(entries))
        self.fingerprint = hashlib.sha256("\n".join(self.names).encode()).digest()
        self._symbols = tuple(entries[name] for name in self.names)
        self._numbers = {id(symbol): number for number, symbol in enumerate(self._symbols)}
        self._attributes = attributes
        self._known: dict[type, frozenset[str]] = {}
        self._rules: dict[tuple[type, str], AttributeRule | None] = {}

    def number_of(self, symbol: object) -> int | None:
        """Return the entry's number, or None when `symbol` is not in the table."""
        return self._numbers.get(id(symbol))

    def symbol(self, number: int) -> Any:
        """Return entry `number`.

        Raises:
            CodecError: There is no such entry.
        """
        if not 0 <= number < len(self._symbols):
            raise CodecError(f"entry {number} of a table of {len(self._symbols)} classes; the bytes are not ours")
        return self._symbols[number]

    def attribute_names(self, kind: type) -> frozenset[str]:
        """Return the attribute names that instances of `kind` can have."""
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = frozenset(_declared(kind) | self._attributes.get(kind, {}).keys())
        return known

    def attribute_rule(self, kind: type, name: str) -> AttributeRule | None:
        """Return what an attribute of instances of `kind` may hold; None: anything."""
        if (kind, name) not in self._rules:
            seen = self._attributes.get(kind, {}).get(name)
            self._rules[kind, name] = rule_of(kind, name, seen, self._symbols)
        return self._rules[kind, name]


def _name_of(symbol: object) -> str:
    owner = getattr(symbol, "__objclass__", None)  # Method descriptors have no module of their own.
    module = owner.__module__ if owner is not None else getattr(symbol, "__module__", None)
    return f"{module}.{getattr(symbol, '__qualname__', type(symbol).__name__)}"


def _is_symbol(value: object) -> bool:
    """Classes and functions that have one fixed place in a module; lambdas and inner functions have none."""
    if not isinstance(value, (type, *_FUNCTIONS)) or "<" in _name_of(value):
        return False
    if isinstance(value, type):
        return True
    return getattr(value, "__self__", None) is None or isinstance(value.__self__, types.ModuleType)  # type: ignore[union-attr]


def _found_in(skeletons: Iterable[object], attributes: dict[type, dict[str, SeenAttribute]]) -> Iterator[object]:
    """Yield every class and function reachable from the skeletons; fill `attributes` with what instances hold."""
    seen: dict[int, object] = {}
    todo = list(skeletons)
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if _is_symbol(value):
            yield value
            continue
        if not isinstance(value, (types.FunctionType, types.ModuleType)):
            yield from _class_of(value, attributes)
            todo.extend(contents_of(value))


def _class_of(value: object, attributes: dict[type, dict[str, SeenAttribute]]) -> Iterator[object]:
    kind: type = type(value)
    if is_rust(kind):
        yield kind
    elif is_plain(kind):
        seen = attributes.setdefault(kind, {})
        for name, held in attributes_of(value).items():
            seen.setdefault(name, SeenAttribute()).note(held)
        yield kind


def contents_of(value: object) -> list[object]:
    """Return what `value` holds directly: items, attributes, parts of a partial or a bound method."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        return [value.__self__, method_function(value)]
    if isinstance(value, collections.defaultdict):
        return [value.default_factory, *value.keys(), *value.values()]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return list(value)
    if is_rust(type(value)):
        return _inside_rust(value)
    # Functions, modules and the like hold their module's globals, which are no part of anything.
    kind: type = type(value)
    return list(attributes_of(value).values()) if is_plain(kind) else []


def _inside_rust(value: object) -> list[object]:
    arguments = value.__reduce_ex__(2)[1]
    return list(arguments) if isinstance(arguments, tuple) else []


def method_function(method: types.MethodType | types.BuiltinMethodType) -> object:
    """Return the function that a bound method binds, as its class holds it."""
    if isinstance(method, types.MethodType):
        return method.__func__
    return getattr(type(method.__self__), method.__name__, None)


@functools.lru_cache(maxsize=4096)
def _declared(kind: type) -> set[str]:
    names: set[str] = set(slots_of(kind))
    for base in kind.__mro__:
        names.update(vars(base).get("__annotations__", ()))
        for member in vars(base).values():
            names.update(*(_assigned(code) for code in codes_of(member)))
    return names


def _assigned(code: types.CodeType) -> set[str]:
    """Return the names that `code` assigns as attributes of anything."""
    return {str(step.argval) for step in dis.get_instructions(code) if step.opname == "STORE_ATTR"}

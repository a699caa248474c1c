"""What the writer and the reader of encoded states have in common: numbers of kinds, caps, what is no state."""

from __future__ import annotations

import collections
import enum
import functools
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
import numpy as np
from river import compose, preprocessing
from river.proba.base import Distribution

from tailrace.domain.errors import CodecError

CODEC_VERSION: Final = 1
"""Raised whenever equal states would get other bytes; part of every lineage."""

REMADE_SEED: Final = 0
"""Seed of the generators that are no state and are remade; they are used for nothing but sampling."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds on one encoded state, for writing and for reading.

    Attributes:
        nodes: Mutable objects of the whole state.
        entries: Keys of one dict, items of one list or set; the size that a compiled object is made with.
        reserved: Sizes of all compiled objects together: they take memory for them before they hold anything.
    """

    state_bytes: int = 256 * 2**20
    nodes: int = 5_000_000
    entries: int = 2_000_000
    text_bytes: int = 2**20
    array_bytes: int = 64 * 2**20
    reserved: int = 100_000_000
    tuple_depth: int = 16

    @property
    def longest_node(self) -> int:
        """Values of one node: keys and values of a dict, with its head."""
        return 2 * self.entries + 2


class Value(enum.IntEnum):
    """Values that stand in place, as msgpack extension codes."""

    REFERENCE = 1  # number of a node, 4 bytes
    INTEGER = 2  # outside 64 bits: signed, big-endian, as short as possible
    SYMBOL = 3  # number in the symbol table, 2 bytes
    FROZENSET = 4  # packed array of the sorted elements
    SCALAR = 5  # NumPy scalar: packed (dtype, bytes)
    METHOD = 6  # bound method: number of the node (4 bytes), number of the function (2 bytes)
    COMPLEX = 7  # two doubles


class Node(enum.IntEnum):
    """Kinds of nodes: the first number of each."""

    LIST = 0
    DICT = 1
    ORDERED = 2
    COUNTER = 3
    DEFAULT = 4  # factory, then keys and values
    SET = 5
    DEQUE = 6  # longest length, then items
    PARTIAL = 7  # function, arguments, then names and values
    INSTANCE = 8  # layout, then values of its attributes
    RUST = 9  # class, arguments of its constructor, its own bytes
    VECTOR = 10  # factory, then keys and numbers
    ARRAY = 11  # dtype, shape, bytes
    RANDOM = 12  # 625 words, next gauss
    RANDOM_STATE = 13  # key, position, whether a gauss is kept, that gauss
    GENERATOR = 14  # PCG64: state, increment, whether 32 bits are kept, those bits


NAN: Final[float] = struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\0")[0]
WORDS: Final = struct.Struct(">625I")
DTYPES: Final = frozenset(np.dtype(code).str for code in "?bhilqBHILQefdFD")
Remake = Callable[[], object]


def _generator() -> random.Random:
    return random.Random(REMADE_SEED)


def _nothing() -> None:
    return None


_DERIVED: Final[tuple[tuple[type, dict[str, Remake | None]], ...]] = (
    (Distribution, {"_rng": _generator}),
    (
        compose.Pipeline,
        {"_plan": _nothing, "_inference_transformers": tuple, "_last_step_cached": _nothing, "_last_step_params": None},
    ),
)


@functools.lru_cache(maxsize=4096)
def derived_attributes(kind: type) -> dict[str, Remake | None]:
    """Return the attributes of `kind` that are no state → how they are remade (None: on first use, by itself).

    `river.proba` makes an unseeded generator per distribution, used only by `.sample()`; a pipeline keeps a plan of
    its steps from its first use on, so that a model that only served would differ from one that did not.
    """
    for base, attributes in _DERIVED:
        if issubclass(kind, base):
            return attributes
    return {}


_LOOKUPS: Final[dict[type, frozenset[str]]] = {
    preprocessing.StandardScaler: frozenset({"means", "vars"}),
    preprocessing.MinMaxScaler: frozenset({"min", "max"}),
    preprocessing.MaxAbsScaler: frozenset({"abs_max"}),
}


def lookup_attributes(kind: type) -> frozenset[str]:
    """Return the attributes of `kind` that are default dicts which River only looks up, by feature.

    A lookup leaves an untouched entry behind, so scoring would change the state. Such dicts are written without
    untouched entries and sorted by feature: what is read back answers every lookup alike.
    """
    return _LOOKUPS.get(kind, frozenset())


def touched_entries(entries: collections.defaultdict[Any, Any]) -> collections.defaultdict[Any, Any]:
    """Return `entries` without those that its factory would make again, sorted by feature name.

    Scoring goes on in another thread meanwhile and may leave entries behind, so what is gone through is a copy.
    """
    factory = entries.default_factory
    fresh = factory() if factory is not None else None
    kept = {key: entry for key, entry in dict(entries).items() if not _same(entry, fresh)}
    return collections.defaultdict(factory, sorted(kept.items(), key=lambda item: str(item[0])))


def _same(entry: object, fresh: object) -> bool:
    """Compare two statistics by what they hold."""
    if type(entry) is not type(fresh):
        return False
    if not hasattr(fresh, "__dict__"):
        return bool(entry == fresh)
    ours, theirs = vars(entry), vars(fresh)
    return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in theirs)


class Reserved:
    """Counts the sizes (windows, buckets) that the compiled objects of one state are made with.

    A size is no length of anything that is there, and one that is too large ends the process instead of raising.
    """

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._total = 0

    def add(self, kind: type, arguments: Sequence[object]) -> None:
        """Count what one object is made with.

        Raises:
            CodecError: It is larger than a list may be, or all of them together are too large.
        """
        sizes = [int(each) for each in arguments if isinstance(each, int | np.integer)]
        self._total += sum(max(0, size) for size in sizes)
        if max(sizes, default=0) > self._caps.entries or self._total > self._caps.reserved:
            raise CodecError(
                f"a {kind.__qualname__} of size {max(sizes)} in the state; allowed are {self._caps.entries} each and "
                f"{self._caps.reserved} for all: choose a smaller window"
            )


def packer() -> Callable[[Any], bytes]:
    """Return what makes msgpack of values, one after the other, which hold encoded values only."""
    pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, unicode_errors="surrogatepass").pack
    return pack


def packed(value: Any) -> bytes:
    """Return `value`, which holds encoded values only, as msgpack."""
    return packer()(value)

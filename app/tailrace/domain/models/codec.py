"""State ↔ canonical bytes: equal states have equal bytes, so a SHA-256 of them is the state's digest.

A state is written as a flat table of nodes in breadth-first order, packed with msgpack:

    [version, fingerprint of the symbol table, layouts, root, [node, node, …]]

Immutable values (numbers, texts, tuples, frozen sets, classes, bound methods) stand in place and are equal when their
values are. Mutable ones are nodes, numbered by their first visit, so that shared objects stay shared. The order of
dicts is kept, since it steers sums of floats; sets are sorted by their encoded elements; attributes are sorted by name
and named once per layout (a class with the attributes that some of its instances have). NaN has one form, -0.0 differs
from 0.0, integers have any size.

Attributes that are no state are left out, and remade when a state is read (`codec_format.derived_attributes`).

What bytes may do is bounded. Classes and functions are numbers of a table made from code (`symbols`); objects come
into being without their constructors and get only attributes that their class is known to have; no method of a Python
class runs; sizes, counts and depths are capped; and what was read must encode to the very same bytes again. Whatever
is wrong is a `CodecError`, a panic inside River's compiled classes included. Neither direction recurses into objects,
so deep trees and long chains are no danger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tailrace.domain.errors import CodecError
from tailrace.domain.models.codec_format import CODEC_VERSION, Caps
from tailrace.domain.models.decoding import Decoder
from tailrace.domain.models.encoding import Encoder
from tailrace.domain.models.symbols import SymbolTable

__all__ = ["CODEC_VERSION", "Caps", "StateCodec"]


class StateCodec:
    """Encodes and decodes states that are made of the same classes as its skeletons."""

    def __init__(self, skeletons: Sequence[object], family: Iterable[object] = (), *, caps: Caps | None = None) -> None:
        """Make the codec's table of classes.

        Args:
            skeletons: Freshly built objects of the same spec as what will be encoded; they are only read.
            family: Further classes and functions that such objects hold while they learn (`catalog.family_of`).
            caps: Bounds on what is written and read.
        """
        self.table = SymbolTable(skeletons, family)
        self._caps = caps or Caps()

    def encode(self, state: object) -> bytes:
        """Return the canonical bytes of `state`, which is only read.

        Raises:
            CodecError: The state holds something that has no place in a state (a lambda, an open file, an object of
                a class outside the table), or exceeds a cap. The message names it and says what to do.
        """
        try:
            return Encoder(self.table, self._caps).encode(state)
        except CodecError:
            raise
        except Exception as cause:
            raise CodecError(
                f"the state cannot be written ({type(cause).__name__}); the model has come apart, build it anew from "
                "the log"
            ) from cause

    def decode(self, body: bytes) -> Any:
        """Return a new state that encodes to exactly `body`.

        Raises:
            CodecError: The bytes are cut, changed, foreign, too large, or not canonical.
        """
        if len(body) > self._caps.state_bytes:
            raise CodecError(f"a state of {len(body)} bytes; at most {self._caps.state_bytes} are read")
        try:
            state = Decoder(self.table, self._caps).decode(body)
            again = self.encode(state)
        except CodecError:
            raise
        except Exception as cause:
            raise CodecError(
                f"the bytes are not an encoded state ({type(cause).__name__}); use another snapshot"
            ) from cause
        if again != body:
            raise CodecError("the bytes are not in canonical form: this codec did not write them; use another snapshot")
        return state

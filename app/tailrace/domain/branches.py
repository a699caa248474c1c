"""Branches: one model's line of states, and what makes two of them the same.

A loop has any number of branches beside each other; one of them is the champion, which serves. A branch is defined
by what stands in `Branch`, and the hash of that definition is its *lineage*: two folds of one log by equal definitions
come to equal states, byte for byte. Nothing rewrites a branch: another model, another version of a library, a repair
without some examples is another branch, folded from a recorded start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Protocol

from tailrace.domain.categories import CategoriesState
from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.positions import Position, show
from tailrace.domain.snapshots import BRANCH_PART

CHAMPION: Final = "champion"
"""The name of the pointer to the branch that serves."""

MAX_DROPPED_IDS: Final = 10_000
"""Event ids that one filter may name; their hashes travel in the record that admits the branch."""

COMPILED: Final = "compiled"
"""Among the versions of a branch: that of the kernels which fold it, where they do instead of River."""

_CPU: Final = "cpu"  # among the versions of a branch alone; the loop's own part uses no BLAS
_PART_DIGITS: Final = 32  # of the lineage; a part's name has at most 64 characters


class Codec(Protocol):
    """State to canonical bytes and back."""

    def encode(self, state: Any, /) -> bytes:
        """Return canonical bytes."""

    def decode(self, body: bytes, /) -> Any:
        """Return the state that `encode` was given."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which examples a branch leaves out, and which it learns with a corrected target.

    An example in [start, end) is left out when its label came from one of `sources`; where there are none and a bound
    is given, everything between the bounds is. An example before `ids_to` is left out when its id is one of `ids`.

    Attributes:
        corrected_to: Corrections and withdrawals before this position of the log count; 0: none does.
        sources: Of labels.
        ids: `digest_of_ids` of the hashes of event ids; "": none. The hashes stand in the record that admits.
        start, end: Positions; the end is exclusive, None: for ever.
        ids_to: Exclusive. Ids are dropped up to a position only: later folds need not know them.
    """

    corrected_to: Position = 0
    sources: tuple[str, ...] = ()
    ids: str = ""
    start: Position = 0
    end: Position | None = None
    ids_to: Position = 0

    @property
    def has_bounds(self) -> bool:
        """Whether what is dropped by source, or altogether, lies between bounds."""
        return bool(self.start or self.end is not None)

    @property
    def reaches_to(self) -> Position:
        """Exclusive: nothing after this position decides what the branch learns of what lies before."""
        return max(self.corrected_to, self.ids_to)

    @property
    def drops(self) -> bool:
        """Whether any example is left out."""
        return bool(self.sources or self.ids or self.has_bounds)

    def may_name(self, position: Position) -> bool:
        """Return whether an event that stands here is left out when its id is one of `ids`."""
        return bool(self.ids) and position < self.ids_to

    def leaves_out(self, position: Position, source: str, is_named: Callable[[], bool]) -> bool:
        """Return whether an example is left out.

        Args:
            source: Of its label.
            is_named: Asked only where the answer counts: is its id one of `ids`?
        """
        if self.may_name(position) and is_named():
            return True
        if self.start > position or (self.end is not None and position >= self.end):
            return False
        return source in self.sources if self.sources else self.has_bounds

    def joined(self, more: Filter, ids: str) -> Filter | None:
        """Return the filter that leaves out and corrects what either of two does; None: no single one can.

        Args:
            ids: `digest_of_ids` of the ids of both.
        """
        one, other = self._region, more._region
        if one and other and one != other:
            is_of_sources_alone = bool(self.sources and more.sources)
            if one[1:] != other[1:] or not is_of_sources_alone:
                return None
        _, start, end = one or other or ((), 0, None)
        sources = tuple(sorted({*self.sources, *more.sources}))
        corrected_to, ids_to = max(self.corrected_to, more.corrected_to), max(self.ids_to, more.ids_to)
        return Filter(corrected_to, sources, ids, start, end, ids_to)

    def in_words(self) -> str:
        """Return what it does, for people; "" where it does nothing."""
        said = []
        if self.corrected_to:
            said.append(f"corrections up to {show(self.corrected_to)} applied")
        bounds = f" from {show(self.start)} {'on' if self.end is None else f'to {show(self.end)}'}"
        if self.sources:
            said.append(f"without labels of {', '.join(self.sources)}{bounds if self.has_bounds else ''}")
        elif self.has_bounds:
            said.append(f"without everything{bounds}")
        if self.ids:
            said.append(f"without named events before {show(self.ids_to)}")
        return "; ".join(said)

    @property
    def _region(self) -> tuple[tuple[str, ...], Position, Position | None] | None:
        """What it drops besides ids."""
        return (self.sources, self.start, self.end) if self.sources or self.has_bounds else None


@dataclass(frozen=True, slots=True)
class Branch:
    """The definition of a branch: everything besides the log that its states depend on.

    Attributes:
        task, model, experimental: As in `models.spec.ModelSpec`.
        contract_id: Of the feature contract and the targets.
        start: Examples before this position of the log are not learned.
        versions: Of fold, codec and libraries, e.g. "river" → "0.26.1"; "cpu" where its arithmetic depends on it,
            "compiled" where kernels of ours fold it instead of River.
    """

    task: str
    model: str
    experimental: bool
    contract_id: str
    versions: Mapping[str, str]
    start: Position = 0
    filter: Filter = field(default_factory=Filter)

    @property
    def is_compiled(self) -> bool:
        """Whether kernels of ours fold it instead of River."""
        return COMPILED in self.versions

    @property
    def text(self) -> str:
        """The canonical JSON: equal branches have equal texts."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def lineage(self) -> str:
        """SHA-256 of the text, 64 hex digits: the name of the branch."""
        return sha256(self.text.encode()).hexdigest()

    @classmethod
    def read(cls, text: str) -> Branch:
        """Read the canonical JSON.

        Raises:
            CodecError: It is not the text of a branch.
        """
        try:
            plain = json.loads(text)
            dropped = plain["filter"]
            branch = cls(**(plain | {"filter": Filter(**(dropped | {"sources": tuple(dropped["sources"])}))}))
            is_same = branch.text == text and _is_typed(branch)
        except (ValueError, TypeError, KeyError, RecursionError) as cause:
            raise CodecError("a branch has a definition that cannot be read; it is of another Tailrace") from cause
        if not is_same:
            raise CodecError("a branch has a definition that is not in canonical form; it is ignored")
        return branch


@dataclass(frozen=True, slots=True)
class Kit:
    """What folds one branch: its definition, a way to make its model, a codec of its states.

    Attributes:
        warm: Makes ready what the model runs; it may take seconds, once in a process.
    """

    branch: Branch
    build_model: Callable[[], Any]
    codec: Codec
    warm: Callable[[], None] = lambda: None


@dataclass(slots=True)
class BranchState:
    """A model and how much of the log it holds.

    Attributes:
        model: A River model; changed in place by the fold and by nothing else.
        lineage: Of its branch.
        position: Exclusive: the examples before it are in the model, or left out of it.
        learned: Examples that the model learned.
        skipped: Examples that were left out because the model raised at them.
        left_out: Examples before the branch's start, and those that its filter names.
        foreign: Examples recorded under another feature contract.
        categories: Which values of open categories the model knows.
    """

    model: Any
    lineage: str
    position: Position = 0
    learned: int = 0
    skipped: int = 0
    left_out: int = 0
    foreign: int = 0
    categories: CategoriesState = field(default_factory=CategoriesState)

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec; the model in it is the live one."""
        return {name: getattr(self, name) for name in _STATE_FIELDS} | {"categories": self.categories.dump()}

    @classmethod
    def load(cls, plain: Mapping[str, Any], lineage: str) -> BranchState:
        """Make a branch from its plain form.

        Raises:
            SnapshotRefused: The body was folded under another lineage than `lineage`.
        """
        if plain["lineage"] != lineage:
            raise SnapshotRefused(
                "lineage",
                f"the body is of lineage {plain['lineage']}, expected was {lineage}; model, contract or library "
                "versions differ. Restore the configuration that it was folded with, or fold the log from its start.",
            )
        categories = CategoriesState.load(plain["categories"])
        return cls(**{name: plain[name] for name in _STATE_FIELDS}, categories=categories)


def _is_typed(branch: Branch) -> bool:
    drop = branch.filter
    texts = (branch.task, branch.model, branch.contract_id, drop.ids, *drop.sources, *branch.versions.values())
    bounds = (drop.start, drop.ids_to, *(() if drop.end is None else (drop.end,)))
    positions = (branch.start, drop.corrected_to, *bounds)
    return (
        type(branch.experimental) is bool
        and all(type(text) is str for text in texts)
        and all(type(position) is int and position >= 0 for position in positions)
    )


_STATE_FIELDS: Final = ("model", "lineage", "position", "learned", "skipped", "left_out", "foreign")


def part_name(lineage: str) -> str:
    """Return the name of the part of a snapshot that holds this branch."""
    return f"{BRANCH_PART}{lineage[:_PART_DIGITS]}"


def differences(theirs: Branch, mine: Branch) -> list[str]:
    """Return in words what differs between two definitions; empty when nothing does."""
    found = [
        f"{name} {getattr(theirs, name)} there and {getattr(mine, name)} here"
        for name in ("task", "model", "experimental", "start", "filter")
        if getattr(theirs, name) != getattr(mine, name)
    ]
    if theirs.contract_id != mine.contract_id:
        found.append("other features or targets")
    names = sorted(theirs.versions.keys() | mine.versions.keys())
    return found + [
        f"{name} {theirs.versions.get(name, 'none')} there and {mine.versions.get(name, 'none')} here"
        for name in names
        if theirs.versions.get(name) != mine.versions.get(name)
    ]


def has_same_learner(one: Branch, other: Branch) -> bool:
    """Return whether one learner can fold both: their libraries and features are the same."""
    theirs, ours = (
        {name: version for name, version in branch.versions.items() if name not in {_CPU, COMPILED}}
        for branch in (one, other)
    )
    kernels = {branch.versions[COMPILED] for branch in (one, other) if branch.is_compiled}
    return theirs == ours and len(kernels) < 2 and one.contract_id == other.contract_id


def renewed(configured: Branch, serving: Branch | None) -> Branch:
    """Return the configured model as the branch that takes over from the one that serves.

    What that one leaves out or corrects, this one does too: a repair outlives another model and other libraries. The
    same model also starts where it did.
    """
    if serving is None:
        return configured
    start = serving.start if serving.model == configured.model else configured.start
    return replace(configured, filter=serving.filter, start=start)


def hash_of_id(event_id: str) -> str:
    """Return what a filter keeps of an event id: 16 hex digits of its SHA-256, so that the id itself can be erased."""
    return sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest_of_ids(hashes: Iterable[str]) -> str:
    """Return the digest of a set of hashed ids, whatever their order; "" of none."""
    ordered = sorted(set(hashes))
    return sha256("\n".join(ordered).encode()).hexdigest() if ordered else ""

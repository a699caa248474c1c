"""Manifests: what a snapshot is of, when one is due, and whether it may be loaded here.

A snapshot is only a cache of the fold at a position: nothing is lost when one is refused, an older one or the log
itself takes its place. Bytes, files and Kafka are other people's business; this module decides about them.

Invariant: a manifest and its canonical JSON are one thing. Equal manifests have equal bytes, and bytes that are
not canonical are refused, so that the digest of the JSON names the manifest. The JSON of somebody else is read only
after its signature was found good: until then it is `Sealed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

from tailrace.domain.errors import SnapshotRefused
from tailrace.domain.positions import Position, show

KEPT: Final = 16
"""Snapshots of one lineage that the index remembers."""

MAX_INLINE_BYTES: Final = 256 * 1024
"""Stored bytes of all parts together up to which they travel inside the index record."""

MAX_MANIFEST_BYTES: Final = 64 * 1024

MAX_PARTS: Final = 64

BRANCH_PART: Final = "branch."
"""How the names of those parts begin that hold a branch."""

PART_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}", re.ASCII)

REASONS_OF_SIGNATURES: Final = (
    *("trust_list", "unsigned", "unknown_key", "key_purpose", "revoked_key", "key_not_valid", "signature"),
)
"""Every reason for which what somebody signed may be refused, in the order in which they are looked for."""

REASONS: Final = (
    *("missing", "store", "not_a_file", "too_large", "magic", "format", "manifest"),
    *REASONS_OF_SIGNATURES,
    *("lineage", "loop", "log", "kind", "older", "replayed", "index", "length"),
    *("stored_digest", "compression", "digest", "codec", "position", "branch"),
    *("log_recreated", "log_truncated", "log_expired", "log_foreign"),
)
"""Every reason for which a snapshot may be refused, in the load order. They are stable: alerts are built on them."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY_ID: Final = re.compile(r"([0-9a-f]{16})?", re.ASCII)


class Kind(StrEnum):
    """What a manifest is for."""

    SNAPSHOT = "snapshot"  # all parts, for recovery
    PUBLICATION = "publication"  # the bodies of models, for serving
    BRANCH = "branch"  # one branch that was built beside, with the loop's own part


class Refusal(NamedTuple):
    """Why something may not be loaded: a stable name, and the same in words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Part:
    """One body of a snapshot, and how it is stored.

    Attributes:
        name: `[a-z][a-z0-9_.-]*`, e.g. "loop" or "champion".
        digest, size_bytes: SHA-256 (hex) and length of the uncompressed body, which is the canonical one.
        stored_digest, stored_bytes: The same of the bytes in the file. They differ from the body's when the part
            is compressed with zlib.
    """

    name: str
    digest: str
    size_bytes: int
    stored_digest: str
    stored_bytes: int

    @classmethod
    def of(cls, name: str, body: bytes, stored: bytes | None = None) -> Part:
        """Describe a body; `stored` is its compressed form, if it is stored so."""
        digest = digest_of(body)
        if stored is None:
            return cls(name, digest, len(body), digest, len(body))
        return cls(name, digest, len(body), digest_of(stored), len(stored))

    @property
    def is_compressed(self) -> bool:
        """Whether the stored bytes are the zlib form of the body."""
        return self.stored_digest != self.digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is of, and of which parts it consists.

    Attributes:
        lineage: Hash of everything that must be equal for two folds to be equal.
        log_id: The name of the training log, given by its first claim.
        number: Of this kind in this lineage, from 1.
        position: Exclusive; everything before it is in the state.
        last_block_offset, last_block_digest: The last record of the log that was read into the state, of whatever
            kind, and `digest_of` its value. None at the start of the log.
        parts: In the order in which they are stored.
        state_digest: The digest of the state, as the fold computes it.
        previous_digest: `digest` of the manifest of this kind before it; None for the first.
        counters: Of the books, at this position.
        versions: fold, codec, river, numpy, python …: what to name when the lineage differs.
        created_at_ms: The writer's clock. Informative; nothing is decided by it, least of all whether a key was valid.
        store_path: Where the file lies in the store; None when the parts are inline only.
        key_id: Of the key that signs; "" while it is not signed.
        inline: Part name → stored bytes. Travels beside the canonical JSON, as do the next two, and is no part of it.
        signature: Over the canonical JSON; b"" while it is not signed.
        indexed_at_ms: The broker's time of the index record: the time at which the key must have been valid.
    """

    lineage: str
    loop: str
    log_id: str
    kind: Kind
    number: int
    position: Position
    last_block_offset: int | None
    last_block_digest: str | None
    parts: tuple[Part, ...]
    state_digest: str
    previous_digest: str | None
    counters: Mapping[str, int]
    versions: Mapping[str, str]
    created_at_ms: int
    store_path: str | None = None
    key_id: str = ""
    inline: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    signature: bytes = field(default=b"", compare=False, repr=False)
    indexed_at_ms: int | None = field(default=None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the name of this manifest."""
        return digest_of(canonical_json(self))

    @property
    def stored_bytes(self) -> int:
        """Of all parts together, as they are stored."""
        return sum(part.stored_bytes for part in self.parts)


class Sealed(NamedTuple):
    """A manifest as it travels: bytes that nobody reads before the signature over them was found good.

    Attributes:
        key_id: Who is said to have signed; "": nobody.
        content: What is said to be a manifest's canonical JSON.
        inline: Part name → stored bytes, where they travel with it.
    """

    key_id: str
    content: bytes
    signature: bytes
    inline: Mapping[str, bytes]


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 hex digits."""
    return sha256(content).hexdigest()


def canonical_json(manifest: Manifest) -> bytes:
    """Return the one JSON form of a manifest: ASCII, sorted keys, no spaces, no floats; inline parts left out."""
    plain: dict[str, object] = {name: getattr(manifest, name) for name in _PLAIN_FIELDS}
    plain["parts"] = [{name: getattr(part, name) for name in _PART_FIELDS} for part in manifest.parts]
    plain["counters"], plain["versions"] = dict(manifest.counters), dict(manifest.versions)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def manifest_of(content: bytes) -> Manifest:
    """Read canonical JSON.

    Raises:
        SnapshotRefused: reason "manifest": it is too long, not JSON, not a manifest, or not in canonical form.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise _not_a_manifest(f"has {len(content)} bytes, allowed are {MAX_MANIFEST_BYTES}")
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise _not_a_manifest("is not JSON") from cause
    problem = _problem_of(plain)
    if problem is not None:
        raise _not_a_manifest(problem)
    parts = tuple(Part(**part) for part in plain.pop("parts"))
    manifest = Manifest(**(plain | {"kind": Kind(plain["kind"]), "parts": parts}))
    if canonical_json(manifest) != content:
        raise _not_a_manifest("is not in canonical form")
    return manifest


def index_key(manifest: Manifest) -> str:
    """Return the key in `<loop>.snapshots`: one lineage keeps 16 snapshots, one publication, one state a branch."""
    if manifest.kind is Kind.BRANCH:
        slot = next((part.name for part in manifest.parts if part.name.startswith(BRANCH_PART)), "branch")
    else:
        slot = "serving" if manifest.kind is Kind.PUBLICATION else str(manifest.number % KEPT)
    return f"{manifest.lineage}/{slot}"


def only_branch_of(manifest: Manifest) -> str:
    """Return how the lineage of the only branch in a snapshot begins; "" where there are several or none."""
    names = [part.name.removeprefix(BRANCH_PART) for part in manifest.parts if part.name.startswith(BRANCH_PART)]
    return names[0] if len(names) == 1 else ""


def newest_first(manifests: Iterable[Manifest], lineage: str, kind: Kind = Kind.SNAPSHOT) -> list[Manifest]:
    """Return the manifests of one lineage and kind, in the order in which to try them."""
    mine = (manifest for manifest in manifests if manifest.lineage == lineage and manifest.kind is kind)
    return sorted(mine, key=lambda manifest: (manifest.position, manifest.number), reverse=True)


def next_number(manifests: Iterable[Manifest], lineage: str, kind: Kind = Kind.SNAPSHOT) -> int:
    """Return the number for the next manifest of this lineage and kind, given all that the index holds."""
    mine = (manifest.number for manifest in manifests if manifest.lineage == lineage and manifest.kind is kind)
    return max(mine, default=0) + 1


def replaced_by(new: Manifest, manifests: Iterable[Manifest]) -> Manifest | None:
    """Return the manifest that the index forgets when `new` is written; its file may then be deleted."""
    key = index_key(new)
    return next((old for old in manifests if index_key(old) == key and old.digest != new.digest), None)


def may_load(
    manifest: Manifest,
    lineage: str,
    *,
    log_id: str = "",
    kind: Kind | None = None,
    versions: Mapping[str, str] | None = None,
    not_below: Position = 0,
) -> Refusal | None:
    """Say whether a snapshot may be loaded by a process whose configuration has this lineage.

    Args:
        log_id: Of the log that will be folded; "" when it is not known yet.
        kind: What it must be: a learner needs SNAPSHOT; None takes either.
        versions: Of this process, to name what differs when the lineage does.
        not_below: A server never goes below the highest position that it has seen.
    """
    name = f"{manifest.kind} {manifest.number} at {show(manifest.position)}"
    if manifest.lineage != lineage:
        lineages = f"of lineage {manifest.lineage[:12]}, this model is {lineage[:12]}"
        differs = _differences(manifest.versions, versions or {})
        return Refusal("lineage", f"{name} is {lineages}{differs}; the log is folded again")
    if log_id and manifest.log_id != log_id:
        return Refusal("log", f"{name} was folded from the log {manifest.log_id}, this log is {log_id}")
    if kind is not None and manifest.kind is not kind:
        return Refusal("kind", f"{name} cannot stand in for a {kind}")
    if manifest.position < not_below:
        return Refusal("older", f"{name} is older than the state in use, at {show(not_below)}; it is ignored")
    return None


def replayed(manifest: Manifest, highest: Position) -> Refusal | None:
    """Say whether an index record brings back what was replaced long ago.

    A learner writes its manifests of one kind at positions that never go down, and the index keeps their order: one
    below the highest before it was put there by somebody else, or by a learner that had lost the log.

    Args:
        highest: Position of the newest manifest of this kind and lineage that the index held before this one.
    """
    if manifest.position >= highest:
        return None
    name = f"{manifest.kind} {manifest.number} at {show(manifest.position)}"
    return Refusal("replayed", f"{name} came into the index after one at {show(highest)}; it is ignored")


def check_last_block(manifest: Manifest, *, log_id: str, start: int, end: int, value: bytes | None) -> Refusal | None:
    """Say whether the log still holds what the snapshot was folded from.

    Args:
        log_id: Name of the log as its first claim gives it; "" when it has none or it is not known.
        start, end: First offset still there, and one past the last.
        value: What was read again at `last_block_offset`; None when nothing was found there.
    """
    offset = manifest.last_block_offset
    if offset is None:
        return None
    if value is not None and digest_of(value) == manifest.last_block_digest:
        return None
    found = f"the log holds offsets {start} to {end}, the snapshot was folded up to offset {offset}"
    if log_id and log_id != manifest.log_id:
        return Refusal("log_recreated", f"{found} of the log {manifest.log_id}; this is the log {log_id}. {_NEXT_STEP}")
    if end <= offset:
        return Refusal("log_truncated", f"{found}; its end is gone. {_NEXT_STEP}")
    if offset < start:
        return Refusal("log_expired", f"{found}; retention has deleted that part. A newer snapshot is needed.")
    return Refusal("log_foreign", f"{found}; another record stands there now. {_NEXT_STEP}")


@dataclass(slots=True)
class SnapshotSchedule:
    """When the next snapshot is due: every so often, and only if the position has moved.

    Attributes:
        every_ms: The shortest time between two.
        last_ms: When the last one was begun, or when the process began, on a clock that never goes back.
        last_position: At which the last one was taken or restored.
    """

    every_ms: int
    last_ms: int
    last_position: Position = 0

    def due(self, now_ms: int, position: Position) -> bool:
        """Return whether a snapshot at this position should be begun now."""
        return position > self.last_position and now_ms - self.last_ms >= self.every_ms

    def taken(self, now_ms: int, position: Position) -> None:
        """Say that one was begun at this position. A failed one counts: it is tried again an interval later."""
        self.last_ms, self.last_position = now_ms, position


_NEXT_STEP: Final = "Restore the topic, or start over with another loop name; the snapshot alone cannot be continued."

_PART_FIELDS: Final = tuple(member.name for member in fields(Part))
_PLAIN_FIELDS: Final = tuple(
    each.name for each in fields(Manifest) if each.compare and each.name not in {"parts", "counters", "versions"}
)
_TEXTS: Final = ("lineage", "loop", "log_id")
_COUNTS: Final = ("number", "position", "created_at_ms")
_DIGESTS: Final = ("state_digest",)


def _not_a_manifest(problem: str) -> SnapshotRefused:
    return SnapshotRefused("manifest", f"the manifest {problem}; the snapshot is ignored")


def _differences(theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    named = sorted(name for name in theirs.keys() & mine.keys() if theirs[name] != mine[name])
    return "".join(f", {name} {theirs[name]} there and {mine[name]} here" for name in named)


def _problem_of(plain: Any) -> str | None:
    if not isinstance(plain, dict) or plain.keys() != {*_PLAIN_FIELDS, "parts", "counters", "versions"}:
        return "does not have the fields of a manifest"
    wrong = [name for name in _TEXTS if not isinstance(plain[name], str)]
    wrong += [name for name in _COUNTS if not _is_count(plain[name])]
    wrong += [name for name in _DIGESTS if not _is_digest(plain[name])]
    wrong += [name for name, allowed in _OTHERS.items() if not allowed(plain[name])]
    if wrong:
        return f"has something of another type in {', '.join(sorted(wrong))}"
    if (plain["last_block_offset"] is None) != (plain["last_block_digest"] is None):
        return "names the offset of its last block without the digest, or the digest without the offset"
    parts: list[Any] = plain["parts"]
    if len(parts) > MAX_PARTS:
        return f"has {len(parts)} parts, allowed are {MAX_PARTS}"
    problem = next((problem for part in parts if (problem := _problem_of_part(part)) is not None), None)
    if problem is None and len({part["name"] for part in parts}) < len(parts):
        return "names a part twice"
    return problem


def _problem_of_part(part: Any) -> str | None:
    if not isinstance(part, dict) or part.keys() != {*_PART_FIELDS}:
        return "has a part without the fields of one"
    if not isinstance(part["name"], str) or not PART_NAME.fullmatch(part["name"]):
        return "has a part with an unusable name"
    if not _is_count(part["size_bytes"]) or not _is_count(part["stored_bytes"]):
        return "has a part with an unusable size"
    if not _is_digest(part["digest"]) or not _is_digest(part["stored_digest"]):
        return "has a part with an unusable digest"
    if part["digest"] == part["stored_digest"] and part["size_bytes"] != part["stored_bytes"]:
        return "has a part with one digest and two sizes"
    return None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_map_of(values: type) -> Any:
    def allowed(plain: object) -> bool:
        return isinstance(plain, dict) and all(type(value) is values for value in plain.values())

    return allowed


_OTHERS: Final[dict[str, Any]] = {
    "kind": lambda value: value in list(Kind),  # a list, since what is compared may have no hash
    "last_block_offset": lambda value: value is None or _is_count(value),
    "last_block_digest": lambda value: value is None or _is_digest(value),
    "previous_digest": lambda value: value is None or _is_digest(value),
    "store_path": lambda value: value is None or isinstance(value, str),
    "key_id": lambda value: isinstance(value, str) and _KEY_ID.fullmatch(value) is not None,
    "parts": lambda value: isinstance(value, list),
    "counters": _is_map_of(int),
    "versions": _is_map_of(str),
}

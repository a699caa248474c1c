r"""The snapshot file: one manifest and its parts as one run of bytes.

    magic "TAILRACE\0" · format version, u16 · manifest length, u32 · SHA-256 of the manifest
    manifest, canonical JSON · parts, in its order

Integers are big-endian. A part is stored as it is or as its zlib form; the manifest tells sizes and digests of both,
so the digest of stored bytes is checked before zlib sees them, and the body can never come out larger than announced.

The load order, numbered as the code repeats it; each step refuses with its own reason:
    1. too_large      more bytes than a snapshot may have
    2. magic, format  not a snapshot, or of a format that this version does not read
    3. manifest       longer than 64 kB, cut, damaged, not canonical
    4. lineage, …     not for the one who asks (`snapshots.may_load`)
    5. index          not what the index in Kafka says
    6. length         bytes are missing or left over
    7. stored_digest  the stored bytes of a part are not those of the manifest
    8. compression    a part does not decompress to exactly the announced size
    9. digest         the body of a part is not that of the manifest
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from tailrace.domain.errors import ContractError, SnapshotRefused
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import (
    MAX_INLINE_BYTES,
    MAX_MANIFEST_BYTES,
    Kind,
    Manifest,
    Part,
    canonical_json,
    digest_of,
    manifest_of,
    may_load,
)

MAGIC: Final = b"TAILRACE\0"
FORMAT_VERSION: Final = 1
MAX_FILE_BYTES: Final = 1 << 30
MAX_BODY_BYTES: Final = 1 << 30
"""Of all uncompressed bodies of one snapshot together."""

_HEAD: Final = struct.Struct(">9sHI32s")
_FASTEST: Final = 1
_MIN_COMPRESSED_BYTES: Final = 1_024
"""Smaller bodies are stored as they are: they gain nothing."""


class Packed(NamedTuple):
    """Bodies, ready to be described by a manifest and to be stored.

    Attributes:
        parts: For the manifest.
        stored: Part name → stored bytes; `Manifest.inline` when they are small enough.
    """

    parts: tuple[Part, ...]
    stored: Mapping[str, bytes]

    @property
    def fits_inline(self) -> bool:
        """Whether all parts together may travel inside the index record."""
        return sum(map(len, self.stored.values())) <= MAX_INLINE_BYTES


class Snapshot(NamedTuple):
    """What was read: the manifest, and part name → uncompressed body."""

    manifest: Manifest
    bodies: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reader of a snapshot will accept.

    Attributes:
        lineage, log_id, kind, versions, not_below: As in `snapshots.may_load`.
        index: The manifest as the index in Kafka holds it; None: there is none to compare with.
        max_file_bytes, max_body_bytes: Caps on what is read and on what it may decompress to.
    """

    lineage: str
    log_id: str = ""
    kind: Kind | None = None
    versions: Mapping[str, str] | None = None
    not_below: Position = 0
    index: Manifest | None = None
    max_file_bytes: int = MAX_FILE_BYTES
    max_body_bytes: int = MAX_BODY_BYTES


def pack(bodies: Mapping[str, bytes], *, compress: bool = False) -> Packed:
    """Describe bodies, in the order of the mapping, and compress those that gain by it."""
    parts, stored = [], {}
    for name, body in bodies.items():
        smaller = zlib.compress(body, _FASTEST) if compress and len(body) >= _MIN_COMPRESSED_BYTES else body
        if len(smaller) < len(body):
            parts.append(Part.of(name, body, smaller))
            stored[name] = smaller
        else:
            parts.append(Part.of(name, body))
            stored[name] = body
    return Packed(tuple(parts), stored)


def write(manifest: Manifest, stored: Mapping[str, bytes]) -> bytes:
    """Return the file.

    Raises:
        ContractError: The stored bytes are not those that the manifest describes, or the manifest is too long.
    """
    head = canonical_json(manifest)
    if len(head) > MAX_MANIFEST_BYTES:
        raise ContractError(f"the manifest has {len(head)} bytes, allowed are {MAX_MANIFEST_BYTES}")
    described = {part.name: part.stored_bytes for part in manifest.parts}
    if described != {name: len(content) for name, content in stored.items()}:
        raise ContractError("the manifest describes other parts than those given; use the parts that pack() returned")
    body = b"".join(stored[part.name] for part in manifest.parts)
    return _HEAD.pack(MAGIC, FORMAT_VERSION, len(head), sha256(head).digest()) + head + body


def read(content: bytes, expected: Expected) -> Snapshot:
    """Read a file, in the load order.

    Raises:
        SnapshotRefused: One step refused; `reason` names it.
    """
    if len(content) > expected.max_file_bytes:  # 1
        raise SnapshotRefused(
            "too_large", f"the snapshot has {len(content)} bytes, allowed are {expected.max_file_bytes}"
        )
    manifest, begin = _manifest_at_front(content)  # 2, 3
    _check_welcome(manifest, expected)  # 4, 5
    if len(content) != begin + manifest.stored_bytes:  # 6
        raise SnapshotRefused(
            "length", f"the parts have {len(content) - begin} bytes, announced are {manifest.stored_bytes}"
        )
    stored = {}
    for part in manifest.parts:
        stored[part.name] = content[begin : begin + part.stored_bytes]
        begin += part.stored_bytes
    return Snapshot(manifest, _bodies(manifest, stored, expected.max_body_bytes))


def read_inline(manifest: Manifest, expected: Expected) -> Snapshot:
    """Read the parts that travelled with an index record, in the same order, without the steps of a file.

    Raises:
        SnapshotRefused: One step refused; `reason` names it.
    """
    size_bytes = sum(map(len, manifest.inline.values()))
    if size_bytes > MAX_INLINE_BYTES:  # 1
        raise SnapshotRefused("too_large", f"inline parts have {size_bytes} bytes, allowed are {MAX_INLINE_BYTES}")
    _check_welcome(manifest, expected)  # 4, 5
    announced = {part.name: part.stored_bytes for part in manifest.parts}
    if announced != {name: len(content) for name, content in manifest.inline.items()}:  # 6
        raise SnapshotRefused("length", "the inline parts are not those that the manifest announces")
    return Snapshot(manifest, _bodies(manifest, manifest.inline, expected.max_body_bytes))


def _manifest_at_front(content: bytes) -> tuple[Manifest, int]:
    if len(content) < _HEAD.size:
        raise SnapshotRefused("magic", f"{len(content)} bytes are too few for a snapshot")
    magic, version, length, digest = _HEAD.unpack_from(content)
    if magic != MAGIC:
        raise SnapshotRefused("magic", "these bytes do not begin like a snapshot")
    if version != FORMAT_VERSION:
        raise SnapshotRefused("format", f"the snapshot has format {version}, this version reads {FORMAT_VERSION}")
    begin = _HEAD.size + length
    if length > MAX_MANIFEST_BYTES or begin > len(content):
        raise SnapshotRefused(
            "manifest",
            f"the manifest is said to have {length} bytes, allowed are {MAX_MANIFEST_BYTES}, {len(content)} are there",
        )
    head = content[_HEAD.size : begin]
    if sha256(head).digest() != digest:
        raise SnapshotRefused("manifest", "the manifest is damaged; the snapshot is ignored")
    return manifest_of(head), begin


def _check_welcome(manifest: Manifest, expected: Expected) -> None:
    refusal = may_load(
        manifest,
        expected.lineage,
        log_id=expected.log_id,
        kind=expected.kind,
        versions=expected.versions,
        not_below=expected.not_below,
    )
    if refusal is not None:
        raise SnapshotRefused(*refusal)
    if expected.index is not None and expected.index.digest != manifest.digest:
        raise SnapshotRefused(
            "index", f"the index names {expected.index.digest[:12]} as number {expected.index.number}, "
            f"found was {manifest.digest[:12]} as number {manifest.number}"
        )  # fmt: skip


def _bodies(manifest: Manifest, stored: Mapping[str, bytes], max_body_bytes: int) -> dict[str, bytes]:
    size_bytes = sum(part.size_bytes for part in manifest.parts)
    if size_bytes > max_body_bytes:
        raise SnapshotRefused("too_large", f"the bodies have {size_bytes} bytes, allowed are {max_body_bytes}")
    return {part.name: _body_of(part, stored[part.name]) for part in manifest.parts}


def _body_of(part: Part, stored: bytes) -> bytes:
    if digest_of(stored) != part.stored_digest:  # 7
        raise SnapshotRefused("stored_digest", f"the stored bytes of part {part.name} are damaged")
    if not part.is_compressed:
        return stored
    body = _decompressed(part, stored)  # 8
    if digest_of(body) != part.digest:  # 9
        raise SnapshotRefused("digest", f"the body of part {part.name} is not the one that the manifest names")
    return body


def _decompressed(part: Part, stored: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(stored, part.size_bytes + 1)
    except zlib.error as cause:
        raise SnapshotRefused("compression", f"part {part.name} does not decompress: it is damaged") from cause
    if len(body) != part.size_bytes or not inflater.eof or inflater.unused_data:
        raise SnapshotRefused("compression", f"part {part.name} does not decompress to {part.size_bytes} bytes exactly")
    return body

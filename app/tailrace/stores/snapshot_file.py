r"""The snapshot file: one manifest and its parts as one run of bytes.

    magic "TAILRACE\0" · format version, u16 · manifest length, u32 · key id, 8 bytes
    manifest, canonical JSON · Ed25519 signature, 64 bytes, over a fixed prefix and the manifest · parts, in its order

Integers are big-endian. A key id of zeros: not signed. A part is stored as it is or as its zlib form; the manifest
tells sizes and digests of both, so the digest of stored bytes is checked before zlib sees them, and the body can
never come out larger than announced.

The load order, numbered as the code repeats it; each step refuses with its own reason, and nothing of what a later
step looks at is read before:
    1. too_large      more bytes than a snapshot, or this snapshot, may have
    2. magic, format  not a snapshot, or of a format that this version does not read
    3. manifest       longer than 64 kB, or cut
    4. unsigned, …    no trusted key has signed the manifest (`signing.TrustList.verify`)
    5. manifest       signed, and yet not canonical: a newer Tailrace wrote it
    6. lineage, …     not for the one who asks (`snapshots.may_load`)
    7. index          not what the index in Kafka says
    8. length         bytes are missing or left over
    9. stored_digest  the stored bytes of a part are not those of the manifest
   10. compression    a part does not decompress to exactly the announced size, or is said to grow beyond all reason
   11. digest         the body of a part is not that of the manifest
The codec then reads the bodies under caps of its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

from tailrace.domain.errors import ContractError, SnapshotRefused
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import (
    MAX_INLINE_BYTES,
    MAX_MANIFEST_BYTES,
    Kind,
    Manifest,
    Part,
    Sealed,
    canonical_json,
    manifest_of,
    may_load,
)
from tailrace.stores.signing import KEY_ID_BYTES, SIGNATURE_BYTES, Purpose, SigningKey, TrustList

MAGIC: Final = b"TAILRACE\0"
FORMAT_VERSION: Final = 2
MAX_FILE_BYTES: Final = 1 << 30
MAX_BODY_BYTES: Final = 1 << 30
"""Of all uncompressed bodies of one snapshot together."""

MAX_GROWTH: Final = 200
"""A part that decompresses to more than so many times its stored size is stored as it is, and never read so."""

_HEAD: Final = struct.Struct(f">9sHI{KEY_ID_BYTES}s")
_UNSIGNED: Final = bytes(KEY_ID_BYTES)
_CHUNK_BYTES: Final = 64 * 1024
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
        trust: The keys whose signatures count here.
        at_ms: When the snapshot came to be known, by the broker's clock or ours; the key must have been valid then.
        lineage, log_id, kind, versions, not_below: As in `snapshots.may_load`.
        index: The manifest as the index in Kafka holds it; None: there is none to compare with.
        max_file_bytes, max_body_bytes: Caps on what is read and on what it may decompress to.
    """

    lineage: str
    trust: TrustList
    at_ms: int
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
        if len(smaller) < len(body) <= MAX_GROWTH * len(smaller):
            parts.append(Part.of(name, body, smaller))
            stored[name] = smaller
        else:
            parts.append(Part.of(name, body))
            stored[name] = body
    return Packed(tuple(parts), stored)


def signed(manifest: Manifest, key: SigningKey) -> Manifest:
    """Return the manifest with this key's id and signature; from here on nothing in it may change.

    Raises:
        ContractError: The key signs something else than snapshots, or the manifest is too long.
    """
    if key.purpose is not Purpose.SNAPSHOTS:
        raise ContractError(f"key {key.key_id} signs {key.purpose}, not snapshots; use the learner's key")
    manifest = replace(manifest, key_id=key.key_id)
    content = canonical_json(manifest)
    if len(content) > MAX_MANIFEST_BYTES:
        raise ContractError(f"the manifest has {len(content)} bytes, allowed are {MAX_MANIFEST_BYTES}")
    return replace(manifest, signature=key.sign(content))


def seal(manifest: Manifest) -> Sealed:
    """Return a manifest as it travels in the index, inline parts included."""
    return Sealed(manifest.key_id, canonical_json(manifest), manifest.signature, manifest.inline)


def unseal(sealed: Sealed, trust: TrustList, at_ms: int) -> Manifest:
    """Verify who signed, then read what was signed: steps 3 to 5.

    Raises:
        SnapshotRefused: No trusted key has signed it, or what was signed is no manifest.
    """
    if len(sealed.content) > MAX_MANIFEST_BYTES:  # 3
        message = f"the manifest has {len(sealed.content)} bytes, allowed are {MAX_MANIFEST_BYTES}; it is ignored"
        raise SnapshotRefused("manifest", message)
    refusal = trust.verify(Purpose.SNAPSHOTS, sealed.key_id, sealed.content, sealed.signature, at_ms)  # 4
    if refusal is not None:
        raise SnapshotRefused(refusal.reason, f"the snapshot is refused: {refusal.message}")
    manifest = manifest_of(sealed.content)  # 5
    if manifest.key_id != sealed.key_id:
        message = f"the manifest names key {manifest.key_id or 'none'}, it was signed by {sealed.key_id}; it is ignored"
        raise SnapshotRefused("manifest", message)
    return replace(manifest, inline=sealed.inline, signature=sealed.signature, indexed_at_ms=at_ms)


def file_bytes(manifest: Manifest) -> int:
    """Return how large the file of this manifest is, to the byte."""
    return _HEAD.size + len(canonical_json(manifest)) + SIGNATURE_BYTES + manifest.stored_bytes


def write(manifest: Manifest, stored: Mapping[str, bytes]) -> bytes:
    """Return the file of a manifest that is signed.

    Raises:
        ContractError: The stored bytes are not those that the manifest describes, or it is not signed.
    """
    if len(manifest.signature) != SIGNATURE_BYTES:
        raise ContractError("the manifest is not signed; use signed() first")
    described = {part.name: part.stored_bytes for part in manifest.parts}
    if described != {name: len(content) for name, content in stored.items()}:
        raise ContractError("the manifest describes other parts than those given; use the parts that pack() returned")
    content = canonical_json(manifest)
    head = _HEAD.pack(MAGIC, FORMAT_VERSION, len(content), bytes.fromhex(manifest.key_id))
    return b"".join((head, content, manifest.signature, *(stored[part.name] for part in manifest.parts)))


def file_of_inline(manifest: Manifest) -> bytes:
    """Return the file of a manifest whose parts travelled with its index record; no signature covers these there.

    Raises:
        SnapshotRefused: reason "length": the parts are not those that the manifest announces.
    """
    try:
        return write(manifest, manifest.inline)
    except ContractError as cause:
        raise SnapshotRefused("length", "the inline parts are not those that the manifest announces") from cause


def read(content: bytes, expected: Expected) -> Snapshot:
    """Read a file, in the load order.

    Raises:
        SnapshotRefused: One step refused; `reason` names it.
    """
    if len(content) > expected.max_file_bytes:  # 1
        raise SnapshotRefused(
            "too_large", f"the snapshot has {len(content)} bytes, allowed are {expected.max_file_bytes}"
        )
    sealed, begin = _front(content)  # 2, 3
    manifest = unseal(sealed, expected.trust, expected.at_ms)  # 4, 5
    _check_welcome(manifest, expected)  # 6, 7
    if len(content) != begin + manifest.stored_bytes:  # 8
        raise SnapshotRefused(
            "length", f"the parts have {len(content) - begin} bytes, announced are {manifest.stored_bytes}"
        )
    stored, view = {}, memoryview(content)
    for part in manifest.parts:
        stored[part.name] = view[begin : begin + part.stored_bytes]
        begin += part.stored_bytes
    return Snapshot(manifest, _bodies(manifest, stored, expected.max_body_bytes))


def read_inline(manifest: Manifest, expected: Expected) -> Snapshot:
    """Read the parts that travelled with an index record, in the same order, without the steps of a file.

    The signature is verified again: since the record was read, its key may have been revoked.

    Raises:
        SnapshotRefused: One step refused; `reason` names it.
    """
    size_bytes = sum(map(len, manifest.inline.values()))
    if size_bytes > MAX_INLINE_BYTES:  # 1
        raise SnapshotRefused("too_large", f"inline parts have {size_bytes} bytes, allowed are {MAX_INLINE_BYTES}")
    manifest = unseal(seal(manifest), expected.trust, expected.at_ms)  # 3, 4, 5
    _check_welcome(manifest, expected)  # 6, 7
    announced = {part.name: part.stored_bytes for part in manifest.parts}
    if announced != {name: len(content) for name, content in manifest.inline.items()}:  # 8
        raise SnapshotRefused("length", "the inline parts are not those that the manifest announces")
    stored = {name: memoryview(content) for name, content in manifest.inline.items()}
    return Snapshot(manifest, _bodies(manifest, stored, expected.max_body_bytes))


def _front(content: bytes) -> tuple[Sealed, int]:
    """Cut off what stands before the parts; nothing is read but sizes and the key's id."""
    if len(content) < _HEAD.size:
        raise SnapshotRefused("magic", f"{len(content)} bytes are too few for a snapshot")
    magic, version, length, key_id = _HEAD.unpack_from(content)
    if magic != MAGIC:
        raise SnapshotRefused("magic", "these bytes do not begin like a snapshot")
    if version != FORMAT_VERSION:
        raise SnapshotRefused("format", f"the snapshot has format {version}, this version reads {FORMAT_VERSION}")
    begin = _HEAD.size + length + SIGNATURE_BYTES
    if length > MAX_MANIFEST_BYTES or begin > len(content):
        raise SnapshotRefused(
            "manifest",
            f"the manifest is said to have {length} bytes, allowed are {MAX_MANIFEST_BYTES}, {len(content)} are there",
        )
    manifest, signature = content[_HEAD.size : begin - SIGNATURE_BYTES], content[begin - SIGNATURE_BYTES : begin]
    return Sealed("" if key_id == _UNSIGNED else key_id.hex(), manifest, signature, {}), begin


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


def _bodies(manifest: Manifest, stored: Mapping[str, memoryview], max_body_bytes: int) -> dict[str, bytes]:
    size_bytes = sum(part.size_bytes for part in manifest.parts)
    if size_bytes > max_body_bytes:
        raise SnapshotRefused("too_large", f"the bodies have {size_bytes} bytes, allowed are {max_body_bytes}")
    for part in manifest.parts:  # all of them before the first is decompressed
        if sha256(stored[part.name]).hexdigest() != part.stored_digest:  # 9
            raise SnapshotRefused("stored_digest", f"the stored bytes of part {part.name} are damaged")
    return {part.name: _body_of(part, stored[part.name]) for part in manifest.parts}


def _body_of(part: Part, stored: memoryview) -> bytes:
    if not part.is_compressed:
        return bytes(stored)
    if part.size_bytes > MAX_GROWTH * part.stored_bytes:  # 10
        sizes = f"from {part.stored_bytes} to {part.size_bytes} bytes"
        raise SnapshotRefused("compression", f"part {part.name} is said to grow {sizes}, which none does")
    # Twice: first it is only looked at, piece by piece, so that what is refused has taken no memory.
    found = sha256()
    for piece in _decompressed(part, stored):
        found.update(piece)
    if found.hexdigest() != part.digest:  # 11
        raise SnapshotRefused("digest", f"the body of part {part.name} is not the one that the manifest names")
    return b"".join(_decompressed(part, stored))


def _decompressed(part: Part, stored: memoryview) -> Iterator[bytes]:
    """Yield the body piece by piece; refuse as soon as it is longer than announced."""
    inflater, size_bytes = zlib.decompressobj(), 0
    try:
        for piece in _pieces(inflater, stored):
            size_bytes += len(piece)
            if size_bytes > part.size_bytes:
                break
            yield piece
    except zlib.error as cause:
        raise SnapshotRefused("compression", f"part {part.name} does not decompress: it is damaged") from cause
    if size_bytes != part.size_bytes or not inflater.eof or inflater.unused_data:
        raise SnapshotRefused("compression", f"part {part.name} does not decompress to {part.size_bytes} bytes exactly")


def _pieces(inflater: Any, stored: memoryview) -> Iterator[bytes]:
    # Given in small pieces: zlib copies what it has not yet consumed at every call.
    for begin in range(0, len(stored), _CHUNK_BYTES):
        rest = stored[begin : begin + _CHUNK_BYTES]
        while rest:
            yield inflater.decompress(rest, _CHUNK_BYTES)
            rest = inflater.unconsumed_tail
    while not inflater.eof and (piece := inflater.decompress(b"", _CHUNK_BYTES)):
        yield piece

"""The index of snapshots in `<loop>.snapshots`, and the bodies behind it.

The index, not the store's listing, says what exists. A snapshot exists once its manifest is acknowledged there;
its file is complete before that.

Nothing of an index record is read before a trusted key was found to have signed it. What was replaced does not come
back: neither a record that is older than the index has seen, nor a file that is not the one that the index names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final

import structlog

from tailrace.domain.errors import CodecError, SnapshotRefused, TailraceError
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import (
    MAX_INLINE_BYTES,
    MAX_MANIFEST_BYTES,
    Kind,
    Manifest,
    Refusal,
    index_key,
    newest_first,
    replaced_by,
    replayed,
)
from tailrace.stores import snapshot_file
from tailrace.stores.key_folder import Signer, TrustFile
from tailrace.stores.signing import Purpose
from tailrace.stores.snapshot_file import Expected
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams import failpoints
from tailrace.streams.log import Outgoing, Reader, Record, Sink, TopicPartition
from tailrace.wire.avro_codec import decode_manifest, encode_manifest
from tailrace.wire.topics import snapshots_topic_of

log = structlog.get_logger(__name__)

NO_ANSWER: Final = "store"
"""The reason for which a snapshot is refused that may be a good one: its store gives nothing now."""

MAX_RECORD_BYTES: Final = MAX_INLINE_BYTES + 2 * MAX_MANIFEST_BYTES
"""Of an index record: inline parts, the manifest, and what Avro adds."""


@dataclass(slots=True)
class _Held:
    """What was read or written: slot → manifest, and the highest position in each line of rising ones."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    highest: dict[str, Position] = field(default_factory=dict)

    def take(self, slot: str, manifest: Manifest) -> None:
        """Put a manifest into its slot."""
        line = _rising(manifest)
        self.manifests[slot] = manifest
        self.highest[line] = max(manifest.position, self.highest.get(line, 0))


class SnapshotIndex:
    """Manifests of one loop, as this process has read or written them.

    Args:
        lineage: Only manifests of this lineage are kept.
        versions: Of this process, to name what differs when a lineage does.
        trusted: The keys whose signatures count, as the file says it at each moment.
        sink, signer: To write with; None: this process only reads.
        on_refused: Told the reason of each record of the index that is refused, once.
        on_loaded: Told how many seconds each load took whose bodies are good.
    """

    def __init__(
        self,
        topic: str,
        *,
        lineage: str,
        versions: Mapping[str, str],
        store: SnapshotStore,
        trusted: TrustFile,
        sink: Sink | None = None,
        signer: Signer | None = None,
        on_refused: Callable[[str], None] = lambda _: None,
        on_loaded: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.partition = TopicPartition(topic, 0)
        self._lineage = lineage
        self._versions = versions
        self._store = store
        self._trusted = trusted
        self._sink = sink
        self._signer = signer
        self._on_refused = on_refused
        self._on_loaded = on_loaded
        self._held = _Held()
        self._written = _Held()
        self._refusal: Refusal | None = None
        self._told_to = 0  # offset; the topic is read again from its beginning now and then

    @property
    def refusal(self) -> Refusal | None:
        """Why what came last for this lineage does not count; None where it does."""
        return self._refusal

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything that the index holds for this lineage."""
        return tuple(self._held.manifests.values())

    def by_position(self) -> list[Manifest]:
        """Return snapshots and publications, the one that holds most of the log first: for serving."""
        serving = (manifest for manifest in self.manifests if manifest.kind is not Kind.BRANCH)
        return sorted(serving, key=lambda manifest: manifest.position, reverse=True)

    def holding(self, part: str) -> list[Manifest]:
        """Return the manifests that a state can be restored from and that have this part, the newest first."""
        found = [
            manifest
            for manifest in self.manifests
            if manifest.kind is not Kind.PUBLICATION and any(each.name == part for each in manifest.parts)
        ]
        return sorted(found, key=lambda manifest: manifest.position, reverse=True)

    def newest(self, kind: Kind = Kind.SNAPSHOT) -> list[Manifest]:
        """Return the manifests of one kind in the order in which to try them."""
        return newest_first(self.manifests, self._lineage, kind)

    def note(self, record: Record) -> Manifest | None:
        """Take one record of the topic into account; return its manifest if it counts and is of this lineage."""
        return self._note(record, self._held)

    def is_trusted(self, record: Record) -> bool:
        """Return whether a record of the topic is signed by a key that counts now; what was refused may be later."""
        try:
            unsealed(record, self._trusted)
        except (CodecError, SnapshotRefused):
            return False
        return True

    def _note(self, record: Record, held: _Held) -> Manifest | None:
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            held.manifests.pop(key, None)
            return None
        try:
            manifest = unsealed(record, self._trusted)
        except (CodecError, SnapshotRefused) as problem:
            self._refuse(record, Refusal(getattr(problem, "reason", "manifest"), str(problem)))
            return None
        if manifest.lineage != self._lineage:
            return None
        refusal = replayed(manifest, held.highest.get(_rising(manifest), 0))
        if refusal is not None:
            self._refuse(record, refusal)
            return None
        held.take(key, manifest)
        self._refusal = None
        return manifest

    def _refuse(self, record: Record, refusal: Refusal) -> None:
        self._refusal = refusal
        if record.offset < self._told_to:
            return
        self._told_to = record.offset + 1
        self._on_refused(refusal.reason)
        log.warning("index record refused", offset=record.offset, reason=refusal.reason, why=refusal.message)

    async def read(self, reader: Reader) -> None:
        """Read the whole topic, from its beginning; what this process writes meanwhile counts too."""
        self._written, found = _Held(), _Held()
        held = await reader.range_of(self.partition)
        if held.start < held.end:
            async for batch in reader.read(self.partition, held.start, held.end):
                for record in batch:
                    self._note(record, found)
        for slot, manifest in self._written.manifests.items():
            found.take(slot, manifest)
        self._held = found

    async def load(self, manifest: Manifest, *, log_id: str = "", not_below: int = 0) -> Mapping[str, bytes]:
        """Return the bodies behind a manifest of the index.

        Raises:
            SnapshotRefused: One step of the load order refused, or the store does not have the file.
        """
        begun_s = perf_counter()
        bodies = await self._bodies(manifest, log_id, not_below)
        self._on_loaded(perf_counter() - begun_s)
        return bodies

    async def _bodies(self, manifest: Manifest, log_id: str, not_below: int) -> Mapping[str, bytes]:
        expected = Expected(
            self._lineage,
            self._trusted.current(),
            manifest.created_at_ms if manifest.indexed_at_ms is None else manifest.indexed_at_ms,
            log_id,
            manifest.kind,
            self._versions,
            not_below=not_below,
            index=manifest,
            max_file_bytes=snapshot_file.file_bytes(manifest),
        )
        if manifest.inline or not manifest.parts:
            return snapshot_file.read_inline(manifest, expected).bodies
        if manifest.store_path is None:
            raise SnapshotRefused("missing", f"{manifest.kind} {manifest.number} has neither inline parts nor a file")
        try:
            content = await asyncio.to_thread(self._store.get, manifest.store_path, expected.max_file_bytes)
        except SnapshotRefused:
            raise
        except (OSError, ValueError, TailraceError) as cause:
            raise SnapshotRefused(
                NO_ANSWER, f"{self._store.address} does not give {manifest.store_path}: {cause}"
            ) from cause
        return (await asyncio.to_thread(snapshot_file.read, content, expected)).bodies

    async def put(self, manifest: Manifest, packed: snapshot_file.Packed) -> Manifest:
        """Sign; store the file, then the manifest; forget the file that this one replaces.

        Publications that fit travel in the index alone. Returns the manifest as it was indexed.

        Raises:
            SnapshotRefused: The key that signs is not trusted here: nobody would load what it signed.
        """
        assert self._sink is not None, "this process only reads the index"
        failpoints.reached("learn.snapshot_encoded")
        inline = packed.stored if packed.fits_inline else {}
        alone = manifest.kind is Kind.PUBLICATION and packed.fits_inline
        path = None if alone else _path_of(manifest)
        manifest = self._signed(replace(manifest, store_path=path, inline=inline))
        failpoints.reached("learn.snapshot_signed")
        if path is not None:
            content = snapshot_file.write(manifest, packed.stored)
            await asyncio.to_thread(self._store.put, path, content)
            failpoints.reached("learn.snapshot_stored")
        slot = index_key(manifest)
        value = encode_manifest(snapshot_file.seal(manifest))
        delivery = await self._sink.send(self.partition, [Outgoing(slot.encode(), value)])
        failpoints.reached("learn.snapshot_sent")
        await delivery
        failpoints.reached("learn.snapshot_indexed")
        replaced = replaced_by(manifest, self.manifests)
        self._held.take(slot, manifest)
        self._written.take(slot, manifest)
        if replaced is not None and replaced.store_path is not None and replaced.store_path != path:
            await self._forget(replaced.store_path)
        return manifest

    def _signed(self, manifest: Manifest) -> Manifest:
        assert self._signer is not None, "this process signs nothing"
        key = self._signer.key()
        refusal = self._trusted.current().may_sign(Purpose.SNAPSHOTS, key.key_id, manifest.created_at_ms)
        if refusal is not None:
            message = f"the learner's own signature would not count: {refusal.message}"
            raise SnapshotRefused(refusal.reason, f"{message}; `tailrace keys generate --replace` makes another key")
        return snapshot_file.signed(manifest, key)

    async def _forget(self, path: str) -> None:
        try:
            await asyncio.to_thread(self._store.delete, path)
        except (OSError, TailraceError) as problem:
            log.warning("old snapshot file was not deleted", path=path, why=str(problem))


def unsealed(record: Record, trusted: TrustFile) -> Manifest:
    """Return the manifest in an index record, read after a trusted key was found to have signed it.

    Raises:
        CodecError: It is no index record.
        SnapshotRefused: It is too large, no trusted key has signed it, it stands under another manifest's key, or it is
            of another loop: loops of the same features have one lineage, and may have one key.
    """
    value = record.value or b""
    if len(value) > MAX_RECORD_BYTES:
        raise SnapshotRefused("too_large", f"the record has {len(value)} bytes, allowed are {MAX_RECORD_BYTES}")
    manifest = snapshot_file.unseal(decode_manifest(value), trusted.current(), record.timestamp)
    slot = index_key(manifest)
    if slot.encode() != record.key:
        raise SnapshotRefused("index", f"{manifest.kind} {manifest.number} does not stand under its key {slot}")
    if snapshots_topic_of(manifest.loop) != record.topic:
        message = f"{manifest.kind} {manifest.number} is of the loop {manifest.loop}, found in {record.topic}"
        raise SnapshotRefused("loop", f"{message}; it is ignored")
    return manifest


def _rising(manifest: Manifest) -> str:
    """Return the name of the line in which positions never fall: each branch that was built beside has its own."""
    return index_key(manifest) if manifest.kind is Kind.BRANCH else manifest.kind.value


def _path_of(manifest: Manifest) -> str:
    """Return where the file lies: its name holds its digest, so that nobody who comes late replaces another's file."""
    name = f"{manifest.kind}-{manifest.number:08d}-{replace(manifest, store_path=None).digest[:12]}"
    return f"{manifest.loop}/{manifest.lineage[:16]}/{name}.tailrace"

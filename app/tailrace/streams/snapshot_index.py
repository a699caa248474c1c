"""The index of snapshots in `<loop>.snapshots`, and the bodies behind it.

The index, not the store's listing, says what exists. A snapshot exists once its manifest is acknowledged there;
its file is complete before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import structlog

from tailrace.domain.errors import CodecError, SnapshotRefused, TailraceError
from tailrace.domain.snapshots import Kind, Manifest, index_key, newest_first, replaced_by
from tailrace.stores import snapshot_file
from tailrace.stores.snapshot_file import Expected
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams import failpoints
from tailrace.streams.log import Outgoing, Reader, Record, Sink, TopicPartition
from tailrace.wire.avro_codec import decode_manifest, encode_manifest

log = structlog.get_logger(__name__)


class SnapshotIndex:
    """Manifests of one loop, as this process has read or written them.

    Args:
        lineage: Only manifests of this lineage are kept.
        versions: Of this process, to name what differs when a lineage does.
    """

    def __init__(
        self, topic: str, *, lineage: str, versions: Mapping[str, str], sink: Sink | None, store: SnapshotStore
    ) -> None:
        self.partition = TopicPartition(topic, 0)
        self._lineage = lineage
        self._versions = versions
        self._sink = sink
        self._store = store
        self._manifests: dict[str, Manifest] = {}

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything that the index holds for this lineage."""
        return tuple(self._manifests.values())

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
        """Take one record of the topic into account; return its manifest if it is of this lineage."""
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            self._manifests.pop(key, None)
            return None
        try:
            manifest = decode_manifest(record.value)
        except (CodecError, SnapshotRefused) as problem:
            log.warning("index record cannot be read", offset=record.offset, why=str(problem))
            return None
        if manifest.lineage != self._lineage:
            return None
        self._manifests[index_key(manifest)] = manifest
        return manifest

    async def read(self, reader: Reader) -> None:
        """Read the whole topic."""
        held = await reader.range_of(self.partition)
        if held.start == held.end:
            return
        async for batch in reader.read(self.partition, held.start, held.end):
            for record in batch:
                self.note(record)

    async def load(self, manifest: Manifest, *, log_id: str = "", not_below: int = 0) -> Mapping[str, bytes]:
        """Return the bodies behind a manifest of the index.

        Raises:
            SnapshotRefused: One step of the load order refused, or the store does not have the file.
        """
        expected = Expected(self._lineage, log_id, manifest.kind, self._versions, not_below=not_below, index=manifest)
        if manifest.inline or not manifest.parts:
            return snapshot_file.read_inline(manifest, expected).bodies
        if manifest.store_path is None:
            raise SnapshotRefused("missing", f"{manifest.kind} {manifest.number} has neither inline parts nor a file")
        try:
            content = await asyncio.to_thread(self._store.get, manifest.store_path, expected.max_file_bytes)
        except (OSError, TailraceError) as cause:
            raise SnapshotRefused(
                "store", f"{self._store.address} does not give {manifest.store_path}: {cause}"
            ) from cause
        return snapshot_file.read(content, expected).bodies

    async def put(self, manifest: Manifest, packed: snapshot_file.Packed) -> Manifest:
        """Store the file, then the manifest; forget the file that this one replaces.

        Publications that fit travel in the index alone. Returns the manifest as it was indexed.
        """
        assert self._sink is not None, "this process only reads the index"
        inline = packed.stored if packed.fits_inline else {}
        alone = manifest.kind is Kind.PUBLICATION and packed.fits_inline
        path = (
            None if alone else f"{manifest.loop}/{manifest.lineage[:16]}/{manifest.kind}-{manifest.number:08d}.tailrace"
        )
        manifest = replace(manifest, store_path=path, inline=inline)
        if path is not None:
            content = snapshot_file.write(manifest, packed.stored)
            await asyncio.to_thread(self._store.put, path, content)
            failpoints.reached("learn.snapshot_stored")
        key = index_key(manifest)
        delivery = await self._sink.send(self.partition, [Outgoing(key.encode(), encode_manifest(manifest))])
        await delivery
        failpoints.reached("learn.snapshot_indexed")
        replaced = replaced_by(manifest, self.manifests)
        self._manifests[key] = manifest
        if replaced is not None and replaced.store_path is not None and replaced.store_path != path:
            await self._forget(replaced.store_path)
        return manifest

    async def _forget(self, path: str) -> None:
        try:
            await asyncio.to_thread(self._store.delete, path)
        except (OSError, TailraceError) as problem:
            log.warning("old snapshot file was not deleted", path=path, why=str(problem))

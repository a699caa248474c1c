"""The snapshots of a loop as the index and the store have them, of every lineage: no model is built to look.

The index says what exists; the store is asked what is really there, and may have more: files that a stop in the middle
left, or that were replaced while it was down.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from tailrace.domain.errors import CodecError, SnapshotRefused, TailraceError
from tailrace.domain.positions import parse
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.domain.status import Role, RoleState
from tailrace.domain.verdicts import SILENT_MS
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import picture_of
from tailrace.opening import open_store, open_trust, topics_of
from tailrace.settings import LoopSettings
from tailrace.stores import snapshot_file
from tailrace.stores.key_folder import TrustFile
from tailrace.stores.snapshot_file import Expected, Snapshot
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.log import Record, TopicPartition
from tailrace.streams.snapshot_index import unsealed

_OURS: Final = re.compile(
    r"(?P<line>[^/]+/[0-9a-f]{16}/(snapshot|publication|branch))-(?P<number>\d{8,})[-0-9a-f]*\.tailrace"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest of the index, and what is behind it.

    Attributes:
        key: Of its index record.
        follows: Whether it names the manifest before it as the index holds that; None: that one is not there any more.
        file: "yes", "missing", "inline" for one that has no file; None: the store does not answer.
    """

    key: bytes
    manifest: Manifest
    follows: bool | None
    file: str | None


@dataclass(frozen=True, slots=True)
class Uncounted:
    """One record of the index that no trusted key has signed, or that cannot be read.

    Attributes:
        reason: For which it does not count.
        names: Files of ours whose path stands in it. Nothing else of it is read.
    """

    key: bytes
    reason: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Shelf:
    """Everything that the index and the store of one loop hold.

    Attributes:
        partition: Of the index.
        end: Offset to which the index was read.
        entries: By lineage, kind and number.
        files: Paths of ours in the store; None: the store does not answer, for the reason `store_problem`.
        learner: The process that learns now; None: nobody does, so that nothing is being written.
        uncounted: Records of the index that do not count here; on another machine they may.
    """

    partition: TopicPartition
    end: int
    store: SnapshotStore
    trusted: TrustFile
    entries: tuple[Entry, ...]
    files: frozenset[str] | None
    store_problem: str
    learner: str | None
    uncounted: tuple[Uncounted, ...]

    @property
    def refused(self) -> Mapping[str, int]:
        """Reason → how many records of the index do not count here."""
        return Counter(each.reason for each in self.uncounted)

    def find(self, reference: str, lineage: str | None = None) -> Entry:
        """Return the entry that a person means.

        Args:
            reference: A number, a position OFFSET:ROW, "newest" or "published".
            lineage: The beginning of one; None: that of the newest snapshot.

        Raises:
            SnapshotRefused: reason "missing": there is none, or more than one lineage begins so.
        """
        kind = Kind.PUBLICATION if reference == "published" else Kind.SNAPSHOT
        mine = self.of_kind(kind, lineage)
        if reference in {"newest", "published"}:
            found = mine[-1:]
        elif ":" in reference:
            found = [entry for entry in mine if entry.manifest.position == parse(reference)]
        else:
            found = [entry for entry in mine if str(entry.manifest.number) == reference]
        if not found:
            held = ", ".join(str(entry.manifest.number) for entry in mine) or "none"
            raise SnapshotRefused(
                "missing",
                f"there is no {kind} {reference}; the index holds {held}. `tailrace snapshots list` shows all",
            )
        return found[-1]

    def of_kind(self, kind: Kind, lineage: str | None = None) -> list[Entry]:
        """Return the entries of one kind and lineage, the newest last; without a lineage the newest's."""
        of_kind = [entry for entry in self.entries if entry.manifest.kind is kind]
        if not of_kind:
            return []
        newest = max(of_kind, key=lambda entry: (entry.manifest.position, entry.manifest.created_at_ms))
        wanted = newest.manifest.lineage if lineage is None else lineage
        found = [entry for entry in of_kind if entry.manifest.lineage.startswith(wanted)]
        if len({entry.manifest.lineage for entry in found}) > 1:
            raise SnapshotRefused("missing", f"several lineages begin with {wanted}; write more of it")
        return sorted(found, key=lambda entry: (entry.manifest.position, entry.manifest.number))

    async def content_of(self, entry: Entry) -> bytes:
        """Return the file of a snapshot, as it lies in the store or as its inline parts make it; nothing is checked.

        Raises:
            SnapshotRefused: It is not there, or its inline parts are not its own.
            StoreUnavailable: The store does not give it.
        """
        manifest = entry.manifest
        if manifest.store_path is None:
            return snapshot_file.file_of_inline(manifest)
        return await asyncio.to_thread(self.store.get, manifest.store_path, snapshot_file.MAX_FILE_BYTES)

    async def read(self, entry: Entry) -> Snapshot:
        """Return a snapshot, every step of the load order taken but those that need the model.

        Raises:
            SnapshotRefused: One step refused.
            StoreUnavailable: The store does not give it.
        """
        return await self.check(entry, await self.content_of(entry))

    async def check(self, entry: Entry, content: bytes) -> Snapshot:
        """Return the snapshot that a file of an entry holds, as `read` does, of bytes that were fetched already.

        Raises:
            SnapshotRefused: One step refused.
        """
        manifest = entry.manifest
        at_ms = manifest.created_at_ms if manifest.indexed_at_ms is None else manifest.indexed_at_ms
        expected = Expected(
            manifest.lineage, self.trusted.current(), at_ms, manifest.log_id, manifest.kind, index=manifest
        )
        return await asyncio.to_thread(snapshot_file.read, content, expected)


async def shelf_of(reading: Reading, name: str, loop: LoopSettings, now_ms: int) -> Shelf:
    """Read the index and list the store.

    Raises:
        LogError: The topic does not exist.
    """
    store = open_store(reading.settings)
    ((partition, held),) = (await reading.ranges(topics_of(name, loop).snapshots)).items()
    trusted = open_trust(reading.settings)
    manifests: dict[bytes, Manifest] = {}
    refused: dict[bytes, tuple[str, Record]] = {}
    async for record in reading.records(partition, held):
        _note(record, trusted, manifests, refused)
    files, problem = None, ""
    try:
        files = await files_of(store, name)
    except (OSError, TailraceError) as cause:
        problem = str(cause)
    learner = await _learner(reading, name, loop, now_ms)
    uncounted = tuple(_uncounted(refused, files))
    entries = tuple(_entries(manifests, files))
    return Shelf(partition, held.end, store, trusted, entries, files, problem, learner, uncounted)


async def files_of(store: SnapshotStore, name: str) -> frozenset[str]:
    """Return the paths of the files that learners of a loop stored; what else lies beside them is others' business.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    return frozenset(path for path in await asyncio.to_thread(store.paths, name) if _OURS.fullmatch(path))


def orphans_of(shelf: Shelf) -> tuple[list[str], list[str]]:
    """Return the files that the index does not name: those that may go, and those that may be being written.

    A record that does not count here names its file too: a machine that trusts its key can load it.
    """
    named = {entry.manifest.store_path for entry in shelf.entries}.union(*(each.names for each in shelf.uncounted))
    newest: dict[str, int] = {}
    for path in named:
        if path is not None and (match := _OURS.fullmatch(path)):
            newest[match["line"]] = max(newest.get(match["line"], 0), int(match["number"]))
    gone: list[str] = []
    fresh: list[str] = []
    for path in sorted((shelf.files or frozenset()) - named):
        match = _OURS.fullmatch(path)
        assert match is not None, "the shelf holds files of ours alone"
        is_fresh = shelf.learner is not None and int(match["number"]) > newest.get(match["line"], 0)
        (fresh if is_fresh else gone).append(path)
    return gone, fresh


def _note(
    record: Record, trusted: TrustFile, manifests: dict[bytes, Manifest], refused: dict[bytes, tuple[str, Record]]
) -> None:
    key = record.key or b""
    if record.value is None:
        manifests.pop(key, None)
        refused.pop(key, None)
        return
    try:
        manifests[key] = unsealed(record, trusted)
        refused.pop(key, None)
    except (CodecError, SnapshotRefused) as problem:
        refused[key] = getattr(problem, "reason", "manifest"), record


def _uncounted(refused: Mapping[bytes, tuple[str, Record]], files: frozenset[str] | None) -> Iterable[Uncounted]:
    for key, (reason, record) in sorted(refused.items(), key=itemgetter(0)):
        # Whoever wrote it is not believed, so it is not parsed; a path that stands in it is reason to keep the file.
        value = record.value or b""
        yield Uncounted(key, reason, frozenset(path for path in files or () if path.encode() in value))


def _entries(manifests: Mapping[bytes, Manifest], files: frozenset[str] | None) -> Iterable[Entry]:
    by_place = {(each.lineage, each.kind, each.number): each for each in manifests.values()}
    order = sorted(manifests.items(), key=lambda item: (item[1].lineage, item[1].kind, item[1].number))
    for key, manifest in order:
        before = by_place.get((manifest.lineage, manifest.kind, manifest.number - 1))
        follows = None if before is None else manifest.previous_digest == before.digest
        if manifest.number == 1:
            follows = manifest.previous_digest is None
        yield Entry(key, manifest, follows, _file_of(manifest, files))


def _file_of(manifest: Manifest, files: frozenset[str] | None) -> str | None:
    if manifest.store_path is None:
        return "inline"
    if files is None:
        return None
    return "yes" if manifest.store_path in files else "missing"


async def _learner(reading: Reading, name: str, loop: LoopSettings, now_ms: int) -> str | None:
    status = (await picture_of(reading, name, loop, now_ms)).status
    awake = {RoleState.STARTING, RoleState.RESTORING, RoleState.RUNNING, RoleState.DRAINING}
    for member in status.members:
        learns = any(role.role is Role.LEARN and role.state in awake for role in member.roles)
        if learns and now_ms - member.time_ms < SILENT_MS:
            return member.member
    return None

"""One RocksDB folder of its own: keys and values in a few ordered ranges, changed by whole sets.

What changes is seen here at once and reaches the disk later: `seal` closes a set of changes, `write` writes the
oldest sealed set as one write batch, all of it or nothing. After a crash the folder stands as of some set that was
written. The write-ahead log is not forced to the disk: a power failure may cost the last sets, never a part of one.

Every call holds the interpreter's lock until RocksDB answers, so each is bounded: sets by their maker, scans by their
limit, and a write that RocksDB would delay is refused and tried again.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from tailrace.domain.errors import WaitingRoomError

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = TypeVar("Answer")
Changes: TypeAlias = dict[bytes, bytes | None]
"""Key → its value; None: it is deleted."""

CACHE_BYTES: Final = 128 << 20
"""Of all folders of a process together: blocks, their indexes and filters."""

_MEMTABLE_BYTES: Final = 32 << 20  # what a restart after a crash replays is a small multiple of this
_BLOCK_BYTES: Final = 4 << 10
_BLOOM_BITS: Final = 10
_OPEN_FILES: Final = 256
_MOST_FILES: Final = 80  # not sorted in yet; a write is refused from half of it on
_WAL_BYTES: Final = 64 << 20


def new_cache() -> Cache:
    """Return a cache for all folders of a process."""
    return Cache(CACHE_BYTES)


class Shelf:
    """A folder, and what has changed since its last write."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        """Open the folder, which is made when it is not there.

        Raises:
            WaitingRoomError: It is damaged (`is_damaged`), another process has it (`is_locked`), or the disk gives or
                takes nothing.
        """
        self.folder = folder
        self._ranges: list[Range] = []
        self._overlay: Changes = {}
        self._open: Changes = {}
        self._sealed: deque[Changes] = deque()
        self._without_delay = WriteOptions()
        self._without_delay.no_slowdown = True
        with self._explained("opened"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = Rdict(str(folder), _options(cache))

    def range(self, prefix: bytes) -> Range:
        """Return the range of the keys that begin with a prefix of one byte."""
        found = Range(self, prefix)
        self._ranges.append(found)
        return found

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values on the disk, as of the last write."""
        with self._explained("read"):
            return cast("list[bytes | None]", self._db.get(list(keys)))

    def put(self, key: bytes, value: bytes | None) -> None:
        """Change a value; None deletes it."""
        self._overlay[key] = self._open[key] = value

    def changed(self, key: bytes, value: bytes) -> bytes | None:
        """Return what a value on the disk has become since; None: it is deleted."""
        return self._overlay.get(key, value)

    def seal(self) -> Changes:
        """Close the set of what changed since the last call; it may be completed until it is written."""
        sealed, self._open = self._open, {}
        self._sealed.append(sealed)
        return sealed

    def write(self) -> bool:
        """Write the oldest sealed set; return False when RocksDB has more to do than it can take in now.

        Raises:
            WaitingRoomError: It cannot be written.
        """
        changes = self._sealed[0]
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._db.write(batch, self._without_delay)
        except Exception as problem:  # rocksdict raises nothing narrower
            if "Write stall" in str(problem):
                return False
            raise _error(self.folder, "written", problem) from problem
        self._sealed.popleft()
        overlay = self._overlay
        for key, value in changes.items():
            if overlay.get(key, _GONE) is value:
                del overlay[key]
        for each in self._ranges:
            each.written()
        return True

    def scan(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first keys of [start, stop) on the disk that are not deleted since, with their present values."""
        options = ReadOptions()
        options.set_iterate_upper_bound(stop)
        found: list[tuple[bytes, bytes]] = []
        with self._explained("read"):
            at = self._db.iter(options)
            at.seek(start)
            while len(found) < limit and at.valid():
                key = at.key()
                value = self._overlay.get(key, _GONE)
                if value is _GONE:
                    value = at.value()
                if value is not None:
                    found.append((key, value))
                at.next()
            at.status()
        return found

    def waits_at(self, key: bytes) -> bytes | None:
        """Return a value that is not on the disk yet; None: it is there, or deleted."""
        return self._overlay.get(key)

    def close(self) -> None:
        """Let go of the folder; what was not written is lost."""
        with self._explained("closed"):
            self._db.close()

    def damage(self, cause: Exception) -> WaitingRoomError:
        """Return what to raise where the folder is whole and what lies in it is not ours."""
        return _error(self.folder, "read", cause, is_damaged=True)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # rocksdict raises nothing narrower
            raise _error(self.folder, done, problem) from problem


class Range:
    """The keys of one prefix, in order. New keys are given in nearly rising order."""

    def __init__(self, shelf: Shelf, prefix: bytes) -> None:
        self.start = prefix
        self.stop = bytes([prefix[0] + 1])
        self._shelf = shelf
        self._fresh: list[bytes] = []

    def add(self, key: bytes, value: bytes) -> None:
        """Put a key that was never there."""
        insort(self._fresh, key)
        self._shelf.put(key, value)

    def first(self, start: bytes, stop: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first keys of [start, stop) with their values."""
        found = dict(self._shelf.scan(start, stop, limit))
        fresh, waits_at = self._fresh, self._shelf.waits_at
        more = 0
        for at in range(bisect_left(fresh, start), len(fresh)):
            key = fresh[at]
            if key >= stop or more == limit:
                break
            value = waits_at(key)
            if value is not None:
                found[key] = value
                more += 1
        return sorted(found.items())[:limit]

    def written(self) -> None:
        """Forget which keys were new: a scan of the disk finds them."""
        waits_at = self._shelf.waits_at
        self._fresh = [key for key in self._fresh if waits_at(key) is not None]


_GONE: Final[Any] = object()


def _options(cache: Cache) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_block_size(_BLOCK_BYTES)
    blocks.set_bloom_filter(_BLOOM_BITS, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.none())
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_max_total_wal_size(_WAL_BYTES)
    options.set_level_zero_slowdown_writes_trigger(_MOST_FILES // 2)
    options.set_level_zero_stop_writes_trigger(_MOST_FILES)
    options.set_max_open_files(_OPEN_FILES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    return options


# RocksDB's failures begin with the name of their kind, and may go on with paths.
_LOCKED: Final = re.compile("IO error: (While lock file|lock hold by current process)", re.IGNORECASE)
_DAMAGED: Final = re.compile(
    "Corruption:"
    "|IO error: No such file or directory:"  # one that others name
    "|(Invalid argument|Not implemented):(?!.*IO error:)",  # otherwise options that could not be read just now
    re.DOTALL,
)


def _error(folder: Path, done: str, problem: Exception, *, is_damaged: bool = False) -> WaitingRoomError:
    said = repr(problem) if is_damaged else str(problem)
    return WaitingRoomError(
        f"the waiting room {folder.parent.name}/{folder.name} could not be {done}: {said}; it needs a folder that this "
        "process alone writes, on a disk with room. See to both; nothing is lost, what waits is in the topics too.",
        is_locked=_LOCKED.match(said) is not None,
        is_damaged=is_damaged or _DAMAGED.match(said) is not None,
    )

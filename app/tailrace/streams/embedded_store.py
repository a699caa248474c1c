"""The file of the embedded log: topics, records, group offsets and the worker's lock, in SQLite.

One file `log.sqlite3` in WAL mode in a folder of its own, which is closed to other accounts, since it holds events and
labels as they came. Any process of this account may read and append; the lock file `worker.lock` lets one process at a
time be a group member. What `append` returned survives a SIGKILL of every process: the page cache of the system has
it. A power cut may lose the last moments (`synchronous=NORMAL`).
Calls block for well under 5 ms: one transaction takes at most `MAX_APPEND_BYTES` or `MAX_APPEND_RECORDS`, a
busy file is reported as `Busy` instead of waited for, and checkpoints run in a thread.
"""

# ruff: noqa: S608 - table names are made of numbers; values are always bound.
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tailrace.domain.errors import LogError
from tailrace.streams.log import Commit, Headers, Outgoing, Range, TopicPartition, TopicState
from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES

MAX_APPEND_RECORDS = 1_000
MAX_APPEND_BYTES = 1 << 20
MAX_FETCH_BYTES = 1 << 20
CHECKPOINT_BYTES = 8 << 20
RESTART_BYTES = 64 << 20
# A compacted partition is cleaned after so many records or bytes; readers must expect older values until then.
COMPACT_RECORDS = 256
COMPACT_BYTES = 16 << 20
# As long as Kafka's default delete.retention.ms, so that a reader that was away sees the deletion.
TOMBSTONE_MS = 86_400_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS groups (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS offsets (
    name TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL, metadata TEXT NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
"""


class Busy(Exception):
    """Another process writes at this moment; try again in a millisecond."""


class EmbeddedRecord(NamedTuple):
    """One record as it was read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Topic(NamedTuple):
    id: int
    state: TopicState

    @property
    def appends_time(self) -> bool:
        return self.state.settings.get("message.timestamp.type") == "LogAppendTime"

    @property
    def is_compacted(self) -> bool:
        return "compact" in self.state.settings.get("cleanup.policy", "delete")

    @property
    def max_message_bytes(self) -> int:
        return int(self.state.settings.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))


class EmbeddedStore:
    """One process's connections to the file. Made by the log, opened by its first user, closed by its last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.sqlite3"
        self.listeners: set[asyncio.Event] = set()
        self.abandoned = False
        self._users = 0
        self._locks = 0
        self._lock_file: int | None = None
        self._topics: dict[str, _Topic] = {}
        self._topics_version = -1
        self._uncleaned: dict[TopicPartition, tuple[int, int]] = {}
        self._since_checkpoint = 0
        self._checkpoint: asyncio.Future[None] | None = None

    def open(self, *, create: bool) -> None:
        """Open the connections, once per user.

        Raises:
            LogError: The file does not exist and may not be created, or is not one of ours.
        """
        if self._users == 0:
            try:
                if not self.path.exists():
                    self._make(create=create)
                self._read = self._connect(busy_s=5.0)
                self._write = self._connect(busy_s=0.0)
                if not self._read.execute("SELECT 1 FROM sqlite_master WHERE name = 'offsets'").fetchone():
                    self._read.executescript(_SCHEMA)
            except (OSError, sqlite3.Error) as error:
                raise LogError(f"{self.path} cannot be used as a log ({error}); give another folder") from error
        self._users += 1

    def close(self) -> None:
        """Close the connections with their last user."""
        self._users -= 1
        if self._users == 0:
            self._read.close()
            self._write.close()
            self._topics_version = -1

    def _make(self, *, create: bool) -> None:
        if not create:
            raise LogError(f"there is no log in {self.folder}; `tailrace run` with this configuration creates it")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite takes an empty file for a new one, and gives the files beside it the permissions of this one.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _connect(self, busy_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=busy_s, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return connection

    # ---- one worker

    def lock_worker(self) -> None:
        """Become the process whose sources read in groups; once per source.

        Raises:
            LogError: Another process is.
        """
        if self._locks == 0:
            lock_file = os.open(self.folder / "worker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                owner = os.read(lock_file, 32).decode("ascii", "replace").strip() or "unknown"
                os.close(lock_file)
                raise LogError(
                    f"process {owner} already works on the embedded log in {self.folder}; one worker at a time is "
                    "allowed. Stop it, give another folder, or use Kafka for more than one worker"
                ) from None
            os.ftruncate(lock_file, 0)
            os.write(lock_file, str(os.getpid()).encode("ascii"))
            self._lock_file = lock_file
        self._locks += 1

    def unlock_worker(self) -> None:
        """Stop being the worker with the last source."""
        self._locks -= 1
        if self._locks == 0:
            self._free_lock()

    def abandon(self) -> None:
        """Write nothing more and free the lock, as after a SIGKILL."""
        self.abandoned = True
        self._free_lock()
        self.announce()

    def _free_lock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # ---- topics

    def version(self) -> int:
        """Return a number that changes when any other connection has written."""
        return int(self._read.execute("PRAGMA data_version").fetchone()[0])

    def topics(self) -> Mapping[str, TopicState]:
        """Return every topic."""
        return {name: topic.state for name, topic in self._known_topics().items()}

    def topic(self, name: str) -> TopicState | None:
        """Return one topic, or None."""
        found = self._known_topics().get(name)
        return found.state if found else None

    def max_message_bytes(self, partition: TopicPartition) -> int:
        """Return how large one record of the partition may be.

        Raises:
            LogError: There is no such partition.
        """
        self._table(partition)
        return self._topic(partition.topic).max_message_bytes

    def create_topic(self, state: TopicState) -> None:
        """Create a topic and its partitions; one that exists is left as it is."""
        with self._transaction() as write:
            done = write.execute(
                "INSERT OR IGNORE INTO topics (name, partitions, settings) VALUES (?, ?, ?)",
                (state.name, state.partitions, json.dumps(dict(state.settings))),
            )
            if done.rowcount:
                self._create_partitions(int(done.lastrowid or 0), 0, state.partitions)

    def alter_topic(self, name: str, settings: Mapping[str, str]) -> None:
        """Set these settings beside the others."""
        topic = self._topic(name)
        merged = {**topic.state.settings, **settings}
        with self._transaction() as write:
            write.execute("UPDATE topics SET settings = ? WHERE id = ?", (json.dumps(merged), topic.id))
        self._topics = {}

    def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions."""
        topic = self._topic(name)
        if total < topic.state.partitions:
            raise LogError(f"topic {name} has {topic.state.partitions} partitions; {total} would be fewer")
        with self._transaction() as write:
            self._create_partitions(topic.id, topic.state.partitions, total)
            write.execute("UPDATE topics SET partitions = ? WHERE id = ?", (total, topic.id))

    def delete_topic(self, name: str) -> None:
        """Delete a topic, its records and what groups committed of it; one that does not exist is left so."""
        topic = self._known_topics().get(name)
        if topic is None:
            return
        with self._transaction() as write:
            for partition in range(topic.state.partitions):
                write.execute(f"DROP TABLE r{topic.id}_{partition}")
            write.execute("DELETE FROM offsets WHERE topic = ?", (name,))
            write.execute("DELETE FROM topics WHERE id = ?", (topic.id,))
        self._topics = {}

    def _create_partitions(self, topic_id: int, start: int, total: int) -> None:
        for partition in range(start, total):
            self._write.execute(
                f"CREATE TABLE r{topic_id}_{partition} "
                "(offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key BLOB, headers TEXT, value BLOB)"
            )

    def _known_topics(self) -> dict[str, _Topic]:
        version = self.version()
        if version != self._topics_version:
            rows = self._read.execute("SELECT id, name, partitions, settings FROM topics").fetchall()
            self._topics = {
                name: _Topic(topic_id, TopicState(name, partitions, 1, json.loads(settings)))
                for topic_id, name, partitions, settings in rows
            }
            self._topics_version = version
        return self._topics

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name) or self._known_topics().get(name)
        if found is None:
            raise LogError(f"topic {name} does not exist in {self.folder}; `tailrace topics apply` creates it")
        return found

    def _table(self, partition: TopicPartition) -> str:
        topic = self._topic(partition.topic)
        if not 0 <= partition.partition < topic.state.partitions:
            topic = self._known_topics()[partition.topic]
            if not 0 <= partition.partition < topic.state.partitions:
                raise LogError(
                    f"topic {partition.topic} has {topic.state.partitions} partitions; "
                    f"there is no partition {partition.partition}"
                )
        return f"r{topic.id}_{partition.partition}"

    # ---- records

    def range_of(self, partition: TopicPartition) -> Range:
        """Return the first offset and the end. A compacted partition begins at 0, as Kafka has it."""
        table = self._table(partition)
        first, last = self._read.execute(
            f"SELECT (SELECT min(offset) FROM {table}), (SELECT max(offset) FROM {table})"
        ).fetchone()
        end = 0 if last is None else last + 1
        return Range(0 if first is None or self._topic(partition.topic).is_compacted else first, end)

    def fetch(self, partition: TopicPartition, start: int, limit: int, end: int | None = None) -> list[EmbeddedRecord]:
        """Return records from `start` on: at most `limit`, before `end`, about MAX_FETCH_BYTES."""
        cursor = self._read.execute(
            f"SELECT offset, timestamp, key, value, headers FROM {self._table(partition)} "
            "WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
            (start, end if end is not None else 1 << 62, limit),
        )
        topic, number = partition
        records: list[EmbeddedRecord] = []
        size_bytes = 0
        for offset, timestamp, key, value, headers in cursor:
            parsed = _headers_of(headers) if headers else ()
            records.append(EmbeddedRecord(topic, number, offset, timestamp, key, value, parsed))
            if value is not None:
                size_bytes += len(value)
                if size_bytes >= MAX_FETCH_BYTES:
                    break
        cursor.close()
        return records

    def append(self, partition: TopicPartition, records: Sequence[Outgoing]) -> range:
        """Append records in one transaction and return their offsets; they are durable then.

        Raises:
            Busy: Another process writes.
        """
        table = self._table(partition)
        topic = self._topic(partition.topic)
        now_ms = time.time_ns() // 1_000_000
        with self._transaction() as write:
            last = write.execute(f"SELECT max(offset) FROM {table}").fetchone()[0]
            first = 0 if last is None else last + 1
            appends_time = topic.appends_time
            write.executemany(
                f"INSERT INTO {table} (offset, timestamp, key, value, headers) VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        offset,
                        now_ms if appends_time or time_ms is None else time_ms,
                        key,
                        value,
                        _headers_text(headers) if headers else None,
                    )
                    for offset, (key, value, headers, time_ms) in enumerate(records, first)
                ],
            )
        self._after_append(partition, topic, records)
        return range(first, first + len(records))

    def _after_append(self, partition: TopicPartition, topic: _Topic, records: Sequence[Outgoing]) -> None:
        size_bytes = sum(len(record.value or b"") + 40 for record in records)
        self._since_checkpoint += size_bytes
        self.announce()
        if topic.is_compacted:
            count, total = self._uncleaned.get(partition, (0, 0))
            count, total = count + len(records), total + size_bytes
            self._uncleaned[partition] = (count, total)
            if count >= COMPACT_RECORDS or total >= COMPACT_BYTES:
                with contextlib.suppress(Busy):
                    self.compact(partition)
        self._checkpoint_if_due()

    def compact(self, partition: TopicPartition) -> None:
        """Keep the last record of every key, and old deletions no longer; the last record always stays."""
        table = self._table(partition)
        long_ago_ms = time.time_ns() // 1_000_000 - TOMBSTONE_MS
        with self._transaction() as write:
            write.execute(
                f"DELETE FROM {table} WHERE key IS NOT NULL AND offset < (SELECT max(offset) FROM {table}) AND "
                f"(offset NOT IN (SELECT max(offset) FROM {table} GROUP BY key) "
                "OR (value IS NULL AND timestamp < ?))",
                (long_ago_ms,),
            )
        self._uncleaned.pop(partition, None)

    def announce(self) -> None:
        """Wake everybody in this process who waits for records."""
        for listener in self.listeners:
            listener.set()

    # ---- groups

    def join_group(self, group: str) -> int:
        """Become the only member of a group; return the epoch that every commit must name."""
        with self._transaction() as write:
            write.execute(
                "INSERT INTO groups VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1", (group,)
            )
            return int(write.execute("SELECT epoch FROM groups WHERE name = ?", (group,)).fetchone()[0])

    def epoch(self, group: str) -> int:
        """Return the epoch of the group's present member."""
        found = self._read.execute("SELECT epoch FROM groups WHERE name = ?", (group,)).fetchone()
        return int(found[0]) if found else 0

    def commit(self, group: str, epoch: int, commits: Mapping[TopicPartition, Commit]) -> bool:
        """Commit if `epoch` is the present one; return whether it was."""
        with self._transaction() as write:
            if write.execute("SELECT epoch FROM groups WHERE name = ?", (group,)).fetchone() != (epoch,):
                return False
            write.executemany(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?, ?)",
                [(group, *partition, *commit) for partition, commit in commits.items()],
            )
        self._since_checkpoint += 200 * len(commits)
        return True

    def offsets(self, group: str) -> dict[TopicPartition, Commit]:
        """Return what a group has committed."""
        rows = self._read.execute("SELECT topic, partition, offset, metadata FROM offsets WHERE name = ?", (group,))
        return {TopicPartition(topic, number): Commit(offset, text) for topic, number, offset, text in rows}

    # ---- writing

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self.abandoned:
            raise LogError(f"this view of {self.path} was abandoned; open the log anew")
        try:
            self._write.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise Busy from error
            raise LogError(f"{self.path} cannot be written ({error}); check the disk") from error
        try:
            yield self._write
            self._write.execute("COMMIT")
        except BaseException as error:
            if self._write.in_transaction:
                self._write.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise LogError(f"{self.path} cannot be written ({error}); check the disk") from error
            raise

    def _checkpoint_if_due(self) -> None:
        # Copying the WAL into the file waits for the disk, so it is done beside the event loop.
        if self._since_checkpoint >= CHECKPOINT_BYTES and (self._checkpoint is None or self._checkpoint.done()):
            self._since_checkpoint = 0
            self._checkpoint = asyncio.get_running_loop().run_in_executor(None, _checkpoint, self.path)


def _checkpoint(path: Path) -> None:
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection,
    ):
        connection.execute("PRAGMA synchronous=NORMAL")
        # A passive one never gets to the end of a file that is written all the time; a restarting one does.
        is_long = Path(f"{path}-wal").stat().st_size > RESTART_BYTES
        connection.execute(f"PRAGMA wal_checkpoint({'RESTART' if is_long else 'PASSIVE'})")


def _headers_text(headers: Headers) -> str:
    return json.dumps([(name, None if value is None else value.decode("latin-1")) for name, value in headers])


def _headers_of(text: str) -> Headers:
    return tuple((name, None if value is None else value.encode("latin-1")) for name, value in json.loads(text))

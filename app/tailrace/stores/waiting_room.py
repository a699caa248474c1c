"""The waiting room on disk: the identities and own early labels of one partition's join.

The form in memory is `domain.join.memory.Identities`; both answer alike (`tests/stores/test_waiting_room.py`).

In memory are only what changed since the last write, what the batches now being read ask for, and the early labels.
On disk, in one RocksDB folder:

    i id                      its identities, newest first, each waiting one with its row
    t time id                 waiting, settled, or settled with others of its id: for expiry and forgetting
    a position                the watermark before it: those that wait, in the order of arrival
    s row_at time id          those that are settled, in the order of their rows in the log
    e offset                  an early label of the own labels partition, with the watermark before it
    h number                  a heading of rows
    m                         as of which block all this stands, with its vector, counts and where each range begins

How a set of changes reaches the disk, numbered as the code repeats it:

    1. `seal`: the join closed a block; what changed up to its vector is one set.
    2. `acknowledged`: the block lies in the log.
    3. `write`, once a commit after 2 has succeeded: the set, with the block's name and vector, in one write batch.

A commit that succeeds after the block was acknowledged proves that the block counts: whoever claims the partition has
first made a commit that shuts this member out. So the disk stands as of an accepted block, or one that came before.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from tailrace.domain.blocks import Lowest, ScoredBlock, Vector
from tailrace.domain.errors import WaitingRoomError
from tailrace.domain.join.memory import WAITING, EarlyLabel, EarlyLabels, Identity, OpenForward
from tailrace.domain.records import Label, Owner
from tailrace.domain.times import EventTimeMs
from tailrace.stores.waiting_rows import Heading, decode_identities, encode_identities, encode_rows, give_rows

if TYPE_CHECKING:  # what it imports is an extra
    from tailrace.stores.shelf import Changes, Shelf

FORMAT: Final = 1

HEAVY: Final = 500
"""Changed ids after which a block should be written, so that a set takes some milliseconds to seal and to write."""

_READ_AT_ONCE: Final = 256
_PIECE: Final = HEAVY
"""Changed ids after which a room that is being made again writes a piece."""

_STEP: Final = 100 * HEAVY
"""The same while a room is brought forward: less is one set, so that a crash leaves the old room or the new one."""

_BUSY_S: Final = 0.01

_INT: Final = Struct(">q")
_WAITS: Final = b"w"
_ALONE: Final = b"s"
_OF_MANY: Final = b"m"
_META: Final = b"m"


@dataclass(frozen=True, slots=True)
class Standing:
    """As of which accepted block a waiting room stands.

    Attributes:
        offset: Of the block in the training log.
        vector: The block's, as text that says everything of it.
        hint: Of the commit that followed: where to read the log from when the room cannot be used.
    """

    log_id: str
    offset: int
    owner: Owner
    number: int
    vector: str
    hint: str

    def is_of(self, log_id: str, vector: Vector) -> bool:
        """Whether a block of this name is the one that is meant."""
        return (self.log_id, self.vector) == (log_id, vector_text(vector))


def vector_text(vector: Vector) -> str:
    """Return a vector as text: equal for equal vectors."""
    return json.dumps(asdict(vector), sort_keys=True)


class KeptEarlyLabels(EarlyLabels):
    """Early labels in memory; those of the own partition on disk too."""

    def __init__(self, shelf: Shelf, partition: int) -> None:
        super().__init__()
        self._shelf = shelf
        self._partition = partition

    def add(self, early: EarlyLabel, opened: OpenForward | None) -> None:
        """Keep a label; a forward's is read again from `relabelled`."""
        super().add(early, opened)
        if opened is None:
            content = json.dumps([early.watermark_ms, *early.label]).encode()
            self._shelf.put(_early_key(early.label.offset), content)

    def remove(self, early: EarlyLabel) -> None:
        """Take out one label."""
        super().remove(early)
        if early.label.partition == self._partition:
            self._shelf.put(_early_key(early.label.offset), None)

    def load(self) -> None:
        """Take what is on the disk."""
        kept = self._shelf.range(b"e")
        start = kept.start
        while found := kept.first(start, kept.stop, _READ_AT_ONCE):
            for _, content in found:
                watermark_ms, *label = json.loads(content)
                super().add(EarlyLabel(Label(*label), watermark_ms), None)
            start = found[-1][0] + b"\0"


class DiskRoom:
    """The identities of one partition.

    Attributes:
        standing: As of which block the disk stands; None: it is empty, or was left while it was made again.
    """

    def __init__(self, shelf: Shelf, partition: int) -> None:
        """Read where the folder stands.

        Raises:
            WaitingRoomError: It is damaged, or the disk gives nothing; the folder is let go of.
        """
        self.shelf = shelf
        self.early = KeptEarlyLabels(shelf, partition)
        self.waiting = self.count = 0
        self.standing: Standing | None = None
        self._by_time, self._arrived, self._rows = map(shelf.range, (b"t", b"a", b"s"))
        self._passed = self._forgotten = self._by_time.start
        self._lowest, self._oldest = self._arrived.start, self._rows.start
        self._known: dict[str, Identity | None] = {}
        self._changed: dict[str, None] = {}
        self._sealed: deque[tuple[dict[str, None], Changes, dict[str, Any]]] = deque()
        self._named = 0
        self._is_remade = False
        self._headings: list[Heading] = []
        self._numbers: dict[Heading, int] = {}
        try:
            self._open()
        except Exception as cause:
            with suppress(WaitingRoomError):
                shelf.close()  # nobody else can, and the next one who opens it would find it held
            if isinstance(cause, ValueError | LookupError | TypeError | AttributeError):
                raise shelf.damage(cause) from cause
            raise

    # ── what the join asks ──────────────────────────────────────────────────────────────────────────────────────

    def newest(self, event_id: str) -> Identity | None:
        """Return the newest identity of an id; older ones hang on it."""
        try:
            return self._known[event_id]
        except KeyError:
            self.load((event_id,))
            return self._known[event_id]

    def find(self, event_id: str, time_ms: EventTimeMs) -> Identity | None:
        """Return a remembered identity."""
        identity = self.newest(event_id)
        while identity is not None and identity.time_ms != time_ms:
            identity = identity.older
        return identity

    def add(self, identity: Identity) -> None:
        """Keep an event that begins to wait."""
        self._known[identity.id] = identity
        self._changed[identity.id] = None
        self._by_time.add(_time_key(identity.time_ms, identity.id), _WAITS)
        self._say_many(identity)
        self._arrived.add(_arrived_key(identity), _INT.pack(identity.watermark_ms))
        self.count += 1
        self.waiting += 1
        self._write_piece()

    def add_settled(
        self, event_id: str, time_ms: EventTimeMs, row_at: int, state: int, y: float = 0.0, revision: int = 0
    ) -> None:
        """Remember what its row in the training log says of an identity."""
        known = self.find(event_id, time_ms)
        if known is None:
            newest = self._known[event_id]
            identity = Identity(event_id, time_ms, 0, 0, newest, None, 0, state, y, revision, row_at)
            self._known[event_id] = identity
            self._changed[event_id] = None
            self._by_time.add(_time_key(time_ms, event_id), _settled(identity, newest))
            self._rows.add(_row_key(identity), b"")
            self._say_many(identity)
            self.count += 1
        elif known.state == WAITING:
            self.settle(known, state, y, revision, row_at)
        self._write_piece()

    def settle(self, identity: Identity, state: int, y: float, revision: int, row_at: int) -> None:
        """Give a waiting identity its outcome and let go of its row."""
        identity.state, identity.y, identity.revision, identity.row_at = state, y, revision, row_at
        identity.block = None
        self._changed[identity.id] = None
        is_newest = self._known[identity.id] is identity
        others = identity.older if is_newest else identity
        self.shelf.put(_time_key(identity.time_ms, identity.id), _settled(identity, others))
        self.shelf.put(_arrived_key(identity), None)
        self._rows.add(_row_key(identity), b"")
        self.waiting -= 1

    def correct(self, identity: Identity, y: float | None, revision: int) -> None:
        """Take what a later label says of a settled identity."""
        identity.correct(y, revision)
        self._changed[identity.id] = None

    def lowest(self, end: Lowest) -> Lowest:
        """Return the lowest position that still waits, `end` if none does."""
        first = self._arrived.first(self._lowest, self._arrived.stop, 1)
        if not first:
            return end
        self._lowest, watermark = first[0]
        return Lowest(_INT.unpack(self._lowest[1:])[0], _INT.unpack(watermark)[0])

    def before(self, time_ms: EventTimeMs) -> Iterator[Identity]:
        """Yield those of an earlier time that wait, by time and id."""
        stop = _time_key(time_ms, "")
        while self._passed < stop and (found := self._by_time.first(self._passed, stop, _READ_AT_ONCE)):
            waiting = [_id_of(key) for key, value in found if value == _WAITS]
            self.load(waiting)
            for key, value in found:
                if value == _WAITS:
                    yield self._identity(key)
                self._passed = key + b"\0"

    def forget(self, time_ms: EventTimeMs) -> None:
        """Forget settled identities of an earlier time: a bounded number, or all while the room is made again."""
        stop = _time_key(time_ms, "")
        while self._forget_some(stop) and self._is_remade:
            self._write_piece()

    def oldest_row(self, end: int) -> int:
        """Return a log offset before which no remembered identity has its row, `end` if there is none."""
        first = self._rows.first(self._oldest, self._rows.stop, 1)
        if not first:
            return end
        self._oldest = first[0][0]
        row_at: int = _INT.unpack_from(self._oldest, 1)[0]
        return row_at

    def seal(self, vector: Vector) -> None:
        """Close the set of what changed up to a vector."""
        rows: dict[int, tuple[int, list[bytes]]] = {}

        def row_of(block: ScoredBlock, row: int) -> tuple[int, bytes]:
            encoded = rows.get(id(block))
            if encoded is None:
                encoded = rows[id(block)] = (self._number(Heading.of(block)), encode_rows(block))
            return encoded[0], encoded[1][row]

        for event_id in self._changed:
            newest = self._known[event_id]
            self.shelf.put(_id_key(event_id), None if newest is None else encode_identities(newest, row_of))
        self._sealed.append((self._changed, self.shelf.seal(), self._meta(vector)))  # 1
        self._changed = {}

    # ── what the caller does between ────────────────────────────────────────────────────────────────────────────

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all lies on the disk."""
        return not self.shelf.scan(b"\0", b"\xff", 1)

    @property
    def is_heavy(self) -> bool:
        """Whether so much has changed that a block should be written before more is read."""
        return len(self._changed) >= HEAVY

    def load(self, event_ids: Sequence[str]) -> None:
        """Read what the next inputs ask for, all at once; what is not read so is read one by one."""
        known = self._known
        missing = [event_id for event_id in dict.fromkeys(event_ids) if event_id not in known]
        for at in range(0, len(missing), _READ_AT_ONCE):
            part = missing[at : at + _READ_AT_ONCE]
            kept = []
            for event_id, value in zip(part, self.shelf.get([_id_key(each) for each in part]), strict=True):
                if value is None:
                    known[event_id] = None
                else:
                    chain = decode_identities(event_id, value)
                    known[event_id] = chain[0].identity
                    kept += chain
            give_rows(kept, self._headings)

    def acknowledged(self, log_id: str, offset: int, owner: Owner, number: int, hint: str) -> None:
        """Tell where the block of the oldest set that has no name lies."""
        meta = self._sealed[self._named][2]
        meta["block"] = asdict(Standing(log_id, offset, owner, number, meta.pop("vector"), hint))  # 2
        self._named += 1

    @property
    def is_behind(self) -> bool:
        """Whether a set may be written once its block's positions are committed."""
        return self._named > 0

    def write(self) -> bool:
        """Write the oldest set of an acknowledged block; return False when the disk cannot take it now.

        Raises:
            WaitingRoomError: It cannot be written.
        """
        _, changes, meta = self._sealed[0]
        changes[_META] = json.dumps(meta).encode()
        if not self.shelf.write():  # 3
            return False
        self._sealed.popleft()
        self._named -= 1
        self.standing = Standing(**meta["block"])
        self._let_go()
        return True

    def remake(self) -> None:
        """Say that the room is made again, or brought forward: what is too much for one set is written in pieces.

        From the first piece on the folder stands as of no block until the next `write`.
        """
        self._is_remade = True

    def made(self) -> None:
        """Say that the room is whole again."""
        self._is_remade = False

    def close(self) -> None:
        """Let go of the folder; sets that were not written are lost, and read again from the topics."""
        self.shelf.close()

    # ── how it is kept ──────────────────────────────────────────────────────────────────────────────────────────

    def _open(self) -> None:
        content = self.shelf.get([_META])[0]
        if content is None:
            return
        meta: Mapping[str, Any] = json.loads(content)
        if meta["format"] != FORMAT:
            return
        self.standing = Standing(**meta["block"])
        self.waiting, self.count = meta["waiting"], meta["count"]
        self._passed, self._forgotten, self._lowest, self._oldest = map(bytes.fromhex, meta["begins"])
        for value in self.shelf.get([_heading_key(number) for number in range(meta["headings"])]):
            if value is None:
                raise ValueError("a heading is missing that is written with the first row that names it")
            self._number(Heading.load(value), is_kept=True)
        self.early.load()

    def _meta(self, vector: Vector) -> dict[str, Any]:
        begins = (self._passed, self._forgotten, self._lowest, self._oldest)
        return {
            "format": FORMAT,
            "vector": vector_text(vector),
            "waiting": self.waiting,
            "count": self.count,
            "begins": [key.hex() for key in begins],
            "headings": len(self._headings),
        }

    def _number(self, heading: Heading, *, is_kept: bool = False) -> int:
        number = self._numbers.get(heading)
        if number is None:
            number = self._numbers[heading] = len(self._headings)
            self._headings.append(heading)
            if not is_kept:
                self.shelf.put(_heading_key(number), heading.dump())
        return number

    def _identity(self, time_key: bytes) -> Identity:
        identity = self.find(_id_of(time_key), _INT.unpack_from(time_key, 1)[0])
        assert identity is not None, "what the order of time names is remembered"
        return identity

    def _forget(self, time_key: bytes, value: bytes) -> None:
        event_id = _id_of(time_key)
        if value[:1] == _ALONE:  # the usual case, and nothing has to be read for it
            self._known[event_id] = None
        else:
            self._unlink(self._identity(time_key))
        self.count -= 1
        self._changed[event_id] = None
        self.shelf.put(time_key, None)
        self.shelf.put(b"s" + value[1:] + time_key[1:], None)

    def _unlink(self, identity: Identity) -> None:
        newest = self._known[identity.id]
        assert newest is not None
        if newest is identity:
            self._known[identity.id] = identity.older
            return
        while newest.older is not identity:
            assert newest.older is not None
            newest = newest.older
        newest.older = identity.older

    def _say_many(self, newest: Identity) -> None:
        """Note with the settled ones of an id that they are not alone any more."""
        older = newest.older
        while older is not None:
            if older.state != WAITING:
                self.shelf.put(_time_key(older.time_ms, older.id), _settled(older, newest))
            older = older.older

    def _forget_some(self, stop: bytes) -> bool:
        if self._forgotten >= stop:
            return False
        # As many as a set may add, so that forgetting keeps up.
        found = self._by_time.first(self._forgotten, stop, max(HEAVY, len(self._changed)))
        self.load([_id_of(key) for key, value in found if value[:1] == _OF_MANY])
        for key, value in found:
            if value == _WAITS:
                return False
            self._forget(key, value)
            self._forgotten = key + b"\0"
            self._passed = max(self._passed, self._forgotten)
        return bool(found)

    def _let_go(self) -> None:
        """Keep in memory only what is not on the disk yet."""
        known, keep = self._known, dict(self._changed)
        for changed, _, _ in self._sealed:
            keep |= changed
        self._known = {event_id: known[event_id] for event_id in keep}

    def _write_piece(self) -> None:
        if not self._is_remade or len(self._changed) < (_PIECE if self.standing is None else _STEP):
            return
        self.seal(Vector())
        _, changes, _ = self._sealed.pop()
        changes[_META] = None
        self.standing = None
        while not self.shelf.write():
            time.sleep(_BUSY_S)
        self._let_go()


def _id_key(event_id: str) -> bytes:
    return b"i" + event_id.encode()


def _time_key(time_ms: EventTimeMs, event_id: str) -> bytes:
    return b"t" + _INT.pack(max(0, time_ms)) + event_id.encode()


def _id_of(time_key: bytes) -> str:
    return time_key[9:].decode()


def _arrived_key(identity: Identity) -> bytes:
    return b"a" + _INT.pack(identity.position)


def _row_key(identity: Identity) -> bytes:
    return b"s" + _INT.pack(identity.row_at) + _INT.pack(identity.time_ms) + identity.id.encode()


def _settled(identity: Identity, other: Identity | None) -> bytes:
    """Return what the order of time says of a settled identity: whether there is another of its id, and its row."""
    return (_ALONE if other is None else _OF_MANY) + _INT.pack(identity.row_at)


def _early_key(offset: int) -> bytes:
    return b"e" + _INT.pack(offset)


def _heading_key(number: int) -> bytes:
    return b"h" + _INT.pack(number)

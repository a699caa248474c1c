"""Disks that are full, and stores of snapshots that are down, slow or lie."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.faults.catalog import Result, Trial, fault
from tests.faults.disks import NoSmallDisk, SmallDisk
from tests.faults.ground import APART, Ground, ground, now_ms
from tests.faults.topics import Column
from tests.stores.s3_server import BUCKET, KEY_ID, SECRET, s3_server

from tailrace.domain.snapshots import Kind, manifest_of
from tailrace.domain.status import MemberStatus, Role
from tailrace.stores.snapshot_store import DirectoryStore
from tailrace.streams.snapshot_queue import MOST_WAITING
from tailrace.wire.avro_codec import decode_manifest, decode_status

LASTS_S = 4.0
HEALED_S = 40.0  # the queue's longest pause is 30 s
SLOW_S = 0.7
HANGS_S = 60.0

# Beside the configuration: a model that fits it, and calls of the system that fail while a file says which, and how.
FAILING = """
import errno
import os
from pathlib import Path

from river import linear_model, preprocessing

ORDER = Path(__file__).with_name("failing")


def failing(name, call):
    def called(*arguments, **options):
        try:
            which, number = ORDER.read_text().split()
        except (OSError, ValueError):
            return call(*arguments, **options)
        if which == name:
            raise OSError(int(number), os.strerror(int(number)))
        return call(*arguments, **options)

    return called


def build():
    if not hasattr(os, "fails"):
        os.fails = True
        os.fsync, os.rename = failing("fsync", os.fsync), failing("rename", os.rename)
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""


@fault("F19", "the worker's disk is full: write, open, fsync, rename; waiting room", ci=6, full=60, limit_s=300)
async def full_disk(trial: Trial) -> Result:
    """Serving and learning go on, nothing half-written counts, and it heals by itself when there is room."""
    result = Result()
    try:
        with closing(await asyncio.to_thread(SmallDisk, 2, inodes=400)) as disk:
            await _full_store(trial, disk, result)
        with closing(await asyncio.to_thread(SmallDisk, 24, inodes=4_000)) as disk:
            await _full_rooms(trial, disk, result)
    except NoSmallDisk as problem:
        if os.environ.get("TAILRACE_REQUIRE_KAFKA") == "1":
            raise
        result.skipped = str(problem)
    return result


async def _full_store(trial: Trial, disk: SmallDisk, result: Result) -> None:
    folder = trial.folder / "snapshots"
    folder.mkdir()
    (folder / "failing_calls.py").write_text(FAILING)
    order = folder / "failing"
    faults: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "write ENOSPC": (disk.fill, disk.make_room),
        "open ENOSPC": (disk.fill_inodes, disk.make_room),
        "fsync ENOSPC": (lambda: order.write_text("fsync 28"), order.unlink),
        "fsync EIO": (lambda: order.write_text("fsync 5"), order.unlink),
        "rename ENOSPC": (lambda: order.write_text("rename 28"), order.unlink),
    }
    model = {"model": "failing_calls:build", "experimental": True}
    store = f"file:{disk.path}/snapshots"
    snapshots = {"every": "300ms", "publish": "200ms", "store": store}
    async with ground(folder, trial.seed, champion=model, snapshots=snapshots) as at:
        await at.warm_up()
        for number in range(trial.times - 1):
            name = list(faults)[number % len(faults)]
            begin, end = faults[name]
            await _while_refused(at, name, begin, end, result)
            result.times += 1
        _check_files(disk.path / "snapshots")
        result.add(await at.finish())


async def _while_refused(
    at: Ground, name: str, begin: Callable[[], object], end: Callable[[], object], result: Result
) -> None:
    """Let a store take nothing for a while under load; a kill in the middle starts from what was good before."""
    async with at.load.flowing(100):
        begin()
        begun_ms = now_ms()
        told = await _learner_says(at, "takes nothing", begun_ms)
        learned, counted = _learned(told), len(await _stored(at))
        await asyncio.sleep(LASTS_S)
        later = await _heard(at, now_ms())
        during = await at.predicted_since(begun_ms, now_ms())
        assert all(during.values()), f"{name}: partitions without predictions: {during.keys()}"
        result.predictions.append(sum(map(len, during.values())))
        assert _learned(later) > learned, f"{name}: learning stood still at {learned}"
        assert len(await _stored(at)) == counted, f"{name}: a snapshot was counted that the disk did not take"
        assert later.counters.get("snapshots", 0) == told.counters.get("snapshots", 0)
        if at.rng.random() < 0.4:
            await at.fleet.kill("all")
            killed_ms = now_ms()
            await at.fleet.start("all")
            result.recovered("2s", await at.recovered_after(killed_ms))
        end()
        healed_ms = now_ms()
        result.recovered("heal", await _snapshot_since(at, healed_ms))
    await at.check(name)


async def _full_rooms(trial: Trial, disk: SmallDisk, result: Result) -> None:
    """Waiting rooms on a full disk: the partitions say so, scoring goes on, and the topics keep what waits."""
    folder = trial.folder / "waiting"
    folder.mkdir()
    join = {"store": "disk", "folder": str(disk.path / "waiting")}
    async with ground(folder, trial.seed, teams=APART, join=join) as at:
        await at.warm_up()
        async with at.load.flowing(150):
            disk.fill()
            begun_ms = now_ms()
            await _says(at, Role.JOIN, "could not be", begun_ms)
            told_ms = now_ms()
            await asyncio.sleep(LASTS_S)
            during = await at.predicted_since(told_ms, now_ms())
            assert all(during.values()), f"partitions without predictions: {during}"
            result.predictions.append(sum(map(len, during.values())))
            disk.make_room()
            healed_ms = now_ms()
            result.recovered("heal", await _blocks_since(at, healed_ms))
        result.notes.append(
            "waiting rooms on a full disk: said by the join, scoring went on, made again from the topics"
        )
        result.times += 1
        await at.check("waiting rooms on a full disk")
        result.add(await at.finish())


def _check_files(store: Path) -> None:
    """Nothing half-written lies in the store under a name that is read."""
    held = DirectoryStore(store)
    assert held.paths(), "there are no snapshots"
    for path in held.paths():
        assert held.get(path, 1 << 24), f"{path} is empty"


# ── a store behind a network ────────────────────────────────────────────────────────────────────────────────────────


class Front:
    """Stands before an S3 server and passes every request on, until it is told otherwise.

    Attributes:
        mode: "" passes on; "down" answers 503; "slow" waits SLOW_S first; "hangs" never answers; "loses" says that a
            content is stored and drops it; "late" stores it, and says that it is not there.
        refused: How many requests were not answered as they should be.
        listings: How many listings were asked for, in any mode.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.mode = ""
        self.refused = 0
        self.listings = 0
        self._target = target
        self._healed = threading.Event()
        self._late: set[str] = set()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                front.answer(self)

            do_PUT = do_HEAD = do_DELETE = do_POST = do_GET  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def begin(self, mode: str) -> None:
        """Behave in another way from the next request on."""
        self._late.clear()
        self._healed.clear()
        self.refused, self.mode = 0, mode

    def heal(self) -> None:
        """Pass on again; what hung is dropped."""
        self.mode = ""
        self._healed.set()

    def close(self) -> None:
        """End it."""
        self.heal()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        mode, path = self.mode, asked.path.partition("?")[0]
        self.listings += asked.command == "GET" and "list-type=2" in asked.path
        if mode == "late" and asked.command == "PUT":
            self._late.add(path)
        is_hidden = mode == "late" and asked.command in ("GET", "HEAD") and path in self._late
        if mode in ("down", "hangs") or (mode == "loses" and asked.command == "PUT") or is_hidden:
            self.refused += 1
        if mode == "hangs":
            self._healed.wait(HANGS_S)
            asked.close_connection = True
            return
        if mode == "slow":
            time.sleep(SLOW_S)
        if mode == "down":
            found: tuple[int, list[tuple[str, str]], bytes] = (503, [], b"")
        elif mode == "loses" and asked.command == "PUT":
            found = (200, [("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')], b"")
        elif is_hidden:
            found = (404, [], b"")
        else:
            found = self._passed_on(asked, body)
        status, headers, content = found
        asked.send_response_only(status)
        for name, value in headers:
            asked.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content)

    def _passed_on(self, asked: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection(*self._target, timeout=HANGS_S)
        try:
            headers = {name: value for name, value in asked.headers.items() if name.lower() not in _OF_THE_HOP}
            server.request(asked.command, asked.path, body, headers)
            answer = server.getresponse()
            content = answer.read()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_THE_HOP]
            return answer.status, kept, content
        finally:
            server.close()


_OF_THE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})
MODES = ("down", "slow", "loses", "late", "hangs")
REFUSING = {
    "down": "takes nothing",
    "loses": "was acknowledged by",
    "late": "was acknowledged by",
    "hangs": "does not answer",
}


@fault("F23", "the store of snapshots is down, slow, shows late what it took, or loses it", ci=5, full=50, limit_s=300)
async def lying_store(trial: Trial) -> Result:
    """Scoring and learning go on, two snapshots wait at most, what was lost is noticed, and it heals by itself."""
    result = Result()
    with s3_server() as server:
        front = Front(server.address)
        access = {"store": f"s3://{BUCKET}/loops", "endpoint": front.endpoint, "key_id": KEY_ID, "secret": SECRET}
        try:
            snapshots = {"every": "300ms", "publish": "200ms", **access}
            async with ground(trial.folder, trial.seed, snapshots=snapshots) as at:
                await at.warm_up()
                for number in range(trial.times):
                    await _with_store(at, front, MODES[number % len(MODES)], result)
                    result.times += 1
                result.add(await at.finish())
                assert not front.listings, "the index says what there is, a listing of the store may be stale"
                result.notes.append("the store was asked for no listing: the index says what there is")
        finally:
            front.close()
    return result


async def _with_store(at: Ground, front: Front, mode: str, result: Result) -> None:
    async with at.load.flowing(100):
        begun_ms = now_ms()
        front.begin(mode)
        before = await _says(at, Role.LEARN, REFUSING.get(mode, ""), begun_ms)
        counted, refused = len(await _stored(at)), front.refused
        await asyncio.sleep(LASTS_S)
        after = await _heard(at, now_ms())
        during = await at.predicted_since(begun_ms, now_ms())
        assert all(during.values()), f"{mode}: partitions without predictions: {during.keys()}"
        result.predictions.append(sum(map(len, during.values())))
        assert _learned(after) > _learned(before), f"{mode}: learning stood still at {_learned(before)}"
        waiting = [_waiting(heard) for heard in await _heartbeats(at, begun_ms)]
        assert max(waiting) <= MOST_WAITING, f"{mode}: {max(waiting)} snapshots waited"
        if mode in REFUSING:
            assert refused, f"{mode}: the store was not even asked"
            assert len(await _stored(at)) == counted, f"{mode}: a snapshot was counted that the store did not take"
            assert max(waiting) > 0
        else:
            assert len(await _stored(at)) > counted, f"{mode}: no snapshot was stored"
        front.heal()
        result.recovered("heal", await _snapshot_since(at, now_ms()))
    await at.check(f"a store that is {mode}")


def _waiting(status: MemberStatus) -> int:
    """Return how many snapshots wait, as the learner says it."""
    reasons = [each.reason for each in status.roles if each.role is Role.LEARN]
    found = re.findall(r"(\d+) snapshots?\b", " ".join(reasons))
    return max(map(int, found), default=0)


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────────────────


async def _heartbeats(at: Ground, since_ms: int) -> list[MemberStatus]:
    columns: list[Column] = await at.topics.read(at.scenario.domain.topics.status)
    recent = [record for column in columns for record in column.records[-40:] if record.timestamp >= since_ms]
    return [decode_status(record.value) for record in recent if record.value]


async def _says(at: Ground, role: Role, words: str, since_ms: int, within_s: float = 40.0) -> MemberStatus:
    """Wait until a heartbeat gives a reason of a role that holds some words."""
    end_s = time.monotonic() + within_s
    while True:
        for heard in await _heartbeats(at, since_ms):
            if any(each.role is role and words in each.reason for each in heard.roles):
                return heard
        if time.monotonic() >= end_s:
            raise at.in_vain(f"after {within_s} s no {role} says {words!r}")
        await asyncio.sleep(0.1)


async def _learner_says(at: Ground, words: str, since_ms: int) -> MemberStatus:
    return await _says(at, Role.LEARN, words, since_ms)


async def _heard(at: Ground, since_ms: int) -> MemberStatus:
    return await _says(at, Role.LEARN, "", since_ms)


def _learned(status: MemberStatus) -> int:
    return status.counters.get("learned", 0)


async def _stored(at: Ground) -> list[int]:
    """Return the times at which snapshots were indexed."""
    (column,) = await at.topics.read(at.scenario.domain.topics.snapshots)
    return [
        record.timestamp
        for record in column.records
        if record.value and manifest_of(decode_manifest(record.value).content).kind is Kind.SNAPSHOT
    ]


async def _snapshot_since(at: Ground, since_ms: int) -> float:
    """Wait for a snapshot that is newer; return the seconds."""
    end_s = time.monotonic() + HEALED_S
    while True:
        newer = [each for each in await _stored(at) if each > since_ms]
        if newer:
            return (min(newer) - since_ms) / 1_000
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{HEALED_S} s after the store was well there is no snapshot")
        await asyncio.sleep(0.1)


async def _blocks_since(at: Ground, since_ms: int) -> float:
    """Wait until every partition has a block that is newer; return the seconds."""
    end_s = time.monotonic() + HEALED_S
    while True:
        await at.topics.read(at.scenario.domain.topics.training)
        column = at.topics.training
        first: dict[int, int] = {}
        for record, each in zip(column.records, column.decoded, strict=True):
            if record.timestamp > since_ms and hasattr(each, "examples"):
                first.setdefault(each.partition, record.timestamp)
        if len(first) == at.topics.partitions:
            return (max(first.values()) - since_ms) / 1_000
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{HEALED_S} s after there was room only {sorted(first)} join")
        await asyncio.sleep(0.1)

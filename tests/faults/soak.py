"""One loop, load without end, and one fault after the other: `python -m tests.faults.soak --minutes N`.

Roles apart, two processes of each, and one with all roles that nobody ever touches: its memory and its open files are
measured. Behind a proxy stands one broker. A deck of faults is shuffled by the seed; each is followed by a pause of the
load and by checks. Those that begin with the first record are made as often as a fifth of the time allows, and at
the end; what came since the last checks is looked through after each fault.

Ends with 1 at the first violation, or when memory or open files grow; writes the table either way.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.faults.checks import Found
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.group_offsets import NON_EMPTY_GROUP, delete_group
from tests.faults.invariants import snapshots_of
from tests.faults.memory import Memory
from tests.faults.proxy import Delay, Fault, HalfOpen, Healthy, Loss
from tests.faults.table import percentile
from tests.faults.topics import prediction_source
from tests.faults.workload import BAD_EVENTS, BAD_LABELS, CODES, Sent
from tests.simulation.oracle import outcomes_of

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim
from tailrace.domain.status import Role

STEADY = "all"
TEAMS = {STEADY: ("score", "join", "learn")} | {
    f"{role}-{number}": (role,) for role in ("score", "join", "learn") for number in (1, 2)
}
ROLES = ("score", "join", "learn")
RECOVERED_S = 90.0
QUIET_S = 120.0
SWEPT_S = 2.0
LOOKS = 3
CHECK_SHARE = 0.2
BURST = 200
EXCEEDED = "exceeded"
MET = "met"
TOO_SHORT = "NOT JUDGED: the run was too short to tell"
SLOPE_MOST_MB_H = 1.0
"""What memory in use may grow. A slope that is above it by more than two standard errors fails."""
RESOLVED_MB_H = 2.0
"""Where two standard errors are more than this, or leave open whether it grows more, the run was too short to tell."""
RESIDENT_MOST_MB = 5.0
"""Resident memory, which is a mark of high water and moves by what lies where, comes no higher over its height at warm-up."""
FILES_MOST = 8
"""Connections come and go: between the median of the first and of the last quarter no more than these are added."""
WARM_UP = 0.5
"""The first part of a run; 20 minutes of it are enough for each fault to strike, and for the one that leaves everything to
the measured process so often that it holds the most that it ever does."""
JUDGED_FROM_S = 300.0
"""After the warm-up: in less, caches that still fill cannot be told from a leak; the slope is shown and not judged."""


# ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Strike = Callable[[Ground], Awaitable[None]]


def _one_of(at: Ground, role: str) -> str:
    return at.rng.choice([name for name in at.fleet.running if name.startswith(f"{role}-")])


def _killed(role: str) -> Strike:
    async def strike(at: Ground) -> None:
        name = _one_of(at, role)
        await at.fleet.kill(name)
        await at.fleet.start(name)

    return strike


def _paused(role: str) -> Strike:
    async def strike(at: Ground) -> None:
        worker = at.fleet.running[_one_of(at, role)]
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(at.rng.uniform(2.5, 6.0))
        worker.signal(signal.SIGCONT)

    return strike


def _restarted(role: str) -> Strike:
    async def strike(at: Ground) -> None:
        name = _one_of(at, role)
        await at.fleet.stop(name)
        await at.fleet.start(name)

    return strike


async def _alone(at: Ground) -> None:
    """Leave everything to the process that is measured: it then holds the most that it ever will."""
    others = [name for name in at.fleet.running if name != STEADY]
    for name in others:
        await at.fleet.kill(name)
    await asyncio.sleep(10.0)
    for name in others:
        await at.fleet.start(name)


async def _broker_restarted(at: Ground) -> None:
    await asyncio.to_thread(at.brokers.restart)


async def _broker_killed(at: Ground) -> None:
    await asyncio.to_thread(at.brokers.kill)
    await asyncio.to_thread(at.brokers.start)


async def _broker_down(at: Ground) -> None:
    await asyncio.to_thread(at.brokers.kill)
    await asyncio.sleep(10.0)
    await asyncio.to_thread(at.brokers.start)


async def _cut(at: Ground) -> None:
    assert at.proxy is not None
    for _ in range(3):
        await at.proxy.cut()
        await asyncio.sleep(at.rng.uniform(0.1, 1.0))


def _network(fault: Fault, shortest_s: float, longest_s: float) -> Strike:
    async def strike(at: Ground) -> None:
        assert at.proxy is not None
        at.proxy.fault = fault
        await asyncio.sleep(at.rng.uniform(shortest_s, longest_s))
        at.proxy.fault = Healthy()

    return strike


async def _poison(at: Ground) -> None:
    rng, partitions = at.rng, at.topics.partitions
    await at.load.send(
        [Sent("events", rng.randrange(partitions), None, rng.choice(BAD_EVENTS)[1]) for _ in range(BURST)]
        + [Sent("labels", rng.randrange(partitions), b"p", rng.choice(BAD_LABELS)[1]) for _ in range(BURST)]
    )


async def _duplicates(at: Ground) -> None:
    """Send labels of the last minutes again, a few of them many times."""
    columns = at.topics.all_of(at.scenario.domain.topics.labels)
    again = []
    for _ in range(BURST // 10):
        partition = at.rng.randrange(len(columns))
        record = at.rng.choice(columns[partition].records[-BURST:])
        again += [Sent("labels", partition, record.key, record.value or b"")] * at.rng.randrange(1, 20)
    await at.load.send(again)


async def _group_in_use_deleted(at: Ground) -> None:
    """Kafka keeps what groups with members have committed."""
    for role in ROLES:
        kept = await delete_group(at.brokers.bootstrap, at.scenario.domain.group(Role(role)))
        assert kept == NON_EMPTY_GROUP, f"a {role} group with members: {kept or 'deleted'}"


async def _store_unwritable(at: Ground) -> None:
    """A file stands where the folder of the store was; whoever may write everywhere cannot write there either."""
    store, aside = at.folder / "snapshots", at.folder / "snapshots.aside"
    store.rename(aside)
    store.write_bytes(b"")
    await asyncio.sleep(at.rng.uniform(3.0, 8.0))
    store.unlink()
    aside.rename(store)


ALONE_FIRST = 8
"""So often it comes before the others. Each takeover leaves holes between what stays; after seven the next one fits in."""
ALONE = "kill -9 of all but one, started 10 s later"
FAULTS: dict[str, Strike] = {
    **{f"kill -9 of a {role} process": _killed(role) for role in ROLES},
    **{f"SIGSTOP, SIGCONT of a {role} process": _paused(role) for role in ROLES},
    **{f"SIGTERM and start of a {role} process": _restarted(role) for role in ROLES},
    ALONE: _alone,
    "broker restarted": _broker_restarted,
    "broker killed and started": _broker_killed,
    "broker down for 10 s": _broker_down,
    "network cut": _cut,
    "network: 0.5 s delay": _network(Delay(0.5, jitter=0.2), 4.0, 8.0),
    "network: 10 % loss": _network(Loss(0.1), 4.0, 8.0),
    "network half-open": _network(HalfOpen(), 3.0, 6.0),
    "poison burst": _poison,
    "duplicate burst": _duplicates,
    "deletion of groups in use": _group_in_use_deleted,
    "store unwritable": _store_unwritable,
}
OFFSETS_DELETED = "all stopped, every group deleted, all started"


async def _offsets_deleted(at: Ground) -> None:
    names = list(at.fleet.running)
    for name in names:
        await at.fleet.stop(name)
    for role in ROLES:
        kept = await delete_group(at.brokers.bootstrap, at.scenario.domain.group(Role(role)))
        assert not kept, f"the {role} group could not be deleted: {kept}"
    for name in names:
        await at.fleet.start(name)


# ── what came since the last look ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class Sieve:
    """Looks at every record once: events without answer, identities settled twice, snapshots that differ."""

    unanswered: set[tuple[int, int]] = field(default_factory=set)
    settled: set[tuple[str, int]] = field(default_factory=set)
    digests: dict[int, str] = field(default_factory=dict)
    learned: int = 0
    _owned: OwnershipState = field(default_factory=OwnershipState)
    _seen: dict[tuple[str, int], int] = field(default_factory=dict)

    def look(self, at: Ground) -> None:
        """Look through what is new, in topics as of a quiet moment."""
        names = at.scenario.domain.topics
        bad = {value for topic, value in CODES if topic == "events"}
        for record, _ in self._new(at, names.events):
            self.unanswered.add((record.partition, record.offset))
        answered = {prediction_source(record) for record, _ in self._new(at, names.predictions)}
        for record, _ in self._new(at, names.dead_events):
            assert record.value in bad, f"a good event is in the dead letters: {record.value!r}"
        rows = {
            (block.source_partition, int(offset))
            for _, block in self._new(at, names.scored)
            for offset in block.source_offsets
        }
        self.unanswered -= answered & rows
        columns = at.topics.all_of(names.events)
        lost = [place for place in self.unanswered if columns[place[0]].records[place[1]].value not in bad]
        self.unanswered.clear()
        assert not lost, f"{len(lost)} events have no answer: {sorted(lost)[:5]}"
        for _, content in self._new(at, names.training):
            self._settle(content)
        for manifest in snapshots_of(at.topics):
            known = self.digests.setdefault(manifest.position, manifest.state_digest)
            assert known == manifest.state_digest, f"two snapshots at {manifest.position} differ"

    def _settle(self, content: Any) -> None:
        if isinstance(content, Claim):
            self._owned.claim(content)
        elif isinstance(content, TrainingBlock) and self._owned.accept(
            content.partition, content.owner, content.number
        ):
            for outcome in outcomes_of([content]):
                if outcome.kind not in ("joined", "implicit", "dropped"):
                    continue
                identity = (outcome.id, outcome.time_ms)
                assert identity not in self.settled, f"{identity} is settled twice"
                self.settled.add(identity)
                self.learned += outcome.kind == "joined"

    def _new(self, at: Ground, topic: str) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        for partition, column in enumerate(at.topics.all_of(topic)):
            begin = self._seen.get((topic, partition), 0)
            self._seen[topic, partition] = len(column.records)
            found += zip(column.records[begin:], column.decoded[begin:], strict=True)
        return found


# ── the series ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Struck:
    """One fault.

    Attributes:
        recovery_s: From its end to predictions of every partition and a new block.
    """

    name: str
    lasted_s: float
    recovery_s: float


class Slope(NamedTuple):
    """Lines of one slope through samples, each kind of sample at a height of its own.

    Attributes:
        mb_h: Their slope, in MB an hour, with its standard error `error_mb_h`.
        least_mb, most_mb: Of all samples.
    """

    mb_h: float
    error_mb_h: float
    least_mb: float
    most_mb: float

    @classmethod
    def through(cls, times_s: Sequence[float], sizes_bytes: Sequence[int], kinds: Sequence[int]) -> Slope:
        """Fit them by least squares."""
        sizes_mb = [size / 1e6 for size in sizes_bytes]
        line = _line([time_s / 3_600 for time_s in times_s], sizes_mb, kinds)
        return cls(*line, min(sizes_mb), max(sizes_mb))

    def __str__(self) -> str:
        return f"{self.least_mb:.1f} to {self.most_mb:.1f} MB, {self.mb_h:+.1f} ± {2 * self.error_mb_h:.1f} MB/h"


@dataclass
class Growth:
    """How the memory of one process grew after its warm-up.

    Attributes:
        in_use: What Python and the C library hold: this is judged.
        resident: What the system has given.
        resident_over_mb: How far it came above the most of the warm-up.
    """

    in_use: Slope
    resident: Slope
    resident_over_mb: float
    files_grown: int
    samples: int
    span_s: float

    @classmethod
    def of(cls, memory: Memory) -> Growth:
        """Fit lines to the samples after the warm-up.

        Args:
            memory: Samples of quiet moments, each after a sweep: what a recovery took for a moment is given back. A
                partition that is joined takes some MB, so samples are compared with those of as many partitions.
        """
        first_s, last_s = memory.samples[0].at_s, memory.samples[-1].at_s
        since_s = first_s + WARM_UP * (last_s - first_s)
        warm = [each.resident_bytes for each in memory.samples if each.at_s < since_s]
        kept = [each for each in memory.samples if each.at_s >= since_s]
        times_s, joined = [each.at_s for each in kept], [each.joined for each in kept]
        resident = [each.resident_bytes for each in kept]
        quarter = max(1, len(kept) // 4)
        files = [sorted(each.files for each in part)[len(part) // 2] for part in (kept[:quarter], kept[-quarter:])]
        return cls(
            Slope.through(times_s, [each.in_use_bytes for each in kept], joined),
            Slope.through(times_s, resident, joined),
            (max(resident) - max(warm)) / 1e6,
            files[1] - files[0],
            len(kept),
            times_s[-1] - times_s[0],
        )

    @property
    def verdict(self) -> str:
        """In words: whether memory is flat."""
        if self.span_s < JUDGED_FROM_S:
            return f"NOT JUDGED: measured for {self.span_s:.0f} s after the warm-up, at least {JUDGED_FROM_S:.0f} are needed"
        slope, error = self.in_use.mb_h, self.in_use.error_mb_h
        if slope - 2 * error > SLOPE_MOST_MB_H or self.resident_over_mb > RESIDENT_MOST_MB:
            return EXCEEDED
        if slope <= SLOPE_MOST_MB_H and 2 * error <= RESOLVED_MB_H:
            return MET
        return TOO_SHORT


def _line(xs: Sequence[float], ys: Sequence[float], kinds: Sequence[int]) -> tuple[float, float]:
    """Return the slope that lines through the points of each kind have in common, and its standard error.

    Source: analysis of covariance (R. A. Fisher, Statistical Methods for Research Workers, 4th edition, 1932).
    """
    freedom = len(xs) - len(set(kinds)) - 1
    xs, ys = _from_middles(xs, kinds), _from_middles(ys, kinds)
    spread = sum(x**2 for x in xs)
    if freedom < 1 or not spread:
        return 0.0, math.inf
    slope = sum(x * y for x, y in zip(xs, ys, strict=True)) / spread
    left = sum((y - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, math.sqrt(left / freedom / spread)


def _from_middles(values: Sequence[float], kinds: Sequence[int]) -> list[float]:
    """Return how far each value is from the mean of its kind."""
    of: dict[int, list[float]] = {}
    for value, kind in zip(values, kinds, strict=True):
        of.setdefault(kind, []).append(value)
    middles = {kind: sum(each) / len(each) for kind, each in of.items()}
    return [value - middles[kind] for value, kind in zip(values, kinds, strict=True)]


class Soak:
    """A series of faults on one ground."""

    def __init__(self, at: Ground, minutes: float, every_s: float, rate: float) -> None:
        self.struck: list[Struck] = []
        self.growth: Growth | None = None
        self.found: Found | None = None
        self.full_checks = 0
        self._at = at
        self._every_s = every_s
        self._rate = rate
        self._begun_s = time.monotonic()
        self._end_s = self._begun_s + 60 * minutes
        self._sieve = Sieve()
        self._memory: Memory | None = None
        self._checking_s = 0.0

    async def run(self) -> None:
        """Strike until the time is over, then check everything."""
        at = self._at
        at.load.workload.step_ms = max(1, round(1_000 / self._rate))
        await at.warm_up()
        self._memory = Memory(at.fleet.running[STEADY].pid)
        await self._look(self._memory)
        try:
            deck = [*at.rng.sample(list(FAULTS), len(FAULTS)), *[ALONE] * ALONE_FIRST]  # from its end on
            while time.monotonic() < self._end_s:
                name = deck.pop()
                await self._strike(name, FAULTS[name])
                await self._check(name)
                await self._look(self._memory)
                if not deck:
                    deck = at.rng.sample(list(FAULTS), len(FAULTS))
        finally:
            if len(self._memory.samples) > 1:
                self.growth = Growth.of(self._memory)
        await self._strike(OFFSETS_DELETED, _offsets_deleted)
        self._say("everything is checked")
        await at.load.ending()
        await at.quiet(QUIET_S)
        self.found = await at.check("the end", at_end=True)
        self.full_checks += 1

    async def _strike(self, name: str, strike: Strike) -> None:
        at, begun_s = self._at, time.monotonic()
        async with at.load.flowing(self._rate):
            await asyncio.sleep(at.rng.uniform(1.0, 3.0))
            struck_s = time.monotonic()
            await strike(at)
            over_s, over_ms = time.monotonic(), now_ms()
            predicted_s = await at.recovered(over_ms, within_s=RECOVERED_S)
            learned_s = await at.appended(at.scenario.domain.topics.training, over_ms, RECOVERED_S)
            self.struck.append(Struck(name, over_s - struck_s, max(predicted_s, learned_s)))
            await asyncio.sleep(max(0.0, min(begun_s + self._every_s, self._end_s) - time.monotonic()))
        last = self.struck[-1]
        self._say(f"{name}: {last.lasted_s:.1f} s, recovered after {last.recovery_s:.1f} s")

    async def _check(self, after: str) -> None:
        """Look through what is new; and through everything, if that is affordable."""
        begun_s = time.monotonic()
        try:
            await self._at.quiet(QUIET_S)
            quiet_s = time.monotonic()
            self._sieve.look(self._at)
        except AssertionError as failure:
            failure.add_note(f"after {after}")
            raise
        whole = self._checking_s <= CHECK_SHARE * (quiet_s - self._begun_s)
        if whole:
            found = await self._at.check(after)
            self._checking_s += 2 * (time.monotonic() - quiet_s)  # the next one takes longer
            self.full_checks += 1
            self._say(f"all is well: {found.events:,} events, {found.learned:,} learned")
        self._say(f"checked in {time.monotonic() - begun_s:.1f} s; {self._sieve.learned:,} examples so far")

    async def _look(self, memory: Memory) -> None:
        """Look at a process that has nothing to do, and holds no more than it needs.

        A partition may be recovered just then: of a few looks the one counts that saw least, of each size.
        """
        looks, steady = Memory(memory.pid), self._at.fleet.running[STEADY]
        for _ in range(LOOKS):
            steady.sweep()
            await asyncio.sleep(SWEPT_S)
            looks.look(*steady.in_use())
        self._at.fleet.complain_of_the_dead()
        least = min(looks.samples, key=lambda each: each.in_use_bytes)
        resident_bytes = min(each.resident_bytes for each in looks.samples)
        memory.samples.append(least._replace(resident_bytes=resident_bytes))

    def _say(self, words: str) -> None:
        left_s = max(0.0, self._end_s - time.monotonic())
        size = "" if self._memory is None or not self._memory.samples else _size(self._memory)
        print(f"[{len(self.struck)}, {left_s / 60:.1f} min left{size}] {words}", file=sys.stderr, flush=True)


def _size(memory: Memory) -> str:
    last = memory.samples[-1]
    return f", {last.in_use_bytes / 1e6:.1f} of {last.resident_bytes / 1e6:.1f} MB in use, {last.files} files"


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


def report(soak: Soak, seed: int, minutes: float, failure: str) -> str:
    """Return the table."""
    memory = "" if soak.growth is None else f"; memory is flat: {soak.growth.verdict}"
    lines = [
        "# Soak\n",
        f"Written by `make soak MINUTES={minutes:g}`, seed {seed}: seven processes of one loop under load without end,",
        "one fault after the other, checks after each.\n",
        f"**{'Failed: ' + failure if failure else '0 violations' + memory}**, after {len(soak.struck)} faults.\n",
        "| fault | times | longest s | recovery p50 s | recovery max s |",
        "|---|---|---|---|---|",
    ]
    for name in (*FAULTS, OFFSETS_DELETED):
        mine = [each for each in soak.struck if each.name == name]
        if mine:
            times = [each.recovery_s for each in mine]
            longest = max(each.lasted_s for each in mine)
            lines.append(f"| {name} | {len(mine)} | {longest:.1f} | {percentile(times, 0.5):.1f} | {max(times):.1f} |")
    times = [each.recovery_s for each in soak.struck]
    if times:
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        lines.append(
            f"\nRecovery over all, from the end of a fault to predictions and a block: p50 {p50:.1f} s, p99 {p99:.1f} s."
        )
    if soak.growth is not None:
        grown = soak.growth
        lines.append(
            f"Memory of the process that nobody touched, when all was quiet and it had swept, in the second half of the time "
            f"({grown.span_s / 60:.1f} minutes, {grown.samples} samples, each compared with those of as many joined partitions, "
            f"two standard errors): in use, as Python's allocator and malloc count it, {grown.in_use} (at most "
            f"{SLOPE_MOST_MB_H:g}: {grown.verdict}); resident {grown.resident}, {grown.resident_over_mb:+.1f} MB against the most of the first half (at most {RESIDENT_MOST_MB:+g}); open files: "
            f"{grown.files_grown:+d}."
        )
    if soak.found is not None:
        found = soak.found
        lines.append(
            f"{found.events:,} events, {found.labels:,} labels, {found.learned:,} examples learned, {found.lost} lost, "
            f"{found.twice} learned twice; everything was checked from its first record on {soak.full_checks} times."
        )
    return "\n".join(lines) + "\n"


async def soak(folder: Path, arguments: argparse.Namespace) -> bool:
    """Run it, write the table, return whether all was well."""
    failure = "it did not come to its end"
    snapshots = {"every": "2s", "publish": "500ms"}
    async with ground(folder, arguments.seed, teams=TEAMS, proxied=True, snapshots=snapshots) as at:
        at.rng = Random(arguments.seed)
        series = Soak(at, arguments.minutes, arguments.every, arguments.rate)
        try:
            await series.run()
            grown = series.growth
            assert grown is not None
            assert grown.verdict != EXCEEDED, f"memory grows: in use {grown.in_use}, resident {grown.resident}"
            assert grown.files_grown <= FILES_MOST, f"{grown.files_grown} more files are open"
            failure = ""
        except Exception as problem:  # whatever it is, it is told in the table
            traceback.print_exc()
            failure = f"{type(problem).__name__}: {problem}".partition("\n")[0]
        finally:
            arguments.out.write_text(report(series, arguments.seed, arguments.minutes, failure))
    return not failure


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=30.0, help="seconds from one fault to the next")
    parser.add_argument("--rate", type=float, default=200.0, help="events per second")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(name)s %(message)s")
    # The table is written on the way out, and what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="tailrace-soak-"))
    is_well = asyncio.run(soak(folder, arguments))
    print(f"the table is {arguments.out}", file=sys.stderr)
    if is_well:
        shutil.rmtree(folder)
    else:
        print(f"the logs are in {folder}", file=sys.stderr)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())

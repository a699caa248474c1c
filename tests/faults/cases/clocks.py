"""Clocks that are wrong: of workers, of producers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.workload import CODES, HORIZON_MS, Sent, Workload
from tests.scenarios.harness import until
from tests.simulation.oracle import outcomes_of

from tailrace.domain.verdicts import SILENT_MS
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import picture_of
from tailrace.wire.avro_codec import decode_status

HOUR_MS = 3_600_000
JUMPS_MS = (-HOUR_MS, -600_000, -1_500, 0, 1_500, 600_000, HOUR_MS)
TEAMS = dict.fromkeys(("ahead", "behind", "right"), ("score", "join", "learn"))
IN_1970_MS = 1
IN_2100_MS = 4_102_444_800_000
IDLE_S = 30.0


@dataclass
class Dated(Workload):
    """Some records bear a Kafka timestamp of 1970 or of 2100, whatever the time in them.

    Attributes:
        dated: How many, by timestamp.
    """

    dated: Counter[int] = field(default_factory=Counter)
    _lucks: dict[bytes, float] = field(default_factory=dict)

    def _as_event(self, name: str, time_ms: int, partition: int | None = None) -> Sent:
        return self._dated(super()._as_event(name, time_ms, partition))

    def _label(self, name: str, time_ms: int, partition: int, *, y: bool | None, **more: int) -> Sent:
        return self._dated(super()._label(name, time_ms, partition, y=y, **more))

    def _dated(self, record: Sent) -> Sent:
        assert record.value is not None
        # The same value may come twice, and has one code.
        luck = self._lucks.setdefault(record.value, self.rng.random())
        if luck > 0.1:
            return record
        at_ms = IN_1970_MS if luck < 0.05 else IN_2100_MS
        self.dated[at_ms] += 1
        if at_ms == IN_1970_MS:
            CODES[record.topic, record.value] = "time_ahead"
        return record._replace(timestamp_ms=at_ms)


@fault("F18", "clocks an hour off, jumps, records of 1970 and 2100", ci=14, full=200, limit_s=300)
async def clocks(trial: Trial) -> Result:
    """Three workers an hour apart, whose clocks jump, by 10 minutes and by an hour, back and forth, under load."""
    result = Result()
    async with ground(trial.folder, trial.seed, teams=TEAMS, workload=Dated, idle_after="1s") as at:
        await take_any_time(at)
        offsets = {"ahead": HOUR_MS, "behind": -HOUR_MS, "right": 0}
        for name, offset_ms in offsets.items():
            await at.fleet.start(name, ("clock", str(offset_ms)))
        await at.warm_up()
        while result.times < trial.times:
            async with at.load.flowing():
                for _ in range(7):
                    name = at.rng.choice(list(TEAMS))
                    offsets[name] = at.rng.choice([each for each in JUMPS_MS if each != offsets[name]])
                    at.fleet.running[name].set_clock_off(offsets[name])
                    result.times += 1
                    await at.recovered(now_ms())
                await at.fleet.kill(name := at.rng.choice(list(TEAMS)))
                await at.fleet.start(name, ("clock", str(offsets[name])))
                await at.recovered(now_ms())
            await clocks_are_off(at, offsets)
            await at.check(f"{result.times} jumps of clocks, now {offsets}")
        await all_are_seen(at)
        idle_s = await horizons_pass(at, offsets)
        result.add(await at.finish())
        load = at.load.workload
        assert isinstance(load, Dated)
        assert min(load.dated[each] for each in (IN_1970_MS, IN_2100_MS)) > 0
        result.notes.append(f"{load.dated[IN_1970_MS]} records of 1970, {load.dated[IN_2100_MS]} of 2100")
        result.notes.append(
            f"quiet labels partitions let go {idle_s:.1f} s after the last event, all clocks two hours back"
        )
    return result


async def take_any_time(at: Ground) -> None:
    """Let the user's topics take and keep records of any time."""
    names, admin = at.scenario.domain.topics, at.scenario.log.admin()
    for topic in (names.events, names.labels):
        await admin.alter(topic, {"message.timestamp.after.max.ms": str((1 << 63) - 1), "retention.ms": "-1"})
    await admin.close()


async def clocks_are_off(at: Ground, offsets: dict[str, int]) -> None:
    """Wait until heartbeats, written by the workers' clocks and dated by the broker's, differ by what was set."""

    async def differ() -> bool:
        since_ms, off_ms = now_ms() - 3_000, dict[bytes | None, int]()
        for column in await at.topics.read(at.scenario.domain.topics.status):
            for record in column.records:
                if record.timestamp >= since_ms and record.value is not None:
                    off_ms[record.key] = decode_status(record.value).time_ms - record.timestamp
        return sorted(round(each / 60_000) for each in off_ms.values()) == sorted(
            round(each / 60_000) for each in offsets.values()
        )

    await until(differ, f"the clocks of the workers are off by {offsets}")


async def all_are_seen(at: Ground) -> None:
    """Every worker runs and sends heartbeats; whatever its clock says, it is not taken for dead."""
    reading = Reading(at.scenario.settings, at.scenario.log, at.topics.reader)
    loop = at.scenario.domain.settings
    for _ in range(2 * SILENT_MS // 1_000):  # those that were killed fall silent
        members = (await picture_of(reading, at.scenario.domain.name, loop, now_ms())).status.members
        alive = [each for each in members if abs(now_ms() - each.time_ms) < SILENT_MS]
        if len(alive) == len(TEAMS):
            return
        await asyncio.sleep(1.0)
    raise at.in_vain(f"of {len(TEAMS)} workers {len(alive)} are seen")


async def horizons_pass(at: Ground, offsets: dict[str, int]) -> float:
    """Wait until labels partitions that went quiet no longer hold up horizons, though every clock went back.

    Returns:
        The seconds since the last event was sent; nothing was said on any labels partition since before that.
    """
    load = at.load.workload
    await at.check("a pause")
    for name, worker in at.fleet.running.items():
        worker.set_clock_off(offsets[name] - 2 * HOUR_MS)
    waiting: set[str] = set()
    for wave in ("quiet", "later"):  # the later ones move the watermark on
        load.now_ms += 2 * HORIZON_MS
        names = [f"{wave}-{number}" for number in range(8 * at.topics.partitions)]
        await at.load.send([Workload._as_event(load, name, load.now_ms) for name in names])
        waiting, sent_s = waiting or set(names), time.monotonic()
        await at.quiet()  # else a later one may be scored first, and those before it are stale
    began_s = time.monotonic()
    while left := waiting - {each.id for each in outcomes_of(at.topics.blocks()) if each.kind == "dropped"}:
        if time.monotonic() > began_s + IDLE_S:
            heard = {number: vector.labels_watermark_ms for number, vector in at.topics.vectors().items()}
            raise at.in_vain(f"after {load.now_ms} {len(left)} events wait for labels of quiet partitions: {heard}")
        await asyncio.sleep(0.1)
        await at.topics.refresh()
    return time.monotonic() - sent_s

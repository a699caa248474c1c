"""Looks at the topics of a loop while it runs, and says what has become of them.

What is found at the start holds until somebody changes it: a topic is deleted and made again, gets partitions or
another policy, loses its tail with a broker's disk. `compare` is pure: what was found first against what is there now.
Invariant: what breaks a promise, and does so at every look for some seconds, ends the work with the way to repair it;
what does not is said once and the work goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import structlog
from mode import Service

from tailrace.domain.errors import ForeignLogError, LogError
from tailrace.streams.log import Admin, Log, Range, Reader, TopicPartition, TopicState
from tailrace.streams.topic_plan import USUAL_REPLICATION, plan
from tailrace.wire.topics import Purpose, TopicSpec

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 2.0
LOOK_AGAIN_S: Final = 0.5
# A broker that has just come back may for a moment know less than it will: so long all looks must agree.
SURE_AFTER_S: Final = 4.0
# A look takes some milliseconds; what takes this long waits for a broker.
SILENT_AFTER_S: Final = 5.0
# Clients ask for ever for a partition that was deleted meanwhile.
ANSWER_S: Final = 3.0
RESTORE_IT: Final = (
    "Restore it with what it held, or begin a loop with another name: one that is only made again has lost what "
    "others rest on"
)
"""What to do about a topic that is gone with what others rest on."""
_CAN_BE_EMPTY: Final = (
    Purpose.PREDICTIONS,
    Purpose.COMMANDS,
    Purpose.STATUS,
    Purpose.MODEL_EVENTS,
    Purpose.DEAD_EVENTS,
    Purpose.DEAD_LABELS,
)


@dataclass(frozen=True, slots=True)
class Look:
    """The topics of a loop at one moment.

    Attributes:
        ranges: Of every partition that a broker answers for.
    """

    states: Mapping[str, TopicState]
    ranges: Mapping[TopicPartition, Range]

    @property
    def without_leader(self) -> Mapping[str, Sequence[int]]:
        """Topic → its partitions that no broker answers for, where it has such."""
        found = {
            name: [number for number in range(state.partitions) if TopicPartition(name, number) not in self.ranges]
            for name, state in self.states.items()
        }
        return {name: numbers for name, numbers in found.items() if numbers}


@dataclass(frozen=True, slots=True)
class Differences:
    """What has become of the topics since they were first looked at.

    Attributes:
        refusals: What breaks a promise, each with the next step.
        remarks: What differs and works.
    """

    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def compare(topics: Sequence[TopicSpec], before: Look, now: Look) -> Differences:
    """Say what has become of topics.

    Args:
        before: As they were found first; of every partition the furthest end that was seen since.
    """
    refusals, remarks = [], []
    for spec in topics:
        was, state = before.states.get(spec.name), now.states.get(spec.name)
        if was is None:
            continue
        if state is None:
            refusals.append(f"{spec.name} does not exist any more; it did when this process began. {_next_step(spec)}")
            continue
        if state.partitions < was.partitions:
            refusals.append(
                f"{spec.name} has {state.partitions} partitions and had {was.partitions}: it was deleted and created "
                f"anew. {_next_step(spec)}"
            )
            continue
        if state.partitions > was.partitions:
            remarks.append(
                f"{spec.name} has {state.partitions} partitions and had {was.partitions}; all of them are used"
            )
        for number in range(was.partitions):
            at = TopicPartition(spec.name, number)
            refusals += _gone_back(at, before.ranges.get(at), now.ranges.get(at))
        if spec.purpose is Purpose.TRAINING:
            at = TopicPartition(spec.name, 0)
            remarks += _cut(at, before.ranges.get(at), now.ranges.get(at))
    # Nothing is created here, so the number of brokers decides nothing: it falls whenever one restarts.
    was_planned = plan(topics, before.states, brokers=USUAL_REPLICATION)
    planned = plan(topics, now.states, brokers=USUAL_REPLICATION)
    refusals += [each for each in planned.refusals if each not in was_planned.refusals]
    remarks += [each for each in planned.remarks if each not in was_planned.remarks]
    remarks += [
        f"{each.name} has {each.present} partitions and needs {each.total}; `tailrace topics apply --yes` adds them, "
        "and until then the first dead letter for one of them ends the process"
        for each in planned.growths
        if each not in was_planned.growths
    ]
    return Differences(tuple(refusals), tuple(remarks))


def furthest(before: Look, now: Look) -> Look:
    """Return the first look with the ends of the later one, and with what was seen for the first time."""
    ranges = {at: Range(held.start, max(held.end, now.ranges.get(at, held).end)) for at, held in before.ranges.items()}
    return Look(before.states, {**now.ranges, **ranges})


def _next_step(spec: TopicSpec) -> str:
    if spec.purpose in _CAN_BE_EMPTY:
        return "Nothing rests on what it held: `tailrace topics apply --yes` makes it again, then start this process"
    return RESTORE_IT


def _gone_back(at: TopicPartition, was: Range | None, now: Range | None) -> list[str]:
    if was is None or now is None or now.end >= was.end:
        return []
    why = (
        f"{at.topic}/{at.partition} ends at offset {now.end} and ended at {was.end}: it was truncated, or deleted and "
        "created anew, and records that were acknowledged are gone. Restore the topic, or begin a loop with another "
        "name; with three replicas and min.insync.replicas=2 a broker that fails loses none"
    )
    return [why]


def _cut(at: TopicPartition, was: Range | None, now: Range | None) -> list[str]:
    if was is None or now is None or now.start <= was.start:
        return []
    what = (
        f"{at.topic} begins at offset {now.start} and began at {was.start}: what lies before was deleted and cannot be "
        "folded again. Snapshots carry on; set retention.ms=-1 and retention.bytes=-1 to keep the rest"
    )
    return [what]


class TopicWatch(Service):
    """Looks at the topics of one loop every few seconds.

    Args:
        loop: Its name.
        on_refused: Told why nothing may go on.
        on_seen: Told at every look how many partitions each topic has.

    Attributes:
        looks: How often the topics have been looked at.
        last: What was found last; None before the first look.
    """

    def __init__(
        self,
        log_: Log,
        loop: str,
        topics: Sequence[TopicSpec],
        on_refused: Callable[[LogError], None],
        on_seen: Callable[[Mapping[str, int]], None],
    ) -> None:
        super().__init__()
        self._admin: Admin = log_.admin()
        self._reader: Reader = log_.reader()
        self._name = loop
        self._topics = topics
        self._on_refused = on_refused
        self._on_seen = on_seen
        self.looks = 0
        self.last: Look | None = None
        self._asked_s: float | None = None
        self._hindrance = ""
        self._said: set[str] = set()

    @property
    def label(self) -> str:
        """For logs."""
        return f"watch of the topics of {self._name}"

    @property
    def silent_s(self) -> float:
        """For how long the topics could not be looked at; 0.0 while they can."""
        waited_s = 0.0 if self._asked_s is None else time.monotonic() - self._asked_s
        return waited_s if waited_s >= SILENT_AFTER_S else 0.0

    @property
    def hindrance(self) -> str:
        """What the log answered instead; "": nothing."""
        return self._hindrance

    async def on_start(self) -> None:
        """Open what is looked through."""
        await self.add_runtime_dependency(self._reader)

    async def on_shutdown(self) -> None:
        """Let go of connections."""
        await self._admin.close()

    @Service.task
    async def _watch(self) -> None:
        before = await self._look()
        while before is not None and not self.should_stop:
            await self.sleep(LOOK_EVERY_S)
            found = await self._compare(before)
            if found is None:
                return
            now, differences = found
            doubted_s = time.monotonic()
            while differences.refusals and time.monotonic() - doubted_s < SURE_AFTER_S:
                await self.sleep(LOOK_AGAIN_S)
                found = await self._compare(before)
                if found is None:
                    return
                now, differences = found
            for remark in differences.remarks:
                if remark not in self._said:
                    self._said.add(remark)
                    log.warning("a topic has changed", loop=self._name, what=remark)
            if differences.refusals:
                self._refuse(differences.refusals)
                return
            before = furthest(before, now)

    def _refuse(self, refusals: Sequence[str]) -> None:
        for refusal in refusals:
            log.error("a topic is not what it was; this process ends", loop=self._name, why=refusal)
        self._on_refused(ForeignLogError(f"loop {self._name}: " + "; ".join(refusals)))

    async def _compare(self, before: Look) -> tuple[Look, Differences] | None:
        now = await self._look()
        return None if now is None else (now, compare(self._topics, before, now))

    async def _look(self) -> Look | None:
        """Look once, through any outage; None: the process stops meanwhile."""
        self._asked_s = time.monotonic()
        while not self.should_stop:
            try:
                answer = await self.wait(self._ask(), timeout=ANSWER_S)
            except (LogError, TimeoutError) as problem:
                # A topic that is deleted while it is looked at, which the next look finds gone; or rights withdrawn.
                self._hindrance = str(problem)
                log.debug("the topics could not be looked at", loop=self._name, why=self._hindrance)
            else:
                if not answer.stopped and answer.result is not None:
                    self._asked_s, self._hindrance = None, ""
                    look = cast("Look", answer.result)
                    self._on_seen({name: state.partitions for name, state in look.states.items()})
                    self.looks += 1
                    self._tell_leaders(look)
                    self.last = look
                    return look
                # A question that was cut short leaves its connection open, dead or alive; the next one has another.
                await self._admin.close()
            await self.sleep(LOOK_AGAIN_S)
        return None

    def _tell_leaders(self, look: Look) -> None:
        before = {} if self.last is None else self.last.without_leader
        if look.without_leader == before:
            return
        if look.without_leader:
            log.warning(
                "partitions have no leader; what lies there waits, the others go on",
                loop=self._name,
                partitions=look.without_leader,
                next="bring back the broker that holds them; three replicas of a topic outlast one broker",
            )
        else:
            log.warning("every partition has a leader again", loop=self._name)

    async def _ask(self) -> Look:
        states = await self._admin.describe([spec.name for spec in self._topics])
        ranges = await self._reader.ranges_of(
            [TopicPartition(name, number) for name, state in states.items() for number in range(state.partitions)]
        )
        return Look(states, ranges)

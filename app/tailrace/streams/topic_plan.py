"""What must be done to the topics of a loop, and what must not be done with them.

`plan` is pure: the table of topics against what exists. Invariant: nothing is ever lowered, deleted or reset, and
a topic that breaks a promise is refused with the way to repair it, never repaired in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tailrace.domain.errors import LogError
from tailrace.streams.log import Admin, TopicState
from tailrace.wire.topics import Purpose, Rule, Setting, TopicSpec

USUAL_REPLICATION: Final = 3

# Kafka's own defaults, for settings that neither the topic nor the brokers name.
_DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "unclean.leader.election.enable": "false",
}
# More of these only costs disk or memory, so they are raised; less of any other is for a person to judge.
_RAISED: Final = frozenset({"max.message.bytes"})


@dataclass(frozen=True, slots=True)
class Creation:
    """A topic that does not exist.

    Attributes:
        is_users: It is the user's: only the demo and the embedded log create it.
        counts_as: The topic that its number of partitions was taken from.
    """

    topic: TopicState
    is_users: bool = False
    counts_as: str | None = None

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic.name


@dataclass(frozen=True, slots=True)
class Growth:
    """A topic that gets more partitions."""

    name: str
    present: int
    total: int


@dataclass(frozen=True, slots=True)
class Change:
    """Settings of a topic that are raised."""

    name: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """The difference between the table of topics and what exists.

    Attributes:
        refusals: What breaks a promise, each with the next step; nothing is applied while there is one.
        remarks: What differs and works.
        missing: Topics of the user's that do not exist and are not to be created.
    """

    creations: tuple[Creation, ...] = ()
    growths: tuple[Growth, ...] = ()
    changes: tuple[Change, ...] = ()
    refusals: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do and nothing to refuse."""
        return not (self.creations or self.growths or self.changes or self.refusals)

    def without_users(self) -> TopicPlan:
        """Return the plan for a cluster on which the user's topics are the user's business.

        A topic that takes its partitions from one of those waits until that one exists.
        """
        theirs = sorted(creation.name for creation in self.creations if creation.is_users)
        return replace(
            self,
            creations=tuple(c for c in self.creations if not c.is_users and c.counts_as not in theirs),
            remarks=(
                *self.remarks,
                *(f"{name} does not exist; create it, it is yours" for name in theirs),
                *(f"{c.name} is created when {c.counts_as} exists" for c in self.creations if c.counts_as in theirs),
            ),
            missing=tuple(theirs),
        )

    def steps(self) -> list[str]:
        """Return what is to be done with which topic, one line each."""
        return [
            *(f"create {creation.name}" for creation in self.creations),
            *(f"add partitions to {growth.name}" for growth in self.growths),
            *(f"change {change.name}" for change in self.changes),
        ]


@dataclass(slots=True)
class _Findings:
    """What `plan` has found so far."""

    creations: list[Creation] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def plan(
    topics: Sequence[TopicSpec],
    existing: Mapping[str, TopicState],
    *,
    brokers: int,
    replication: int | None = None,
) -> TopicPlan:
    """Compare the table of topics with those that exist.

    Args:
        brokers: How many there are; without `replication`, topics get 3 replicas or as many as there are brokers.
    """
    replicas = replication or min(USUAL_REPLICATION, brokers)
    found = _Findings()
    counts = _wanted(topics, existing)
    for spec in topics:
        state = existing.get(spec.name)
        if state is None:
            found.creations.append(_creation(spec, counts[spec.name], replicas))
        else:
            if not spec.is_users:
                _compare_partitions(spec, state, counts, found)
            _compare_settings(spec, state, found)
    # Where nothing is to be created it does not matter how many brokers are there just now: one may be restarting.
    if found.creations and replicas > brokers:
        found.refusals.append(
            f"{replicas} replicas are configured and there are {brokers} brokers; configure at most {brokers}, or "
            "start the others"
        )
    return TopicPlan(
        tuple(found.creations), tuple(found.growths), tuple(found.changes), tuple(found.refusals), tuple(found.remarks)
    )


async def plan_for(admin: Admin, topics: Sequence[TopicSpec], replication: int | None = None) -> TopicPlan:
    """Return the plan for what a log holds now."""
    found = await admin.describe([spec.name for spec in topics])
    return plan(topics, found, brokers=await admin.brokers(), replication=replication)


async def apply(admin: Admin, wanted: TopicPlan) -> None:
    """Carry a plan out.

    Raises:
        LogError: The plan has refusals; nothing was done.
    """
    if wanted.refusals:
        raise LogError("topics cannot be prepared: " + "; ".join(wanted.refusals))
    await admin.create([creation.topic for creation in wanted.creations])
    for growth in wanted.growths:
        await admin.add_partitions(growth.name, growth.total)
    for change in wanted.changes:
        await admin.alter(change.name, change.settings)


def _wanted(topics: Iterable[TopicSpec], existing: Mapping[str, TopicState]) -> dict[str, int]:
    """Return how many partitions each topic should have. A topic stands behind the one it counts as."""
    wanted: dict[str, int] = {}
    present: dict[str, int] = {}
    for spec in topics:
        wanted[spec.name] = spec.partitions.count or present[spec.partitions.of or spec.name]
        state = existing.get(spec.name)
        present[spec.name] = state.partitions if state is not None else wanted[spec.name]
    return wanted


def _creation(spec: TopicSpec, partitions: int, replicas: int) -> Creation:
    settings = {
        setting.name: setting.value
        for setting in spec.settings
        # With one replica there is nothing to be in sync with; and what Kafka grants by itself is left to it.
        if not (setting.name == "min.insync.replicas" and int(setting.value) > replicas)
        and not (setting.rule is Rule.ADVISED_AT_LEAST and _holds(setting, _DEFAULTS[setting.name], replicas))
    }
    return Creation(TopicState(spec.name, partitions, replicas, settings), spec.is_users, spec.partitions.of)


def _compare_partitions(spec: TopicSpec, state: TopicState, counts: Mapping[str, int], found: _Findings) -> None:
    present, wanted = state.partitions, counts[spec.name]
    of = spec.partitions.of
    same_as = f", as many as {of}" if of else ""
    if present == wanted or (present > wanted and spec.partitions.or_more):
        return
    if present < wanted and spec.partitions.or_more and spec.purpose is not Purpose.PREDICTIONS:
        found.growths.append(Growth(spec.name, present, wanted))
    elif spec.partitions.or_more:
        found.refusals.append(
            f"{spec.name} has {present} partitions and needs at least {wanted}{same_as}: a prediction has the "
            f"partition number of its event. Add partitions to it with your own tools, after those who read it agree"
        )
    elif of is None:
        found.refusals.append(
            f"{spec.name} has {present} partitions and must have {wanted}: its records have one order. "
            "Create it anew, or give the loop another name"
        )
    else:
        found.refusals.append(
            f"{spec.name} has {present} partitions and must have {wanted}{same_as}: what belongs together would lie on "
            "different partitions. Restore the number of the other topic, or give the loop another name"
        )


def _compare_settings(spec: TopicSpec, state: TopicState, found: _Findings) -> None:
    raised: dict[str, str] = {}
    for setting in spec.settings:
        present = state.settings.get(setting.name, _DEFAULTS.get(setting.name))
        if present is None or _holds(setting, present, state.replication):
            continue
        if setting.rule in (Rule.ADVICE, Rule.ADVISED_AT_LEAST):
            least = "at least " if setting.rule is Rule.ADVISED_AT_LEAST else ""
            found.remarks.append(
                f"{spec.name}: {setting.name} is {present}; {least}{setting.value} is advised ({setting.reason})"
            )
        elif setting.name in _RAISED:
            raised[setting.name] = setting.value
        else:
            word = "" if setting.rule is Rule.EXACT else "at least "
            found.refusals.append(
                f"{spec.name}: {setting.name} is {present} and must be {word}{setting.value}: {setting.reason}. "
                f"Set it with your own tools (kafka-configs --alter --topic {spec.name} "
                f"--add-config {setting.name}={setting.value})"
            )
    if raised:
        found.changes.append(Change(spec.name, raised))


def _holds(setting: Setting, present: str, replication: int) -> bool:
    if setting.rule in (Rule.AT_LEAST, Rule.ADVISED_AT_LEAST) or setting.name == "min.insync.replicas":
        if setting.name == "min.insync.replicas" and replication < int(setting.value):
            return True
        return _amount(present) >= _amount(setting.value)
    return sorted(present.split(",")) == sorted(setting.value.split(","))


def _amount(value: str) -> float:
    number = int(value)
    return float("inf") if number == -1 else number

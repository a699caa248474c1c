"""The table of topics of one loop: name, key, record, partitions, and every setting with what it promises.

What is written here is what `tailrace topics apply` makes of a broker that has none of them. For topics that exist,
each setting says with its `Rule` what may differ without breaking a promise. Comparing and changing is done elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LARGEST_MESSAGE_BYTES: Final = 1 << 20
"""`max.message.bytes` of topics that carry blocks; a block has at most half of it."""

DEAD_LETTER_BYTES: Final = 2 << 20
"""A dead letter holds the largest input record and says what was wrong with it."""

BLOCK_TOPIC_KEPT_DAYS: Final = 7
"""`scored` and `relabelled` are kept twice the horizon and this much longer: time to repair a loop that stands."""

DAY_MS: Final = 24 * 60 * 60 * 1000
FOR_EVER: Final = "-1"
DLQ_SUFFIX: Final = ".dlq"


class Rule(StrEnum):
    """What may differ between a setting in this table and that of a topic that exists."""

    EXACT = "exact"  # anything else breaks a promise
    AT_LEAST = "at_least"  # less breaks a promise; -1 is more than any number
    AT_LEAST_IF_REPLICATED = "at_least_if_replicated"  # the same, where there are at least two replicas
    ADVICE = "advice"  # anything works
    ADVISED_AT_LEAST = "advised_at_least"  # less works, until something is needed that is gone


@dataclass(frozen=True, slots=True)
class Setting:
    """One topic setting.

    Attributes:
        name: As Kafka calls it.
        reason: What is broken, or lost, when the rule is.
    """

    name: str
    value: str
    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Partitions:
    """How many partitions a topic has.

    Attributes:
        count: A number of its own; None: as many as `of`.
        of: The topic that decides instead.
        or_more: More than that is right too.
    """

    count: int | None = None
    of: str | None = None
    or_more: bool = False


class Purpose(StrEnum):
    """What a topic is for; also the name that its loop calls it by."""

    EVENTS = "events"
    LABELS = "labels"
    PREDICTIONS = "predictions"
    SCORED = "scored"
    RELABELLED = "relabelled"
    TRAINING = "training"
    COMMANDS = "commands"
    SNAPSHOTS = "snapshots"
    STATUS = "status"
    MODEL_EVENTS = "model-events"
    DEAD_EVENTS = "dead-events"
    DEAD_LABELS = "dead-labels"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic.

    Attributes:
        key, record: What the key and the value are, in words.
        schema: Name of the value's form in `schemas/`; None: the bytes of somebody else.
        is_users: The topic belongs to the user: Tailrace never changes it, and only the demo creates it.
    """

    name: str
    purpose: Purpose
    key: str
    record: str
    partitions: Partitions
    settings: tuple[Setting, ...] = ()
    schema: str | None = None
    is_users: bool = False


def snapshots_topic_of(loop: str) -> str:
    """Return the topic that indexes the snapshots of a loop, and of no other one."""
    return f"{loop}.snapshots"


@dataclass(frozen=True, slots=True)
class LoopTopics:
    """The names of the topics of one loop."""

    loop: str
    events: str
    labels: str

    @property
    def predictions(self) -> str:
        """What was served, for everyone."""
        return f"{self.loop}.predictions"

    @property
    def scored(self) -> str:
        """What was served and from which features: the join's changelog."""
        return f"{self.loop}.scored"

    @property
    def relabelled(self) -> str:
        """Labels that came on another partition than their id's."""
        return f"{self.loop}.relabelled"

    @property
    def training(self) -> str:
        """The training log."""
        return f"{self.loop}.training"

    @property
    def commands(self) -> str:
        """What people ask for."""
        return f"{self.loop}.commands"

    @property
    def snapshots(self) -> str:
        """Manifests."""
        return snapshots_topic_of(self.loop)

    @property
    def status(self) -> str:
        """Heartbeats."""
        return f"{self.loop}.status"

    @property
    def model_events(self) -> str:
        """What happened to the model."""
        return f"{self.loop}.model-events"

    @property
    def dead_events(self) -> str:
        """Events that could not be used."""
        return dlq_of(self.events)

    @property
    def dead_labels(self) -> str:
        """Labels that could not be used."""
        return dlq_of(self.labels)


def dlq_of(topic: str) -> str:
    """Return the name of the dead-letter topic of an input topic."""
    return topic + DLQ_SUFFIX


def topics_of(loop: str, events: str, labels: str, *, horizon_ms: int) -> list[TopicSpec]:
    """Return every topic of one loop: the user's first, the others in the order of the data."""
    names = LoopTopics(loop, events, labels)
    return [*_users(names, horizon_ms), *_data(names, horizon_ms), *_people(names), *_dead_letters(names)]


def _users(names: LoopTopics, horizon_ms: int) -> Iterable[TopicSpec]:
    own = Partitions(1, or_more=True)
    yield TopicSpec(names.events, Purpose.EVENTS, "any", "an event", own, schema="event", is_users=True)
    # Events lag by no more than the horizon again, so that no label waits for longer than twice that.
    kept = _kept(2 * horizon_ms, Rule.ADVISED_AT_LEAST, "a join that starts reads the labels again that still wait")
    yield TopicSpec(
        names.labels, Purpose.LABELS, "the event id, by murmur2", "a label", own, (kept,), schema="label", is_users=True
    )


def _data(names: LoopTopics, horizon_ms: int) -> Iterable[TopicSpec]:
    kept_ms = 2 * horizon_ms + BLOCK_TOPIC_KEPT_DAYS * DAY_MS
    yield TopicSpec(
        names.predictions,
        Purpose.PREDICTIONS,
        "the key of its event",
        "a prediction",
        Partitions(of=names.events, or_more=True),
        (_DELETE, *_BROKER_TIME, *_safe(Rule.ADVICE), _kept(7 * DAY_MS, Rule.ADVICE, "how far back it can be read")),
        schema="prediction",
    )
    yield TopicSpec(
        names.scored,
        Purpose.SCORED,
        "none; partition by murmur2 of the event id",
        "a block of scored rows",
        Partitions(of=names.labels),
        (_DELETE, *_BROKER_TIME, *_safe(Rule.ADVICE), _kept(kept_ms, Rule.AT_LEAST, _RECOVERY), _ANY_SIZE, _LARGEST),
        schema="scored_block",
    )
    yield TopicSpec(
        names.relabelled,
        Purpose.RELABELLED,
        "none; partition by murmur2 of the event id",
        "a forwarded label or a mark",
        Partitions(of=names.labels),
        (_DELETE, *_BROKER_TIME, *_safe(Rule.ADVICE), _kept(kept_ms, Rule.AT_LEAST, _RECOVERY), _ANY_SIZE),
        schema="forward",
    )
    log = (
        Setting("cleanup.policy", "delete", Rule.EXACT, "compaction would tear holes into the training log"),
        Setting("retention.ms", FOR_EVER, Rule.ADVICE, "what is deleted cannot be folded again"),
        Setting("retention.bytes", FOR_EVER, Rule.ADVICE, "what is deleted cannot be folded again"),
    )
    yield TopicSpec(
        names.training,
        Purpose.TRAINING,
        "none",
        "a block of examples, a claim or a skip",
        Partitions(1),
        (*log, *_BROKER_TIME, *_safe(Rule.EXACT), _LARGEST),
        schema="training_block",
    )


def _people(names: LoopTopics) -> Iterable[TopicSpec]:
    month = _kept(30 * DAY_MS, Rule.ADVICE, "how far back it can be read")
    yield TopicSpec(
        names.commands,
        Purpose.COMMANDS,
        "the loop",
        "what a person asks for",
        Partitions(1),
        (_DELETE, *_BROKER_TIME, *_safe(Rule.ADVICE), month),
    )
    yield TopicSpec(
        names.snapshots,
        Purpose.SNAPSHOTS,
        "lineage / number mod 16",
        "a manifest, small parts inline",
        Partitions(1),
        (*_compacted(16 << 20), *_BROKER_TIME, *_safe(Rule.ADVICE), _LARGEST),
        schema="manifest",
    )
    yield TopicSpec(
        names.status,
        Purpose.STATUS,
        "the member",
        "a heartbeat; null when the member leaves",
        Partitions(1),
        (*_compacted(1 << 20), *_BROKER_TIME, _OFTEN, _TOMBSTONES),
        schema="status",
    )
    yield TopicSpec(
        names.model_events,
        Purpose.MODEL_EVENTS,
        "the loop",
        "what happened to the model",
        Partitions(1),
        (_DELETE, *_BROKER_TIME, *_safe(Rule.ADVICE), month),
        schema="model_event",
    )


def _dead_letters(names: LoopTopics) -> Iterable[TopicSpec]:
    settings = (
        _DELETE,
        # A dead letter keeps its record's timestamp, however old or wrong: time cannot decide how long it is kept.
        Setting("message.timestamp.type", "CreateTime", Rule.EXACT, "the record's own timestamp would be lost"),
        Setting("message.timestamp.after.max.ms", str((1 << 63) - 1), Rule.ADVICE, "a record of the future is refused"),
        Setting("retention.ms", FOR_EVER, Rule.ADVICE, "dead letters of old records vanish at once"),
        Setting("retention.bytes", str(1 << 30), Rule.ADVICE, "how many dead letters can be looked at"),
        Setting("max.message.bytes", str(DEAD_LETTER_BYTES), Rule.AT_LEAST, "a large record cannot be set aside"),
        *_safe(Rule.ADVICE),
    )
    for topic, purpose in ((names.events, Purpose.DEAD_EVENTS), (names.labels, Purpose.DEAD_LABELS)):
        same = Partitions(of=topic, or_more=True)
        record = "as it was, with the reason in its headers"
        yield TopicSpec(dlq_of(topic), purpose, "as it was", record, same, settings)


_RECOVERY: Final = "a joiner that takes over would find a part of what it must read again deleted"
_DELETE: Final = Setting("cleanup.policy", "delete", Rule.EXACT, "compaction would remove records that still count")
_ANY_SIZE: Final = Setting("retention.bytes", FOR_EVER, Rule.AT_LEAST, _RECOVERY)
_LARGEST: Final = Setting(
    "max.message.bytes", str(LARGEST_MESSAGE_BYTES), Rule.AT_LEAST, "blocks and manifests are cut for this size"
)
_BROKER_TIME: Final = (
    Setting("message.timestamp.type", "LogAppendTime", Rule.EXACT, "a member's clock would enter the records"),
)
_OFTEN: Final = Setting("segment.ms", str(10 * 60 * 1000), Rule.ADVICE, "old heartbeats pile up")
_TOMBSTONES: Final = Setting(
    "delete.retention.ms", str(60 * 60 * 1000), Rule.ADVICE, "how long it is told that a member left"
)


def _kept(retention_ms: int, rule: Rule, reason: str) -> Setting:
    return Setting("retention.ms", str(retention_ms), rule, reason)


def _safe(unclean: Rule) -> Iterable[Setting]:
    lost = "acknowledged records could be lost"
    min_isr = Rule.AT_LEAST_IF_REPLICATED if unclean is Rule.EXACT else Rule.ADVICE
    yield Setting("min.insync.replicas", "2", min_isr, lost)
    yield Setting("unclean.leader.election.enable", "false", unclean, lost)


def _compacted(segment_bytes: int) -> Iterable[Setting]:
    yield Setting("cleanup.policy", "compact", Rule.EXACT, "the last record of each key would be deleted with time")
    yield Setting("segment.bytes", str(segment_bytes), Rule.ADVICE, "starting reads much that is out of date")
    yield Setting("min.cleanable.dirty.ratio", "0.1", Rule.ADVICE, "starting reads much that is out of date")

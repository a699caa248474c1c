"""The records that travel: frozen, units in the field names, no behaviour beyond what a field says.

Rows that travel in blocks (scored rows, examples) are columns and live in `blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from tailrace.domain.positions import Position
from tailrace.domain.times import EventTimeMs

Value: TypeAlias = float | int | bool | str
"""One feature value, typed by the contract."""

Features: TypeAlias = dict[str, Value]
"""Feature name → value, in sorted name order; an absent feature has no key."""

Owner: TypeAlias = str
"""A name that no other process ever uses; written into claims and blocks."""

LEARNER = -1
"""The partition number under which the learner claims its part of the training log."""


class Task(StrEnum):
    """What the model is asked for."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    ANOMALY = "anomaly"  # how unusual an event is; what the labels say is judged by, never learned

    @property
    def has_two_targets(self) -> bool:
        """Whether a label says yes or no."""
        return self in {Task.BINARY, Task.ANOMALY}

    @property
    def answers_numbers(self) -> bool:
        """Whether a prediction is a number, without probabilities."""
        return self in {Task.REGRESSION, Task.ANOMALY}


class Code(StrEnum):
    """Why a record could not be used: the closed list of `tailrace.dlq.code`."""

    EMPTY_VALUE = "empty_value"  # a tombstone
    TOO_LARGE = "too_large"  # more bytes, or deeper, than an input record may have
    NOT_JSON = "not_json"
    NOT_AVRO = "not_avro"  # no value of the pinned schema, to the last byte
    NOT_AN_OBJECT = "not_an_object"
    ID_MISSING = "id_missing"
    ID_INVALID = "id_invalid"  # neither text nor integer, empty, too long, not UTF-8
    TIME_MISSING = "time_missing"  # the configured time field is not there
    TIME_INVALID = "time_invalid"
    TIME_AHEAD = "time_ahead"  # more than `max_ahead` past the record's Kafka timestamp
    FEATURE_MISSING = "feature_missing"
    FEATURE_TYPE = "feature_type"
    FEATURE_NOT_FINITE = "feature_not_finite"
    FEATURE_OUT_OF_BOUNDS = "feature_out_of_bounds"
    CATEGORY_UNKNOWN = "category_unknown"
    TEXT_TOO_LONG = "text_too_long"
    TARGET_MISSING = "target_missing"
    TARGET_INVALID = "target_invalid"
    REVISION_INVALID = "revision_invalid"  # neither absent nor a whole number from 0 to 2^63 - 1
    SOURCE_INVALID = "source_invalid"  # neither absent nor text, too long, or contains NUL
    ROW_TOO_LARGE = "row_too_large"  # alone larger than half of the topic's largest message
    MODEL_FAILED = "model_failed"  # the model raised while it predicted
    LATE = "late"
    ORPHANED = "orphaned"
    CONFLICTING = "conflicting"


class Stage(StrEnum):
    """Where a record was rejected: the header `__connect.errors.stage`."""

    DECODE = "decode"
    VALIDATE = "validate"
    PREDICT = "predict"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one record cannot be used.

    Attributes:
        detail: A sentence for people. Names fields and types, never a value of a feature or a target.
        feature: The name of the feature that it is about; "": of none, or of the record as a whole.
    """

    code: Code
    stage: Stage
    detail: str
    feature: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted event."""

    id: str
    time_ms: EventTimeMs
    x: Features


class Label(NamedTuple):
    """One accepted label; a tuple, since one is made for every record of the labels topic.

    Attributes:
        y: Binary and anomaly 0.0 or 1.0, multiclass the index of the class, regression the number; None takes back
            what a lower revision said.
        partition, offset: Its source position in the labels topic.
        broker_ms: The broker's time of the record, for label-to-influence latency only.
        revision: Of what is said of one event, the highest counts; of equal ones the first.
        source: Who says it; "": it names nobody.
    """

    id: str
    time_ms: EventTimeMs
    y: float | None
    partition: int
    offset: int
    broker_ms: int
    revision: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Forward:
    """A label that came on another partition than its id's, sent on to `relabelled`.

    Attributes:
        watermark_ms: Of the labels partition it came on, just before it.
    """

    label: Label
    watermark_ms: EventTimeMs


@dataclass(frozen=True, slots=True)
class Mark:
    """Tells the other partitions how far one labels partition has been read and committed.

    Attributes:
        partition: The labels partition it speaks of.
        next_offset: Every label below it has been forwarded, if it had to be.
        watermark_ms: Of that labels partition at `next_offset`.
    """

    partition: int
    next_offset: int
    watermark_ms: EventTimeMs


@dataclass(frozen=True, slots=True)
class DeadLabel:
    """A label that the join rejected, by its source position."""

    label: Label
    code: Code


@dataclass(frozen=True, slots=True)
class Claim:
    """Takes over one partition's part of the training log.

    Attributes:
        partition: Of `scored` and `labels`; LEARNER for the learner's part.
        after: The owner that the claimer read in the log; the claim counts only if it still is. None: nobody.
        log_id: Names this log; the first claim of a log gives it its name.
    """

    partition: int
    owner: Owner
    after: Owner | None
    log_id: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The learner's word that one example raised inside a model and is left out by every fold of that branch.

    Attributes:
        number: Of the learner's records under this claim, from 1.
        position: The example that is skipped.
        branch: Lineage of the branch whose model raised.
        error: Class name of what it raised.
    """

    owner: Owner
    number: int
    position: Position
    branch: str
    error: str


@dataclass(frozen=True, slots=True)
class Admit:
    """The learner's word that a branch is folded from here on, and may be promoted.

    Attributes:
        number: As in `Skip`.
        branch: Its lineage.
        definition: `branches.Branch.text`.
        position, digest: A state of the branch that is published, and the SHA-256 of its body.
        ids: Hashes of the event ids that its filter leaves out.
        skips: Positions of the examples at which its model raised while it was warmed.
        by, why: Who asked for it, and the reason in words.
    """

    owner: Owner
    number: int
    branch: str
    definition: str
    position: Position
    digest: str
    ids: tuple[str, ...] = ()
    skips: tuple[Position, ...] = ()
    by: str = ""
    why: str = ""


class CommandKind(StrEnum):
    """What may be asked of the branches of a loop."""

    PROMOTE = "promote"  # the branch serves from here on
    RETIRE = "retire"  # the branch is not folded any more


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked for, as the learner put it into the log.

    Attributes:
        number: As in `Skip`.
        id: Given by who asked; the same in the commands topic.
        branch: Lineage of the branch that is meant.
        expected_epoch: It changes something only in this epoch.
        by, why: Who asked, and the reason in words.
        source_offset: In the commands topic; -1: the learner itself decided.
    """

    owner: Owner
    number: int
    id: str
    kind: CommandKind
    branch: str
    expected_epoch: int
    by: str
    why: str
    source_offset: int = -1


LearnerRecord: TypeAlias = Skip | Admit | Command
"""What only the learner appends to the training log, numbered together."""


class RequestKind(StrEnum):
    """What a person may ask of the learner."""

    ADMIT = "admit"  # fold a branch that was built beside, so that it may be promoted
    PROMOTE = "promote"
    RETIRE = "retire"
    SNAPSHOT = "snapshot"  # keep the state now


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks of the learner, on the commands topic.

    Attributes:
        id: Given by who asks; never used twice.
        loop, log_id: The loop and the training log that it is meant for.
        branch: Lineage of the branch that is meant; "" where none is.
        expected_epoch: As in `Command`.
        definition, position, digest, ids, skips: ADMIT alone; as in `Admit`.
    """

    id: str
    loop: str
    log_id: str
    kind: RequestKind
    branch: str
    expected_epoch: int
    by: str
    why: str
    made_at_ms: int
    definition: str = ""
    position: Position = 0
    digest: str = ""
    ids: tuple[str, ...] = ()
    skips: tuple[Position, ...] = ()

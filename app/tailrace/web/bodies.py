"""What requests and answers of the API hold: checked where it comes in, and described in OpenAPI by the same classes.

Times are RFC 3339 in UTC, positions "offset:row" of the training log, y_pred and proba as on the topic of
predictions. An event or a label is the JSON object that the loop's topic would hold, with the loop's own field names.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from tailrace.domain.status import Condition

MOST_INSTANCES: Final = 256
"""Instances of one request for predictions."""

MOST_EXPLAINED: Final = 16
"""Instances of one request that explains: some models are asked once for every feature of each."""

MOST_RECORDS: Final = 500
"""Events or labels of one request."""

MOST_LISTED: Final = 500
"""Entries of one page."""

LOOP_NAME: Final = "^[a-z][a-z0-9]*(_[a-z0-9]+)*$"

Record: TypeAlias = dict[str, Any]
LoopName: TypeAlias = Annotated[str, Field(pattern=LOOP_NAME, max_length=64)]


class Asked(BaseModel):
    """A body that comes in: nothing beside its fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Told(BaseModel):
    """A body that goes out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


class PredictRequest(Asked):
    """Events to be answered. Id and time may be left out: nothing is written, nothing is learned."""

    instances: list[Record] = Field(
        min_length=1, max_length=MOST_INSTANCES, description="Events, with the loop's own field names."
    )


class EventsRequest(Asked):
    """Events to be written."""

    loop: LoopName | None = Field(default=None, description="Which loop; needed where there are several.")
    events: list[Record] = Field(
        min_length=1, max_length=MOST_RECORDS, description="Events, with the loop's own field names."
    )


class LabelsRequest(Asked):
    """Labels to be written."""

    loop: LoopName | None = Field(default=None, description="Which loop; needed where there are several.")
    labels: list[Record] = Field(
        min_length=1, max_length=MOST_RECORDS, description="Labels, with the loop's own field names."
    )


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


class FieldError(Told):
    """What is wrong with one part of a request."""

    at: str = Field(description="Where, e.g. `events.3`.")
    code: str = Field(description="Stable name; of records the code that a dead letter would have.")
    detail: str = Field(description="What was found and what is allowed.")


class ProblemBody(Told):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was found and what is allowed.")
    instance: str = Field(
        description="Names the request; where it failed, or its token was refused, the log has the same id."
    )
    code: str = Field(description="Stable; decide by it.")
    hint: str = Field(description="What to do next.")
    errors: list[FieldError] | None = None


class Reason(Told):
    """One reason of an answer."""

    what: str = Field(description="A feature, or a step on the way down a tree.")
    effect: float | None = Field(description="How much it adds or changes; null for a step of a way.")


class ExplanationBody(Told):
    """Why the model answered so."""

    method: str = Field(description="weights, path or occlusion.")
    reasons: list[Reason]
    base: float | None = Field(description="weights: the answer without any reason.")


class InstanceAnswer(Told):
    """What became of one instance."""

    outcome: Literal["served", "abstained", "rejected"]
    event_id: str | None = Field(default=None, description="As given; null where the instance had none.")
    y_pred: bool | float | int | str | None = None
    proba: float | dict[str, float | None] | None = None
    model: str | None = Field(default=None, description="The name of the model, e.g. champion.")
    version: str | None = Field(default=None, description="Of the branch that answered, 12 digits.")
    position: str | None = Field(default=None, description="Of the state that answered, in the training log.")
    code: str | None = Field(default=None, description="Rejected: as of a dead letter.")
    detail: str | None = Field(default=None, description="Rejected: what was found and what is allowed.")
    explanation: ExplanationBody | None = None


class PredictAnswer(Told):
    """Answers in the order of the instances."""

    model: str = Field(description="The loop.")
    predictions: list[InstanceAnswer]


class Written(Told):
    """Where one record stands in the log."""

    id: str
    partition: int
    offset: int


class WriteAnswer(Told):
    """What was written, in the order of the request; it is acknowledged by the log, and not yet scored or joined."""

    loop: str
    topic: str
    written: list[Written]


class FindingBody(Told):
    """One verdict with its reason."""

    about: str
    verdict: Literal["ok", "warn", "fail"]
    reason: str
    code: Condition


class ProgressBody(Told):
    """How far one role has come in one partition."""

    role: str
    topic: str
    partition: int
    members: list[str]
    committed: int | None
    next_offset: int
    end_offset: int
    lag_records: int
    lag_seconds: float | None
    verdict: Literal["ok", "warn", "fail"]
    reason: str


class QualityBody(Told):
    """One metric of the served predictions."""

    metric: str
    window: str
    value: float | None
    samples: int
    baselines: dict[str, float]


class SnapshotBody(Told):
    """The last snapshot."""

    number: int
    position: str
    time: str | None
    size_bytes: int


class ModelStatusBody(Told):
    """The state that is furthest in the log."""

    version: str
    position: str
    learned: int
    skipped: int


class LoopStatusBody(Told):
    """One loop, as `tailrace status` shows it."""

    loop: str
    sentence: str = Field(description="For a person: what is the matter and why, what serves, what to do.")
    code: Condition = Field(description="What is the matter most: the name of the alert about it.")
    verdict: Literal["ok", "warn", "fail"]
    served_state_age_seconds: float | None = Field(description="Of the oldest state that predictions come from.")
    members: list[str]
    model: ModelStatusBody | None
    quality: list[QualityBody]
    snapshot: SnapshotBody | None
    findings: list[FindingBody]
    progress: list[ProgressBody]


class StatusAnswer(Told):
    """All loops."""

    sentence: str = Field(description="For a person: the sentence of the loop that fares worst.")
    code: Condition = Field(description="What is the matter most with that loop.")
    verdict: Literal["ok", "warn", "fail"]
    time: str | None
    loops: list[LoopStatusBody]


class FeatureBody(Told):
    """One feature of the contract."""

    name: str
    type: str
    minimum: float | None
    maximum: float | None
    values: list[str]
    most: int | None
    other: bool
    missing: bool | float | int | str
    max_length: int


class TopicsBody(Told):
    """Where the loop reads and writes."""

    events: str
    labels: str
    predictions: str
    training: str
    snapshots: str
    model_events: str


class ServingBody(Told):
    """What this process answers with now."""

    model: str
    version: str
    position: str


class ModelBody(Told):
    """A loop and its model."""

    name: str
    task: str
    model: str = Field(description="The configured champion: an expression, or module:function.")
    contract_id: str
    features: list[FeatureBody]
    classes: list[bool | int | str]
    positive: bool | int | str
    negative: bool | int | str | None = Field(description="Null: every target but the positive one.")
    event_id: str = Field(description="The field of an event that holds its id.")
    event_time: str | None
    label_id: str
    label_target: str
    label_time: str | None
    topics: TopicsBody
    serving: ServingBody | None = Field(description="Null: this process serves no model, or not yet.")


class ModelsAnswer(Told):
    """The models of this configuration."""

    models: list[ModelBody]


class VersionBody(Told):
    """One snapshot that counts."""

    number: int
    position: str
    time: str | None
    state_digest: str
    lineage: str
    size_bytes: int
    key_id: str = Field(description="Of the key that signed it.")
    versions: dict[str, str]
    counters: dict[str, int]


class VersionsAnswer(Told):
    """Snapshots, the newest first."""

    model: str
    versions: list[VersionBody]


class QualityPoint(Told):
    """Quality at one moment."""

    time: str | None
    quality: list[QualityBody]


class QualityAnswer(Told):
    """Quality over time, oldest first, as far as the heartbeats on the topic of status are still there."""

    model: str
    points: list[QualityPoint]


class PredictionBody(BaseModel):
    """A prediction as it stands on the topic."""

    model_config = ConfigDict(extra="allow", frozen=True)

    prediction_id: str
    event_id: str
    event_time: str
    y_pred: Any
    outcome: str
    model: str
    version: str
    position: str


class ModelEventBody(Told):
    """What happened to a model, as the topic of model events has it."""

    loop: str
    kind: str = Field(
        description="E.g. snapshot, drift, skip, restored, admit, promote, retire, held_back, divergence, verified."
    )
    at: str | None
    model: str = Field(description="The name of the model, e.g. champion.")
    version: str = Field(description="Of its branch, 12 digits.")
    position: str = Field(description="In the training log, exclusive.")
    detail: str = Field(description="In words.")
    numbers: dict[str, float] = Field(description="By kind, e.g. number and bytes of a snapshot.")
    texts: dict[str, str] = Field(description="By kind, e.g. digest and lineage of a snapshot.")


class GapBody(Told):
    """What came after the cursor that was given is not in the log any more, or never was; events go on behind it."""

    detail: str = Field(description="In words.")


class PredictionsAnswer(Told):
    """Predictions, the newest first."""

    loop: str
    predictions: list[PredictionBody]
    oldest: str | None = Field(
        description="The broker's time of the oldest record that this page looked at; null: it looked at none."
    )
    next: str | None = Field(description="Give it as `cursor` for the page before this one; null: there is none.")

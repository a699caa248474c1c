"""The settings tree: every table and key of tailrace.toml, with its type, default and one sentence.

`load` fills it; `field_table` prints it. Durations are whole milliseconds here and text with a unit in the file.
Paths are absolute here and relative to the file in it.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from tailrace.domain.access import is_this_machine
from tailrace.domain.contract import (
    MAX_TEXT_CHARS,
    FeatureContract,
    FeatureSpec,
    FeatureType,
    TargetContract,
)
from tailrace.domain.features import MAX_CATEGORIES
from tailrace.domain.records import Rejection, Task
from tailrace.domain.times import JoinTimes, TimeUnit
from tailrace.settings import addresses, checks, durations
from tailrace.settings.addresses import (
    EndpointAddress,
    FilePath,
    HttpAddress,
    LogAddress,
    StoreAddress,
    TopicName,
    parse_host_port,
)
from tailrace.settings.durations import DurationMs, PositiveMs
from tailrace.settings.fields import (
    ClassValue,
    Count,
    Flag,
    Group,
    Number,
    Scalar,
    Text,
    setting,
)

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
ValueFormat = Literal["json", "avro"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

TIME_UNITS = '"s", "ms", "us" or "ns"'
NAME = "the name of a field, or a dotted path to it, as text"
FORMATS = '"json" or "avro"'
FORMAT = "What the values of the topic are: JSON objects, or Avro of the pinned schema."
SCHEMA_FILE = "Avro: the .avsc file of plain values; single-object encoding of it is read too."
OLDER_FILES = "Avro: schemas that values in single-object encoding may still name."


class KafkaSettings(Group):
    """How to reach Kafka; unused with an embedded log."""

    security_protocol: SecurityProtocol = setting(
        "How connections to the brokers are protected.",
        '"PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL"',
        default="PLAINTEXT",
    )
    sasl_mechanism: SaslMechanism | None = setting(
        "How this process proves who it is; required with a SASL protocol.",
        '"PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"',
        default=None,
    )
    username: Text | None = setting("The SASL user.", "text", default=None)
    password: SecretStr | None = setting(
        "The SASL password; better given as TAILRACE_KAFKA__PASSWORD_FILE than in the file.", "text", default=None
    )
    ca_file: FilePath | None = setting(
        "PEM file of the authority that signed the brokers' certificates; the system's authorities without it.",
        "a path",
        default=None,
    )
    cert_file: FilePath | None = setting("PEM file of this client's certificate.", "a path", default=None)
    key_file: FilePath | None = setting("PEM file of the key of `cert_file`.", "a path", default=None)
    session_timeout: PositiveMs = setting(
        "A process that Kafka has not heard of for this long loses its partitions to the others.",
        durations.ALLOWED,
        default="10s",
    )
    replication: Count | None = setting(
        "Replicas of the topics that `tailrace topics apply` creates; without it 3, or as many as there are brokers.",
        "a whole number of at least 1",
        default=None,
        literal=True,
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_kafka(self))


class EventsSettings(Group):
    """Where events come from."""

    topic: TopicName = setting("The topic of the events.", addresses.TOPIC_ALLOWED)
    id: Text = setting("The field that holds the event's id: text or a whole number.", NAME)
    time: Text | None = setting(
        "The field that holds the event's time; without it the time is the record's Kafka timestamp.",
        NAME,
        default=None,
    )
    time_unit: TimeUnit = setting("The unit of a time that is a number.", TIME_UNITS, default="ms")
    format: ValueFormat = setting(FORMAT, FORMATS, default="json")
    schema_file: FilePath | None = setting(SCHEMA_FILE, "a path, with format avro", default=None)
    older_schema_files: tuple[FilePath, ...] = setting(OLDER_FILES, "a list of paths", default=(), literal=True)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_format(self))


class LabelsSettings(Group):
    """Where labels come from and how a target is read."""

    topic: TopicName = setting("The topic of the labels, keyed by event id.", addresses.TOPIC_ALLOWED)
    id: Text = setting("The field that holds the id of the event that the label belongs to.", NAME)
    target: Text = setting("The field that holds the outcome.", NAME)
    time: Text | None = setting(
        "The field that holds the label's time; without it the time is the record's Kafka timestamp.",
        NAME,
        default=None,
    )
    time_unit: TimeUnit = setting("The unit of a time that is a number.", TIME_UNITS, default="ms")
    positive: ClassValue | None = setting(
        "Binary and anomaly: the target that counts as positive; without it targets are true and false.",
        "text, a whole number, true or false",
        default=None,
        literal=True,
    )
    negative: ClassValue | None = setting(
        "Binary and anomaly: the target that counts as negative; without it, every other value of that type.",
        "text, a whole number, true or false",
        default=None,
        literal=True,
    )
    revision: Text | None = setting(
        "The field that holds the label's revision, a whole number: of one event the highest counts. Without a field "
        "every label has revision 0 and the first counts.",
        NAME,
        default=None,
    )
    source: Text | None = setting(
        "The field that says who gives the label: text, kept with what is learned from it.", NAME, default=None
    )
    classes: tuple[ClassValue, ...] | None = setting(
        "Multiclass: the targets that are classes, at least two.",
        'a list such as ["red", "green", "blue"]',
        default=None,
        literal=True,
    )
    format: ValueFormat = setting(FORMAT, FORMATS, default="json")
    schema_file: FilePath | None = setting(SCHEMA_FILE, "a path, with format avro", default=None)
    older_schema_files: tuple[FilePath, ...] = setting(OLDER_FILES, "a list of paths", default=(), literal=True)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_format(self))


class FeatureSettings(Group):
    """One feature of the contract; the short form `age = "number"` sets the type alone."""

    type: FeatureType = setting(
        "What the value is: a finite number, a whole number, true/false, one of `values`, or text.",
        '"number", "integer", "boolean", "category" or "text"',
    )
    min: Number | None = setting(
        "Smallest number that is accepted.", "a number, for number and integer", default=None, literal=True
    )
    max: Number | None = setting(
        "Greatest number that is accepted; of a category without `values`, how many of them a model knows at most: the "
        'first so many that it learns, every later one is "other" to it.',
        f"a number, for number and integer; 1 to {MAX_CATEGORIES}, for category",
        default=None,
        literal=True,
    )
    values: tuple[str, ...] | None = setting(
        "The values of a category; without them it takes `max`.",
        'a list of text such as ["de", "fr"], for category',
        default=None,
        literal=True,
    )
    other: Flag = setting(
        'Category: read a value that is not listed as "other" instead of rejecting the event.',
        "true or false",
        default=False,
        literal=True,
    )
    missing: Scalar = setting(
        "What to do with an event that lacks the feature: reject it, leave the feature absent, or use this value.",
        '"reject", "absent", or a value of the type',
        default="reject",
        literal=True,
    )
    max_length: Count | None = setting(
        "Text, and category without `values`: the most characters that are accepted.",
        "a whole number of at least 1, for text and category",
        default=None,
        shown=str(MAX_TEXT_CHARS),
        literal=True,
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_feature(self))

    def spec(self, name: str) -> FeatureSpec:
        """Return what the domain calls this feature of this name."""
        return FeatureSpec(
            name=name,
            type=self.type,
            minimum=self.min,
            maximum=None if self.type == "category" else self.max,
            most=int(self.max) if self.type == "category" and self.max is not None else None,
            values=self.values or (),
            other=self.other,
            missing=self.missing,
            max_length=self.max_length or MAX_TEXT_CHARS,
        )


def _short_form(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


class ChampionSettings(Group):
    """The model that serves."""

    model: Text = setting(
        "The model, in the words of River, or a function of yours that builds it.",
        'an expression such as "StandardScaler() | LogisticRegression()", or "module:function"',
    )
    experimental: Flag = setting(
        "Accept a model that is not on the list of proven families.", "true or false", default=False, literal=True
    )
    compiled: Literal["auto", "never"] = setting(
        "Whether the model learns and answers in compiled code, where it is one that can be and the extra "
        "`fast` is installed; its numbers equal River's up to rounding, so its branch is another one.",
        '"auto" or "never"',
        default="auto",
    )


class JoinSettings(Group):
    """Where events wait for their labels."""

    store: Literal["memory", "disk"] = setting(
        'Where waiting events and remembered ids are kept; "disk" needs the extra `disk`.',
        '"memory", which goes to disk at `max_waiting` if the extra is installed, or "disk"',
        default="memory",
    )
    max_waiting: Count = setting(
        "Most events, early labels and remembered ids of one partition in memory; beyond, they go to disk, or reading "
        "waits where the extra `disk` is not installed.",
        "a whole number of at least 1",
        default=1_000_000,
        literal=True,
    )
    max_on_disk: Count = setting(
        "Most events and remembered ids of one partition on disk; at the bound reading waits.",
        "a whole number of at least 1",
        default=100_000_000,
        literal=True,
    )
    folder: FilePath = setting(
        "Where the records on disk lie: a folder of this host's own, which may be deleted while nothing runs.",
        "a path",
        default="./waiting",
    )


class LoopSettings(Group):
    """One closed loop: events, labels, features and the model that learns."""

    task: Annotated[Task, BeforeValidator(checks.task_of)] = setting(
        "What the model is asked for.", '"binary", "multiclass", "regression" or "anomaly"'
    )
    events: EventsSettings = setting("Where events come from.", "a table", literal=True)
    labels: LabelsSettings = setting("Where labels come from.", "a table", literal=True)
    horizon: PositiveMs = setting("How long an event waits for its label, in event time.", durations.ALLOWED)
    missing: Scalar = setting(
        "What an event without a label becomes when its horizon has passed: nothing, or an example with this target.",
        '"drop", or a target',
        default="drop",
        literal=True,
    )
    disorder: DurationMs = setting(
        "How far an event may lag behind the newest one of its partition before it is left out as stale.",
        f"{durations.ALLOWED}; no longer than the horizon",
        default_from=lambda before: before.get("horizon", 0),
        shown="the horizon",
    )
    skew: DurationMs = setting(
        "How much earlier than its event a label may be dated.",
        durations.ALLOWED,
        default_from=lambda before: min(60_000, before.get("horizon", 0)),
        shown="1m, at most the horizon",
    )
    max_ahead: DurationMs = setting(
        "How far a record's time may lie past its Kafka timestamp before the record is rejected.",
        durations.ALLOWED,
        default="5m",
    )
    idle_after: PositiveMs = setting(
        "A labels partition that was quiet for this long no longer holds up the end of horizons.",
        durations.ALLOWED,
        default="30s",
    )
    join: JoinSettings = setting("Where events wait for their labels.", "a table", default={}, literal=True)
    corrections_within: DurationMs = setting(
        "How long after its horizon an event's target may still be corrected or withdrawn by a label of a higher "
        'revision, and is remembered for that; "0s": corrections are not taken.',
        durations.ALLOWED,
        default_from=lambda before: before.get("horizon", 0),
        shown="the horizon",
    )
    corrections: Literal["ignore", "refold"] = setting(
        "What becomes of corrections of what was learned: they are recorded in the log either way; `refold` also "
        "builds models anew with them.",
        '"ignore" or "refold"',
        default="ignore",
        literal=True,
    )
    features: dict[Text, Annotated[FeatureSettings, BeforeValidator(_short_form)]] = setting(
        "The feature contract: name or dotted path, and type.", 'a table such as { age = "number" }', literal=True
    )
    champion: ChampionSettings = setting("The model that serves.", "a table", literal=True)

    @model_validator(mode="after")
    def _agrees(self, info: ValidationInfo) -> Self:
        check_model = (info.context or {}).get("check_model")
        return checks.agreed(self, [*checks.of_loop(self), *checks.of_model(self, check_model)])

    @cached_property
    def contract(self) -> FeatureContract:
        """The feature contract; its id stands for the targets too."""
        features = tuple(feature.spec(name) for name, feature in self.features.items())
        return FeatureContract(features, self.target.canonical)

    @cached_property
    def target(self) -> TargetContract:
        """What a label says."""
        positive = True if self.labels.positive is None else self.labels.positive
        return TargetContract(self.task, positive, self.labels.negative, self.labels.classes or ())

    @property
    def implicit_y(self) -> float | None:
        """The target of an event whose horizon passed without a label; None: it is dropped."""
        y = None if self.missing == "drop" else self.target.read(self.missing)
        return None if isinstance(y, Rejection) else y

    @property
    def times(self) -> JoinTimes:
        """The spans that rule the join; labels are recognised for one more horizon after the first, or longer."""
        return JoinTimes(
            horizon_ms=self.horizon,
            disorder_ms=self.disorder,
            skew_ms=self.skew,
            recall_ms=max(self.horizon, self.corrections_within),
            corrections_ms=self.corrections_within,
        )

    @property
    def takes_withdrawals(self) -> bool:
        """Whether a label without a target may take one back: only a higher revision ever does."""
        return self.labels.revision is not None and self.corrections_within > 0


class SnapshotSettings(Group):
    """How often the model is kept, how often it is shown to other processes, and where."""

    every: PositiveMs = setting("How often everything that recovery needs is kept.", durations.ALLOWED, default="30s")
    publish: PositiveMs = setting(
        "How often the model is made known to scorers in other processes.", durations.ALLOWED, default="1s"
    )
    store: StoreAddress = setting("Where snapshots are kept.", addresses.STORE_ALLOWED, default="file:./snapshots")
    by: Literal["learner", "follower"] = setting(
        "Who takes the snapshots: the learner, or one of the processes with `--role follow`, so that learning does not "
        "wait while a heavy model is encoded. A follower needs the private key that signs them.",
        '"learner" or "follower"',
        default="learner",
        literal=True,
    )
    endpoint: EndpointAddress | None = setting(
        "A server that speaks the protocol of s3://, gs:// or az://, such as MinIO; without it the provider's own.",
        addresses.ENDPOINT_ALLOWED,
        default=None,
    )
    region: Text | None = setting(
        "The region of s3://; without it AWS_REGION says it, else it is us-east-1.", "text", default=None
    )
    key_id: Text | None = setting(
        "The access key id of s3://, or the storage account of az://; without it the usual AWS_* or AZURE_* variables "
        "or the rights of the machine count.",
        "text",
        default=None,
    )
    secret: SecretStr | None = setting(
        "What belongs to key_id; better given as TAILRACE_SNAPSHOTS__SECRET_FILE than in the file.",
        "text",
        default=None,
    )
    key_file: FilePath | None = setting(
        "The service account's JSON file for gs://; without it GOOGLE_* variables or the rights of the machine count.",
        "a path",
        default=None,
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_snapshots(self))

    @property
    def scheme(self) -> str:
        """`file`, `s3`, `gs` or `az`."""
        return self.store.partition(":")[0]

    @property
    def folder(self) -> Path | None:
        """The folder of a `file:` store; None: it is another one."""
        return Path(self.store.removeprefix("file:")) if self.scheme == "file" else None


class VerifySettings(Group):
    """Whether another process folds the log again, beside the workers."""

    every: DurationMs = setting(
        "How often the newest snapshots are folded again in a process of their own, at the lowest priority, from the "
        'last one that was proven on; "0s": never. Takes the memory of one more process meanwhile.',
        durations.ALLOWED,
        default="0s",
    )


class TracingSettings(Group):
    """OpenTelemetry traces, from an event to the snapshot that holds its example; needs the extra `otel`."""

    endpoint: EndpointAddress | None = setting(
        "A collector that takes OTLP over HTTP, such as http://localhost:4318; needs the extra "
        "`otel`. Without it nothing is traced.",
        addresses.ENDPOINT_ALLOWED,
        default=None,
    )
    every: Count | None = setting(
        "Of the events whose producer began no trace, each so-many-th begins one here; without it only the sampled "
        "traces of producers go on.",
        "a whole number of at least 1",
        default=None,
        literal=True,
    )


class KeySettings(Group):
    """Who may sign snapshots and commands."""

    folder: FilePath = setting(
        "Where the private keys of this machine and the list of trusted keys lie.", "a path", default="./keys"
    )


class ApiSettings(Group):
    """What is served below /v1 where `http` listens, to whoever has a token (`tailrace tokens create`)."""

    enabled: Flag = setting(
        "Whether the API is served; without it only /livez, /readyz, /startupz and /metrics are.",
        "true or false",
        default=True,
        literal=True,
    )
    tls_cert_file: FilePath | None = setting(
        "PEM file of the certificate, its chain with it: everything `http` serves is served by TLS then.",
        "a path; needed where `http` is not a loopback address",
        default=None,
    )
    tls_key_file: FilePath | None = setting("PEM file of the key of `tls_cert_file`.", "a path", default=None)
    behind_tls_proxy: Flag = setting(
        "Whether a proxy that ends TLS stands before this process, so that it may listen beyond loopback without.",
        "true or false",
        default=False,
        literal=True,
    )
    max_body: Count = setting(
        "Most bytes of a request's body.", "a whole number of at least 1", default=1_048_576, literal=True
    )
    rate: Count = setting(
        "Most requests a second of one token; twice as many may come at once.",
        "a whole number of at least 1",
        default=100,
        literal=True,
    )
    max_streams: Count = setting(
        "Most streams of events that are open at once.", "a whole number of at least 1", default=16, literal=True
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, checks.of_api(self))


class Settings(Group):
    """The whole configuration."""

    log: LogAddress = setting("Where the topics are: Apache Kafka, or a folder on this machine.", addresses.LOG_ALLOWED)
    http: HttpAddress = setting(
        "Where /livez, /readyz, /metrics and the API listen.", addresses.HTTP_ALLOWED, default="127.0.0.1:8321"
    )
    kafka: KafkaSettings = setting("How to reach Kafka.", "a table", default={}, literal=True)
    loops: dict[Annotated[str, BeforeValidator(checks.loop_name)], LoopSettings] = setting(
        "The loops by name.", f"tables [loops.NAME]; a name is {checks.LOOP_NAME_ALLOWED}", literal=True
    )
    snapshots: SnapshotSettings = setting("Snapshots of models.", "a table", default={}, literal=True)

    keys: KeySettings = setting("Who may sign snapshots and commands.", "a table", default={}, literal=True)
    api: ApiSettings = setting("The HTTP API.", "a table", default={}, literal=True)
    verify: VerifySettings = setting(
        "Whether another process folds the log again.", "a table", default={}, literal=True
    )

    tracing: TracingSettings = setting("OpenTelemetry traces.", "a table", default={}, literal=True)

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        return checks.agreed(self, [*checks.of_topics(self), *checks.of_http(self)])

    @property
    def folder(self) -> Path:
        """The folder that relative paths are relative to: the configuration file's."""
        return self._folder

    @property
    def file(self) -> Path | None:
        """The configuration file; None where everything came from the environment, or from text."""
        return self._file

    @property
    def servers(self) -> str | None:
        """`host:port[,host:port]` of Kafka; None with an embedded log."""
        return self.log.removeprefix("kafka://") if self.log.startswith("kafka://") else None

    @property
    def log_folder(self) -> Path | None:
        """The folder of an embedded log; None with Kafka."""
        return Path(self.log.removeprefix("embedded:")) if self.log.startswith("embedded:") else None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach what `http` serves."""
        return self.http_address is None or is_this_machine(self.http_address[0])

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Host and port; None: no HTTP."""
        return parse_host_port(self.http) if self.http else None

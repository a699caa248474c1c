"""Settings become an opened log, a store, keys, and the decoders of what users bring; nothing of a worker, no model.

What `main` and `inspection` both need. Cheap to import: River is not loaded, so that looking at a loop is quick.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tailrace.domain.errors import CodecError, SettingsError
from tailrace.settings import EventsSettings, LabelsSettings, LoopSettings, Settings, tls_problems
from tailrace.stores.key_folder import KeyFolder, TrustFile
from tailrace.stores.object_store import Access, ObjectStore
from tailrace.stores.snapshot_store import DirectoryStore, SnapshotStore
from tailrace.streams import failpoints
from tailrace.streams.embedded_log import EmbeddedLog
from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
from tailrace.streams.log import Log
from tailrace.wire.avro_fit import misfits, needs_of_events, needs_of_labels
from tailrace.wire.avro_objects import avro_reader
from tailrace.wire.json_codec import EventDecoder, LabelDecoder, RecordFields
from tailrace.wire.pinned_schema import PinnedSchema, read_pinned
from tailrace.wire.topics import LoopTopics

Side: TypeAlias = Literal["events", "labels"]

SIDES: Final[tuple[Side, ...]] = ("events", "labels")
DEFAULT_MECHANISM: Final = "PLAIN"  # what a client says where SASL is not used; never sent


def open_log(settings: Settings, *, reach_within_s: float | None = None) -> Log:
    """Return the log that the settings name; nothing is opened yet.

    Args:
        reach_within_s: Raise LogUnavailable when Kafka gives no answer for so long; None: wait for ever.

    Raises:
        SettingsError: A file that the connections are protected with cannot be used. Later that would look like a
            broker that is away.
    """
    if settings.log_folder is not None:
        return EmbeddedLog(settings.log_folder)
    assert settings.servers is not None, "a log is one of the two"
    kafka = settings.kafka
    options = KafkaOptions(
        bootstrap=settings.servers,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism or DEFAULT_MECHANISM,
        sasl_username=kafka.username,
        sasl_password=None if kafka.password is None else kafka.password.get_secret_value(),
        ssl_cafile=_text(kafka.ca_file),
        ssl_certfile=_text(kafka.cert_file),
        ssl_keyfile=_text(kafka.key_file),
        reach_within_s=reach_within_s,
    )
    if found := tls_problems(settings.kafka):
        raise SettingsError(found)
    return KafkaLog(options)


def open_store(settings: Settings) -> SnapshotStore:
    """Return the store that the settings name; nothing is opened or asked yet.

    Raises:
        SettingsError: What the settings and the environment say of an object store cannot be right.
    """
    snapshots = settings.snapshots
    if snapshots.folder is not None:
        return DirectoryStore(snapshots.folder, on_step=failpoints.reached)
    access = Access(
        endpoint=snapshots.endpoint,
        region=snapshots.region,
        key_id=snapshots.key_id,
        secret=None if snapshots.secret is None else snapshots.secret.get_secret_value(),
        key_file=snapshots.key_file,
    )
    return ObjectStore(snapshots.store, access)


def open_trust(settings: Settings) -> TrustFile:
    """Return the list of keys whose signatures count; no private key is touched."""
    return TrustFile(settings.keys.folder)


def open_keys(settings: Settings) -> KeyFolder:
    """Return the folder of keys, for who signs."""
    return KeyFolder(settings.keys.folder)


def topics_of(name: str, loop: LoopSettings) -> LoopTopics:
    """Return the names of the topics of a loop."""
    return LoopTopics(name, loop.events.topic, loop.labels.topic)


def event_decoder(loop: LoopSettings) -> EventDecoder:
    """Return the decoder of the events topic.

    Raises:
        SettingsError: Its schema file cannot be used.
    """
    return EventDecoder(_fields_of(loop, "events"), loop.contract)


def label_decoder(loop: LoopSettings) -> LabelDecoder:
    """Return the decoder of the labels topic.

    Raises:
        SettingsError: Its schema file cannot be used.
    """
    labels = loop.labels
    return LabelDecoder(
        _fields_of(loop, "labels"),
        labels.target,
        loop.target,
        revision=labels.revision,
        source=labels.source,
        takes_withdrawals=loop.takes_withdrawals,
    )


def schema_problems(settings: Settings) -> list[str]:
    """Return what is wrong with the schema files of all loops; nothing where every topic is JSON."""
    return [
        f"loops.{name}.{problem}"
        for name, loop in settings.loops.items()
        for side in SIDES
        for problem in _problems_of(loop, side)
    ]


def _fields_of(loop: LoopSettings, side: Side) -> RecordFields:
    settings = loop.events if side == "events" else loop.labels
    fields = RecordFields(settings.id, settings.time, settings.time_unit, loop.max_ahead)
    if settings.format == "json":
        return fields
    if problems := _problems_of(loop, side):
        raise SettingsError(problems)
    schema, *older = [schema for _, schema in _pinned(settings)[0]]
    return replace(fields, read_object=avro_reader(schema, older))


def _problems_of(loop: LoopSettings, side: Side) -> list[str]:
    settings = loop.events if side == "events" else loop.labels
    fields = RecordFields(settings.id, settings.time, settings.time_unit)
    if side == "events":
        needs = needs_of_events(fields, loop.contract)
    else:
        labels = loop.labels
        needs = needs_of_labels(fields, labels.target, loop.target, revision=labels.revision, source=labels.source)
    schemas, problems = _pinned(settings)
    for key, schema in schemas:
        # What an older schema lacks may have a default in the present one.
        is_older = key == "older_schema_files"
        needed = [need._replace(is_needed=need.is_needed and not is_older) for need in needs]
        problems += [f"{key}: {problem}" for problem in misfits(schema, needed)]
    return [f"{side}.{problem}" for problem in problems]


def _pinned(settings: EventsSettings | LabelsSettings) -> tuple[list[tuple[str, PinnedSchema]], list[str]]:
    """Return key and schema of one side, the one of plain values first, and what is wrong with their files."""
    files = [] if settings.schema_file is None else [("schema_file", settings.schema_file)]
    schemas: list[tuple[str, PinnedSchema]] = []
    problems: list[str] = []
    for key, path in (*files, *(("older_schema_files", each) for each in settings.older_schema_files)):
        try:
            schemas.append((key, read_pinned(path)))
        except CodecError as problem:
            problems.append(f"{key}: {problem}")
    return schemas, problems


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

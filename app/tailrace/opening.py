"""Settings become an opened log, a store, keys, and the decoders of what users bring; nothing of a worker, no model.

What `main` and `inspection` both need. Cheap to import: River is not loaded, so that looking at a loop is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tailrace.settings import LoopSettings, Settings
from tailrace.stores.key_folder import KeyFolder, TrustFile
from tailrace.stores.object_store import Access, ObjectStore
from tailrace.stores.snapshot_store import DirectoryStore, SnapshotStore
from tailrace.streams.embedded_log import EmbeddedLog
from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
from tailrace.streams.log import Log
from tailrace.wire.json_codec import EventDecoder, LabelDecoder, RecordFields
from tailrace.wire.topics import LoopTopics

DEFAULT_MECHANISM: Final = "PLAIN"  # what a client says where SASL is not used; never sent


def open_log(settings: Settings, *, reach_within_s: float | None = None) -> Log:
    """Return the log that the settings name; nothing is opened yet.

    Args:
        reach_within_s: Raise LogUnavailable when Kafka gives no answer for so long; None: wait for ever.
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
    return KafkaLog(options)


def open_store(settings: Settings) -> SnapshotStore:
    """Return the store that the settings name; nothing is opened or asked yet.

    Raises:
        SettingsError: What the settings and the environment say of an object store cannot be right.
    """
    snapshots = settings.snapshots
    if snapshots.folder is not None:
        return DirectoryStore(snapshots.folder)
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
    """Return the decoder of the events topic."""
    events = loop.events
    return EventDecoder(RecordFields(events.id, events.time, events.time_unit, loop.max_ahead), loop.contract)


def label_decoder(loop: LoopSettings) -> LabelDecoder:
    """Return the decoder of the labels topic."""
    labels = loop.labels
    fields = RecordFields(labels.id, labels.time, labels.time_unit, loop.max_ahead)
    return LabelDecoder(
        fields,
        labels.target,
        loop.target,
        revision=labels.revision,
        source=labels.source,
        takes_withdrawals=loop.takes_withdrawals,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

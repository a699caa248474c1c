"""A fresh log in one of its two forms, and the launcher of the real broker."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tailrace.streams.embedded_log import EmbeddedLog
from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
from tailrace.streams.log import Log, SourceSpec, TopicPartition, TopicState

REPOSITORY = Path(__file__).resolve().parents[1]
SESSION_TIMEOUT_MS = 2_000
_numbers = itertools.count(1)


def load_launcher() -> ModuleType:
    """Load deploy/kafka/launch.py, which is a script and no part of the package."""
    path = REPOSITORY / "deploy" / "kafka" / "launch.py"
    name = "tailrace_kafka_launch"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class LogForm:
    """One form of the log, with names that no other test uses.

    Attributes:
        name: "embedded" or "kafka".
        prefix: Put before topic and group names.
        address: What `tailrace.toml` would say: `kafka://…` or `embedded:…`.
    """

    name: str
    address: str
    folder: Path
    prefix: str = field(default_factory=lambda: f"t{os.getpid()}_{next(_numbers)}")

    def open(self) -> Log:
        """Open the log as another process would."""
        if self.name == "kafka":
            return KafkaLog(KafkaOptions(self.address.removeprefix("kafka://")))
        return EmbeddedLog(self.folder)

    def topic(self, name: str = "topic") -> str:
        """Return a topic name of this test's own."""
        return f"{self.prefix}.{name}"

    async def create(self, name: str = "topic", partitions: int = 1, **settings: str) -> str:
        """Create a topic; settings as `message_timestamp_type="LogAppendTime"`."""
        admin = self.open().admin()
        topic = self.topic(name)
        named = {key.replace("_", "."): value for key, value in settings.items()}
        await admin.create([TopicState(topic, partitions, 1, named)])
        await admin.close()
        return topic

    async def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the records before an offset, as retention does."""
        if self.name == "kafka":
            admin = AIOKafkaAdminClient(bootstrap_servers=self.address.removeprefix("kafka://"))
            await admin.start()
            await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(offset)})
            await admin.close()
            return
        with closing(sqlite3.connect(self.folder / "log.sqlite3")) as log, log:
            (topic,) = log.execute("select id from topics where name = ?", (partition.topic,)).fetchone()
            log.execute(f"delete from r{topic}_{partition.partition} where offset < ?", (offset,))

    def spec(self, *topics: str, group: str = "group", **options: object) -> SourceSpec:
        """Return a source spec with a short session timeout."""
        values: dict[str, object] = {"session_timeout_ms": SESSION_TIMEOUT_MS, "commit_every_s": 0.05, **options}
        return SourceSpec(f"{self.prefix}.{group}", topics, **values)  # type: ignore[arg-type]

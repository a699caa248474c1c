"""The log on Apache Kafka: opens its source, sink, reader and admin."""

from __future__ import annotations

from tailrace.streams.kafka_admin import KafkaAdmin
from tailrace.streams.kafka_client import KafkaOptions
from tailrace.streams.kafka_reader import KafkaReader
from tailrace.streams.kafka_sink import KafkaSink
from tailrace.streams.kafka_source import KafkaSource
from tailrace.streams.log import Admin, Assignment, BatchSink, Log, Reader, Sink, Source, SourceSpec

__all__ = ["KafkaLog", "KafkaOptions"]


class KafkaLog(Log):
    """One cluster."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options

    def source(self, spec: SourceSpec, sink: BatchSink, assignment: Assignment | None = None) -> Source:
        """Make a group member."""
        return KafkaSource(self._options, spec, sink, assignment)

    def sink(self, name: str) -> Sink:
        """Make a producer."""
        return KafkaSink(self._options, name)

    def reader(self) -> Reader:
        """Make a reader of ranges."""
        return KafkaReader(self._options)

    def admin(self) -> Admin:
        """Make an admin client."""
        return KafkaAdmin(self._options)

    @property
    def address(self) -> str:
        """`kafka://` and the bootstrap servers."""
        return f"kafka://{self._options.bootstrap}"

"""What cannot be used is set aside whole, or where it is too large for that, by name; nothing is stopped by it."""

from __future__ import annotations

from hashlib import sha256

import pytest
from tests.streams.log_tools import running

from tailrace.domain.records import Code, Rejection, Stage
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.embedded_store import EmbeddedRecord
from tailrace.streams.log import TopicPartition
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.dead_letter import COPY_BYTES, LEFT_OUT, SHA256, SIZE, parse

LARGEST_BYTES = 20_000
NOT_JSON = Rejection(Code.NOT_JSON, Stage.DECODE, "the value is not JSON")


def record(offset: int, value: bytes, key: bytes = b"k") -> EmbeddedRecord:
    return EmbeddedRecord("events", 0, offset, 1_000 + offset, key, value, (("from", b"test"),))


async def letters_of(log_form, *records):
    topic = await log_form.create("events.dlq", max_message_bytes=str(LARGEST_BYTES), retention_ms="-1")
    async with running(log_form.open().sink("test")) as sink, running(log_form.open().reader()) as reader:
        letters = DeadLetters(
            sink, Recorder(Instruments(), "loop"), topic=topic, partitions=1, loop="loop", member="member"
        )
        await (await letters.send([(each, NOT_JSON) for each in records]))
        held = await reader.range_of(TopicPartition(topic, 0))
        return [each async for batch in reader.read(TopicPartition(topic, 0), *held) for each in batch]


async def test_the_letter_of_a_record_that_is_too_large_holds_the_reason_and_what_tells_the_record(log_form):
    """The beginning of its value, and size and SHA-256 of all of it."""
    large = record(1, b"begin" + b"x" * LARGEST_BYTES)

    (_, letter, _) = await letters_of(log_form, record(0, b"a"), large, record(2, b"b"))

    found = parse(letter.headers)
    assert (None, large.value[:COPY_BYTES], large.timestamp) == (letter.key, letter.value, letter.timestamp)
    assert ("events", 0, 1, NOT_JSON) == (found.topic, found.partition, found.offset, found.rejection)
    headers = dict(letter.headers)
    assert LEFT_OUT in headers
    assert headers[SIZE] == b"20005"
    assert headers[SHA256] == sha256(large.value).hexdigest().encode()


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_its_neighbours_are_set_aside_whole_and_in_order(log_form, place):
    records = [record(offset, b"x" * LARGEST_BYTES if offset == place else b"%d" % offset) for offset in range(3)]

    letters = await letters_of(log_form, *records)

    assert [0, 1, 2] == [parse(letter.headers).offset for letter in letters]
    whole = [offset for offset in range(3) if offset != place]
    assert [records[offset].value for offset in whole] == [letters[offset].value for offset in whole]
    assert all(LEFT_OUT not in dict(letters[offset].headers) for offset in whole)

"""What a claim and a recovery read of the training log: heads of blocks, and only the blocks that they need whole."""

from __future__ import annotations

import gc
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.log_builders import make_block, make_claim
from tests.streams.log_tools import running

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.errors import CodecError, ForeignLogError
from tailrace.domain.ownership import OwnershipState
from tailrace.streams import training_log
from tailrace.streams.log import Outgoing
from tailrace.streams.training_log import DECODED_AT_ONCE, Hint, TrainingLog, View, add_hint
from tailrace.wire.avro_codec import encode_training

PARTITIONS = 4
BLOCKS_EACH = 300
FIRST_BLOCK = PARTITIONS
"""The claims come before it; then block n of partition p stands at FIRST_BLOCK + PARTITIONS * n + p."""


def written() -> Iterator[bytes]:
    for part in range(PARTITIONS):
        yield encode_training(make_claim(f"joiner-{part}", partition=part))
    for number in range(BLOCKS_EACH):
        for part in range(PARTITIONS):
            yield encode_training(make_block(number=number + 1, owner=f"joiner-{part}", partition=part))


@pytest.fixture
async def training(embedded_form):
    """A log that four joiners have written."""
    log = embedded_form.open()
    reader, sink = log.reader(), log.sink("joiner")
    name = await embedded_form.create()
    async with running(reader), running(sink):
        made = TrainingLog(reader, sink, name)
        await (await sink.send(made.partition, [Outgoing(None, value) for value in written()]))
        yield made


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of the blocks that are decoded."""
    found: list[int] = []
    genuine = training_log.decode_training

    def counting(value):
        content = genuine(value)
        if isinstance(content, TrainingBlock):
            found.append(content.number)
        return content

    monkeypatch.setattr(training_log, "decode_training", counting)
    return found


async def confirmed() -> bool:
    return True


def offset_of(number: int, part: int) -> int:
    return FIRST_BLOCK + PARTITIONS * number + part


async def test_a_claim_decodes_no_block(training, decoded):
    view = await training.view_from(2, None)

    claimed = await training.claim(2, "another", confirmed, view)

    assert view.last is not None
    assert view.last.offset == offset_of(BLOCKS_EACH - 1, 2)
    assert claimed.offset == offset_of(BLOCKS_EACH, 0)
    assert decoded == []


async def test_a_view_from_a_hint_reads_less_and_tells_the_same(training):
    hinted = await training.view_from(1, Hint(offset_of(200, 1), "joiner-1", 201))
    begins_at = hinted.next_offset

    await training.claim(1, "another", confirmed, hinted)

    assert begins_at == offset_of(200, 1)
    assert hinted.last is not None
    assert hinted.last.offset == offset_of(BLOCKS_EACH - 1, 1)


async def test_a_view_has_a_hint_to_every_block_that_counts(training):
    view = await training.view_from(1, Hint(offset_of(200, 1), "joiner-1", 201))
    await training.claim(1, "another", confirmed, view)

    assert view.before(offset_of(250, 1)) == Hint(offset_of(250, 1), "joiner-1", 251)
    assert view.before(offset_of(250, 3)) == Hint(offset_of(250, 1), "joiner-1", 251)
    assert view.before(offset_of(200, 0)) is None


async def test_a_hint_to_another_block_is_no_hint(training):
    view = await training.view_from(1, Hint(offset_of(200, 1), "joiner-1", 200))

    assert view.next_offset == 0


async def test_the_blocks_of_one_part_are_read_without_those_of_the_others(training, decoded):
    low, high = offset_of(100, 3), offset_of(199, 3)

    found = [pair async for batch in training.accepted(3, None, low - 1, high) for pair in batch]

    assert [offset for offset, _ in found] == list(range(low, high + 1, PARTITIONS))
    assert {block.partition for _, block in found} == {3}
    assert decoded == list(range(101, 201))


async def test_few_blocks_are_held_decoded_however_many_are_read(training):
    held_before = blocks_held()
    sizes, held = [], []
    async for batch in training.accepted(0, None, 0, offset_of(BLOCKS_EACH - 1, 0)):
        sizes.append(len(batch))
        held.append(blocks_held() - held_before)

    assert sum(sizes) == BLOCKS_EACH
    assert max(sizes) == DECODED_AT_ONCE
    assert max(held) <= DECODED_AT_ONCE


def blocks_held() -> int:
    return sum(isinstance(each, TrainingBlock) for each in gc.get_objects())


async def test_blocks_under_a_claim_that_was_taken_over_do_not_count(training):
    await training.claim(0, "another", confirmed, await training.view_from(0, None))
    await training.append(make_block(number=BLOCKS_EACH + 1, owner="joiner-0"))
    last = await training.append(make_block(number=1, owner="another"))

    found = [block.number async for batch in training.accepted(0, None, offset_of(298, 0), last) for _, block in batch]

    assert found == [BLOCKS_EACH, 1]


@pytest.mark.parametrize(("needed", "warnings"), [(0, 1), (400, 0)], ids=["cut too short", "nothing lost"])
async def test_a_log_that_begins_behind_what_is_needed_is_warned_of(training, embedded_form, needed, warnings):
    with closing(sqlite3.connect(embedded_form.folder / "log.sqlite3")) as log, log:
        (topic,) = log.execute("select id from topics where name = ?", (training.partition.topic,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset < 400")

    with capture_logs() as logs:
        async for _ in training.accepted(0, None, needed, offset_of(BLOCKS_EACH - 1, 0)):
            pass

    assert warnings == len([each for each in logs if "begins behind blocks that are still needed" in each["event"]])


@pytest.mark.parametrize("last", [offset_of(10, 1), 5_000], ids=["of another part", "after the end"])
async def test_a_log_that_does_not_come_to_the_block_that_was_there_is_refused(training, last):
    with pytest.raises(ForeignLogError, match=f"the block of partition 0 at offset {last} any more"):
        async for _ in training.accepted(0, None, 0, last):
            pass


async def test_a_block_that_stands_twice_is_found_by_its_second_offset_and_read_once(training):
    """A renewed sink sends again what it had no acknowledgement for; what is acknowledged is the second one."""
    value = encode_training(make_block(number=BLOCKS_EACH + 1, owner="joiner-0"))
    first, second = await append(training, value), await append(training, value)

    hint = Hint(offset_of(290, 0), "joiner-0", 291)
    found = [pair async for batch in training.accepted(0, hint, offset_of(298, 0), second) for pair in batch]

    numbers = [(offset, block.number) for offset, block in found]
    assert numbers == [(offset_of(299, 0), BLOCKS_EACH), (first, BLOCKS_EACH + 1)]


async def test_another_block_that_does_not_count_is_not_taken_for_the_last_that_does(training):
    last = await training.append(make_block(number=BLOCKS_EACH, owner="joiner-1"))

    with pytest.raises(ForeignLogError, match=f"the block of partition 0 at offset {last} any more"):
        async for _ in training.accepted(0, None, 0, last):
            pass


async def test_a_block_is_damaged_where_it_is_decoded(training):
    whole = encode_training(make_block(number=BLOCKS_EACH + 1, owner="joiner-0"))
    last = await append(training, whole[:-1])

    await training.claim(0, "another", confirmed, view := await training.view_from(0, None))

    assert view.last is not None
    assert view.last.offset == last
    with pytest.raises(CodecError, match="training_block is cut or damaged"):
        async for _ in training.accepted(0, None, 0, last):
            pass


@pytest.mark.parametrize(
    ("value", "why"), [(b"a word", "6 bytes that are no Avro single-object encoding"), (None, "has no value")]
)
async def test_a_record_that_is_none_of_ours_is_named(training, value, why):
    offset = await append(training, value)
    view = await training.view_from(0, None)

    with pytest.raises(CodecError, match=why):
        await training.claim(0, "another", confirmed, view)

    assert view.next_offset == offset, "nobody passes it over"


async def append(training: TrainingLog, value: bytes | None) -> int:
    delivery = await training._sink.send(training.partition, [Outgoing(None, value)])
    return (await delivery)[0]


def test_where_the_first_claims_are_gone_the_first_block_says_whose_the_part_is():
    view = View(1, 10, OwnershipState(), is_cut=True)
    blocks = [
        make_block(number=1, owner="joiner-0"),
        make_block(number=7, owner="joiner-1", partition=1),
        make_block(number=1, owner="stale", partition=1),
        make_block(number=8, owner="joiner-1", partition=1),
    ]

    counting = [view.read(record(10 + place, encode_training(block))) for place, block in enumerate(blocks)]

    assert counting == [False, True, False, True]
    assert view.ownership.log_id == "log"
    assert list(view.hints) == [Hint(11, "joiner-1", 7), Hint(13, "joiner-1", 8)]


def record(offset: int, value: bytes) -> Any:
    return SimpleNamespace(topic="loop.training", partition=0, offset=offset, value=value)


def test_hints_begin_at_or_before_the_oldest_row_and_stay_few():
    hints: deque[Hint] = deque()
    for offset in range(50_000):
        add_hint(hints, Hint(offset, "owner", offset), oldest_row=max(0, offset - 30_000))

    assert hints[0].offset <= 49_999 - 30_000 < hints[1].offset
    assert hints[-1].offset == 49_999
    assert len(hints) <= 10_000


def test_a_hint_is_read_as_it_was_written_and_anything_else_is_none():
    assert Hint.load(Hint(3, "owner", 2).dump()) == Hint(3, "owner", 2)
    assert Hint.load("{}") is None

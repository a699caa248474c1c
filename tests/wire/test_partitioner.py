"""Partitions are those that Kafka's own clients choose."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from tailrace.wire.partitioner import SMALL_BATCH, crc32_partition_of, murmur2_batch, partitions_of

KEYS = st.lists(st.binary(max_size=40), min_size=1, max_size=3 * SMALL_BATCH)


@given(KEYS, st.integers(1, 100))
def test_partitions_equal_those_of_aiokafka(keys: list[bytes], partitions: int) -> None:
    everything = list(range(partitions))

    expected = [DefaultPartitioner()(key, everything, everything) for key in keys]

    assert expected == partitions_of(keys, partitions)


@given(KEYS)
def test_a_batch_hashes_as_each_key_alone(keys: list[bytes]) -> None:
    assert [murmur2(key) & 0xFFFFFFFF for key in keys] == murmur2_batch(keys).tolist()


@pytest.mark.parametrize("count", [0, 1, SMALL_BATCH, SMALL_BATCH + 1, 500])
def test_the_size_of_a_batch_does_not_matter(count: int) -> None:
    keys = [f"event-{number}".encode() for number in range(count)]

    assert [partitions_of([key], 7)[0] for key in keys] == partitions_of(keys, 7)


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hashes_are_those_of_kafkas_own_test(key: bytes, hash_: int) -> None:
    """The cases of org.apache.kafka.common.utils.UtilsTest.testMurmur2."""
    assert [hash_ & 0xFFFFFFFF] == murmur2_batch([key]).tolist()
    assert [(hash_ & 0x7FFFFFFF) % 97] == partitions_of([key], 97)


def test_librdkafkas_default_partitioner_is_known() -> None:
    """crc32("123456789") is 0xcbf43926, the check value of the algorithm."""
    assert 0xCBF43926 % 10 == crc32_partition_of(b"123456789", 10)

"""Which partition a key belongs to, as Kafka's own clients decide it, for whole batches.

`murmur2` is Kafka's default partitioner (`org.apache.kafka.common.utils.Utils.murmur2`); `crc32` is what librdkafka's
clients use when nobody sets `partitioner=murmur2_random`, kept here to recognise them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF

SMALL_BATCH: Final = 16
"""Up to so many keys, one by one is faster than numpy."""


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """Return the partition of each key, as Kafka's default partitioner gives it."""
    if partitions == 1:
        return [0] * len(keys)
    if len(keys) <= SMALL_BATCH:
        return [(murmur2(key) & _POSITIVE) % partitions for key in keys]
    hashes: list[int] = ((murmur2_batch(keys) & np.uint32(_POSITIVE)) % np.uint32(partitions)).tolist()
    return hashes


def crc32_partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key as librdkafka's `consistent` partitioners give it."""
    return zlib.crc32(key) % partitions


def murmur2(key: bytes) -> int:
    """Return the hash of one key, as an unsigned 32-bit number."""
    size = len(key)
    h = _SEED ^ size
    whole = size & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < size:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def murmur2_batch(keys: Sequence[bytes]) -> NDArray[np.uint32]:
    """Return the hash of each key; keys of one length are hashed together."""
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    hashes = np.empty(len(keys), np.uint32)
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        hashes[rows] = _murmur2_of_size([keys[row] for row in rows.tolist()], size)
    return hashes


def _murmur2_of_size(keys: list[bytes], size: int) -> NDArray[np.uint32]:
    # Arithmetic on uint32 arrays wraps at 32 bits, which is what the algorithm means.
    m = np.uint32(_M)
    raw = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), size)
    h = np.full(len(keys), _SEED ^ size, np.uint32)
    whole = size & ~3
    for word in np.ascontiguousarray(raw[:, :whole]).view("<u4").T:
        k = word * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    if whole < size:
        for index in range(whole, size):
            h ^= raw[:, index].astype(np.uint32) << np.uint32(8 * (index - whole))
        h *= m
    h ^= h >> np.uint32(13)
    h *= m
    return h ^ (h >> np.uint32(15))

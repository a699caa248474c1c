"""The snapshot file: what was written comes back, and nothing else is ever taken for a snapshot."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from tailrace.domain.errors import ContractError, SnapshotRefused
from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import MAX_INLINE_BYTES, Kind, Manifest, Part, canonical_json, digest_of
from tailrace.stores.snapshot_file import Expected, Packed, Snapshot, pack, read, read_inline, write

LINEAGE = "a" * 64
BODIES = {"loop": b"counters of the loop", "champion": b"weights " * 400}
HEAD_BYTES = 47
REASONS = {
    "too_large", "magic", "format", "manifest", "lineage", "log", "kind", "older", "index", "length",
    "stored_digest", "compression", "digest",
}  # fmt: skip


def make_manifest(packed: Packed, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "lineage": LINEAGE,
        "loop": "phishing",
        "log_id": "log-1",
        "kind": Kind.SNAPSHOT,
        "number": 1,
        "position": position_of(10),
        "last_block_offset": 9,
        "last_block_digest": "7" * 64,
        "parts": packed.parts,
        "state_digest": "5" * 64,
        "previous_digest": None,
        "counters": {"learned": 7},
        "versions": {"river": "0.26.1"},
        "created_at_ms": 1_000,
    }
    return Manifest(**(fields | changes))


def make_file(*, compress: bool = True, **changes: Any) -> tuple[Manifest, bytes]:
    packed = pack(BODIES, compress=compress)
    manifest = make_manifest(packed, **changes)
    return manifest, write(manifest, packed.stored)


def refusal_of(content: bytes, expected: Expected) -> SnapshotRefused:
    with pytest.raises(SnapshotRefused) as refused:
        read(content, expected)
    return refused.value


def forged(manifest: Manifest, body: bytes) -> bytes:
    """A file with a manifest that fits itself, as somebody with write access to the store would make it."""
    head = canonical_json(manifest)
    return struct.pack(">9sHI32s", b"TAILRACE\0", 1, len(head), sha256(head).digest()) + head + body


# ── what was written comes back ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_comes_back_with_manifest_and_bodies(compress: bool):
    manifest, content = make_file(compress=compress)

    snapshot = read(content, Expected(LINEAGE, index=manifest, kind=Kind.SNAPSHOT))

    assert manifest == snapshot.manifest
    assert BODIES == snapshot.bodies


def test_only_bodies_that_gain_by_it_are_compressed():
    noise = random.Random(1).randbytes(5_000)

    packed = pack({"small": b"a" * 99, "noise": noise, "text": b"a" * 5_000}, compress=True)

    assert [False, False, True] == [part.is_compressed for part in packed.parts]
    assert digest_of(noise) == packed.parts[1].digest


def test_the_digest_of_a_body_does_not_depend_on_compression():
    assert [part.digest for part in pack(BODIES).parts] == [part.digest for part in pack(BODIES, compress=True).parts]


def test_a_snapshot_without_parts_is_a_snapshot():
    manifest = make_manifest(pack({}))

    assert Snapshot(manifest, {}) == read(write(manifest, {}), Expected(LINEAGE))


def test_small_parts_come_back_from_the_index_record():
    packed = pack(BODIES, compress=True)
    manifest = make_manifest(packed, inline=packed.stored)

    assert packed.fits_inline
    assert BODIES == read_inline(manifest, Expected(LINEAGE)).bodies


def test_parts_of_more_than_256_kb_do_not_fit_inline():
    packed = pack({"champion": bytes(MAX_INLINE_BYTES + 1)})

    assert not packed.fits_inline
    with pytest.raises(SnapshotRefused) as refused:
        read_inline(make_manifest(packed, inline=packed.stored), Expected(LINEAGE))
    assert "too_large" == refused.value.reason


@pytest.mark.parametrize(
    ("inline", "reason"),
    [
        ({"loop": BODIES["loop"]}, "length"),
        ({"loop": BODIES["loop"], "champion": b"short"}, "length"),
        ({"loop": BODIES["loop"], "champion": b"Weights " + b"weights " * 399}, "stored_digest"),
    ],
)
def test_inline_parts_that_are_not_those_of_the_manifest_are_refused(inline: dict[str, bytes], reason: str):
    with pytest.raises(SnapshotRefused) as refused:
        read_inline(make_manifest(pack(BODIES), inline=inline), Expected(LINEAGE))

    assert reason == refused.value.reason


def test_writing_other_parts_than_described_is_our_own_mistake():
    packed = pack(BODIES)

    with pytest.raises(ContractError, match=r"pack\(\)"):
        write(make_manifest(packed), {"loop": b"counters"})
    with pytest.raises(ContractError, match="allowed are 65536"):
        write(make_manifest(packed, versions={"river": "1" * 70_000}), packed.stored)


# ── the load order ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_refuses_by_name():
    manifest, content = make_file()
    good = Expected(LINEAGE, index=manifest)

    reasons = [
        refusal_of(content, replace(good, max_file_bytes=len(content) - 1)).reason,
        refusal_of(b"", good).reason,
        refusal_of(b"PK" + content[2:], good).reason,
        refusal_of(content[:9] + b"\0\2" + content[11:], good).reason,
        refusal_of(content[:11] + b"\xff\xff\xff\xff" + content[15:], good).reason,
        refusal_of(content, Expected("b" * 64)).reason,
        refusal_of(content, Expected(LINEAGE, log_id="log-2")).reason,
        refusal_of(content, Expected(LINEAGE, kind=Kind.PUBLICATION)).reason,
        refusal_of(content, Expected(LINEAGE, not_below=position_of(11))).reason,
        refusal_of(content, Expected(LINEAGE, index=replace(manifest, number=2))).reason,
        refusal_of(content[:-1], good).reason,
        refusal_of(content + b"\0", good).reason,
        refusal_of(content[:-1] + b"\0", good).reason,
        refusal_of(content, replace(good, max_body_bytes=100)).reason,
    ]

    assert [
        "too_large", "magic", "magic", "format", "manifest", "lineage", "log", "kind", "older", "index",
        "length", "length", "stored_digest", "too_large",
    ] == reasons  # fmt: skip


def test_a_bomb_is_stopped_at_the_announced_size():
    bomb = zlib.compress(bytes(50_000_000), 9)
    part = Part("champion", "1" * 64, 1_000, digest_of(bomb), len(bomb))

    refusal = refusal_of(forged(make_manifest(Packed((part,), {})), bomb), Expected(LINEAGE))

    assert "compression" == refusal.reason


def test_a_bomb_that_announces_itself_is_stopped_by_the_cap():
    bomb = zlib.compress(bytes(50_000_000), 9)
    part = Part("champion", "1" * 64, 50_000_000, digest_of(bomb), len(bomb))

    refusal = refusal_of(forged(make_manifest(Packed((part,), {})), bomb), Expected(LINEAGE, max_body_bytes=1_000_000))

    assert "too_large" == refusal.reason


@pytest.mark.parametrize(
    ("stored", "size_bytes", "reason"),
    [
        (b"no zlib at all", 8, "compression"),
        (zlib.compress(b"weights!")[:-1], 8, "compression"),
        (zlib.compress(b"weights!") + b"more", 8, "compression"),
        (zlib.compress(b"weights"), 8, "compression"),
        (zlib.compress(b"weights!!"), 8, "compression"),
        (zlib.compress(b"Weights!"), 8, "digest"),
    ],
)
def test_a_forged_part_is_refused_after_its_stored_digest_fits(stored: bytes, size_bytes: int, reason: str):
    part = Part("champion", digest_of(b"weights!"), size_bytes, digest_of(stored), len(stored))

    assert reason == refusal_of(forged(make_manifest(Packed((part,), {})), stored), Expected(LINEAGE)).reason


def test_a_part_larger_than_the_file_allocates_nothing():
    part = Part("champion", "1" * 64, 1, "2" * 64, (1 << 62))

    assert "length" == refusal_of(forged(make_manifest(Packed((part,), {})), b"x"), Expected(LINEAGE)).reason


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def mutants(content: bytes, manifest: Manifest, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged forms of a file, none equal to it."""
    rng = random.Random(seed)
    begin = len(content) - manifest.stored_bytes
    first = manifest.parts[0].stored_bytes
    swapped = content[:begin] + content[begin + first :] + content[begin : begin + first]
    yield from (b"", swapped, content * 2, content[::-1], content[:HEAD_BYTES], content[:begin])
    for _ in range(count - 6):
        damaged = bytearray(content)
        act = rng.randrange(6)
        where = rng.randrange(len(content))
        if act == 0:
            damaged[where] ^= 1 << rng.randrange(8)
        elif act == 1:
            del damaged[where:]
        elif act == 2:
            damaged += rng.randbytes(rng.randint(1, 50))
        elif act == 3:
            del damaged[where : where + rng.randint(1, 30)]
        elif act == 4:
            damaged[where:where] = rng.randbytes(rng.randint(1, 30))
        else:
            damaged[11:15] = struct.pack(">I", rng.choice([0, 1, 65_536, 65_537, 1 << 31, (1 << 32) - 1]))
        yield bytes(damaged)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("has_index", [False, True])
def test_no_damaged_file_is_ever_loaded(*, compress: bool, has_index: bool):
    manifest, content = make_file(compress=compress)
    expected = Expected(LINEAGE, index=manifest if has_index else None)

    found = [refusal_of(mutant, expected).reason for mutant in mutants(content, manifest, 1_000, seed=int(compress))]

    assert 1_000 == len(found)
    assert set(found) <= REASONS
    assert {"magic", "format", "manifest", "length", "stored_digest"} <= set(found)

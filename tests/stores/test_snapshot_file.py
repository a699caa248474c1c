"""The snapshot file: what was written comes back, and nothing else is ever taken for a snapshot."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import pytest
from tests.keys import make_key, trusting

from tailrace.domain.errors import ContractError, SnapshotRefused
from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import MAX_INLINE_BYTES, Kind, Manifest, Part, Sealed, canonical_json, digest_of
from tailrace.stores.signing import Purpose, TrustedKey, TrustList
from tailrace.stores.snapshot_file import (
    MAX_GROWTH,
    Expected,
    Packed,
    Snapshot,
    file_bytes,
    pack,
    read,
    read_inline,
    seal,
    signed,
    unseal,
    write,
)

LINEAGE = "a" * 64
BODIES = {"loop": b"counters of the loop", "champion": b"weights " * 400}
KEY = make_key()
NOW_MS = 5_000


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
    return signed(Manifest(**(fields | changes)), KEY)


def expecting(lineage: str = LINEAGE, **changes: Any) -> Expected:
    return replace(Expected(lineage, trusting([KEY]), NOW_MS), **changes)


def make_file(*, compress: bool = True, **changes: Any) -> tuple[Manifest, bytes]:
    packed = pack(BODIES, compress=compress)
    manifest = make_manifest(packed, **changes)
    return manifest, write(manifest, packed.stored)


def refusal_of(content: bytes, expected: Expected) -> SnapshotRefused:
    with pytest.raises(SnapshotRefused) as refused:
        read(content, expected)
    return refused.value


def made_of(part: Part, stored: bytes) -> bytes:
    """A file whose manifest says this of its part, signed: what only who holds the key can make."""
    manifest = make_manifest(Packed((part,), {}))
    head = struct.pack(">9sHI8s", b"TAILRACE\0", 2, len(canonical_json(manifest)), bytes.fromhex(KEY.key_id))
    return head + canonical_json(manifest) + manifest.signature + stored


# ── what was written comes back ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_comes_back_with_manifest_and_bodies(compress: bool):
    manifest, content = make_file(compress=compress)

    snapshot = read(content, expecting(index=manifest, kind=Kind.SNAPSHOT))

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

    assert Snapshot(manifest, {}) == read(write(manifest, {}), expecting())


def test_the_size_of_a_file_is_known_from_its_manifest():
    manifest, content = make_file()

    assert len(content) == file_bytes(manifest)


def test_a_manifest_comes_back_from_the_index_as_it_was_sealed():
    manifest = make_manifest(pack(BODIES), inline=pack(BODIES).stored)

    found = unseal(seal(manifest), trusting([KEY]), NOW_MS)

    assert (manifest, manifest.signature, manifest.inline, NOW_MS) == (
        found,
        found.signature,
        found.inline,
        found.indexed_at_ms,
    )


def test_small_parts_come_back_from_the_index_record():
    packed = pack(BODIES, compress=True)
    manifest = make_manifest(packed, inline=packed.stored)

    assert packed.fits_inline
    assert BODIES == read_inline(manifest, expecting()).bodies


def test_parts_of_more_than_256_kb_do_not_fit_inline():
    packed = pack({"champion": bytes(MAX_INLINE_BYTES + 1)})

    assert not packed.fits_inline
    with pytest.raises(SnapshotRefused) as refused:
        read_inline(make_manifest(packed, inline=packed.stored), expecting())
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
        read_inline(make_manifest(pack(BODIES), inline=inline), expecting())

    assert reason == refused.value.reason


def test_writing_other_parts_than_described_is_our_own_mistake():
    packed = pack(BODIES)

    with pytest.raises(ContractError, match=r"pack\(\)"):
        write(make_manifest(packed), {"loop": b"counters"})
    with pytest.raises(ContractError, match="allowed are 65536"):
        make_manifest(packed, versions={"river": "1" * 70_000})
    with pytest.raises(ContractError, match="is not signed"):
        write(replace(make_manifest(packed), signature=b""), packed.stored)
    with pytest.raises(ContractError, match="signs commands, not snapshots"):
        signed(make_manifest(packed), make_key(purpose=Purpose.COMMANDS))


# ── the load order ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_refuses_by_name():
    manifest, content = make_file()
    good = expecting(index=manifest)

    reasons = [
        refusal_of(content, replace(good, max_file_bytes=len(content) - 1)).reason,
        refusal_of(b"", good).reason,
        refusal_of(b"PK" + content[2:], good).reason,
        refusal_of(content[:9] + b"\0\1" + content[11:], good).reason,
        refusal_of(content[:11] + b"\xff\xff\xff\xff" + content[15:], good).reason,
        refusal_of(content, expecting("b" * 64)).reason,
        refusal_of(content, expecting(log_id="log-2")).reason,
        refusal_of(content, expecting(kind=Kind.PUBLICATION)).reason,
        refusal_of(content, expecting(not_below=position_of(11))).reason,
        refusal_of(content, expecting(index=replace(manifest, number=2))).reason,
        refusal_of(content[:-1], good).reason,
        refusal_of(content + b"\0", good).reason,
        refusal_of(content[:-1] + b"\0", good).reason,
        refusal_of(content, replace(good, max_body_bytes=100)).reason,
    ]

    assert [
        "too_large", "magic", "magic", "format", "manifest", "lineage", "log", "kind", "older", "index",
        "length", "length", "stored_digest", "too_large",
    ] == reasons  # fmt: skip


def test_who_may_have_signed_is_asked_before_anything_is_read():
    """Without the signature step every one of these would be loaded: the bytes are those of a good file."""
    manifest, content = make_file()
    good = expecting(index=manifest)
    known = TrustedKey(KEY.public, Purpose.SNAPSHOTS)

    def trusted(**changes: Any) -> Expected:
        return replace(good, trust=TrustList((replace(known, **changes),)))

    reasons = [
        refusal_of(content[:15] + bytes(8) + content[23:], good).reason,
        refusal_of(content, replace(good, trust=TrustList())).reason,
        refusal_of(content, trusted(purpose=Purpose.COMMANDS)).reason,
        refusal_of(content, trusted(is_revoked=True)).reason,
        refusal_of(content, trusted(valid_from_ms=NOW_MS + 1)).reason,
        refusal_of(content, trusted(valid_to_ms=NOW_MS - 1)).reason,
        refusal_of(content.replace(b'"number":1', b'"number":2'), good).reason,
        refusal_of(content, replace(good, trust=TrustList((known,), problem="the list is cut"))).reason,
    ]

    assert [
        "unsigned", "unknown_key", "key_purpose", "revoked_key", "key_not_valid", "key_not_valid", "signature",
        "trust_list",
    ] == reasons  # fmt: skip
    assert BODIES == read(content, trusted(valid_from_ms=NOW_MS, valid_to_ms=NOW_MS)).bodies


def test_an_old_date_inside_does_not_bring_an_expired_key_back():
    """What a manifest says of its own age is the word of whoever signed it."""
    _, content = make_file(created_at_ms=1)
    expired = TrustList((TrustedKey(KEY.public, Purpose.SNAPSHOTS, valid_to_ms=10),))

    assert "key_not_valid" == refusal_of(content, expecting(trust=expired)).reason


def test_a_manifest_that_was_signed_as_another_keys_is_refused():
    manifest = replace(make_manifest(pack(BODIES)), key_id="0" * 16)
    sealed = Sealed(KEY.key_id, canonical_json(manifest), KEY.sign(canonical_json(manifest)), {})

    with pytest.raises(SnapshotRefused, match="names key 0000000000000000") as refused:
        unseal(sealed, trusting([KEY]), NOW_MS)
    assert "manifest" == refused.value.reason


def test_a_manifest_is_read_only_after_its_signature_was_found_good():
    """Bytes that no JSON parser should see are refused by the signature, signed ones by the parser."""
    hostile = b"[" * 60_000
    unsigned = Sealed(KEY.key_id, hostile, bytes(64), {})
    own = Sealed(KEY.key_id, hostile, KEY.sign(hostile), {})
    long = Sealed(KEY.key_id, b"[" * 70_000, bytes(64), {})

    reasons = []
    for sealed in (unsigned, own, long):
        with pytest.raises(SnapshotRefused) as refused:
            unseal(sealed, trusting([KEY]), NOW_MS)
        reasons.append(refused.value.reason)

    assert ["signature", "manifest", "manifest"] == reasons


def test_a_body_that_shrinks_beyond_reason_is_stored_as_it_is():
    (part,) = pack({"zeros": bytes(1_000_000)}, compress=True).parts

    assert not part.is_compressed


def test_a_body_that_is_refused_has_taken_no_memory():
    """It is looked at piece by piece before it is put together: what a lie costs is not the size that it announces."""
    rng = random.Random(1)
    body = (rng.randbytes(600) + bytes(60_000)) * 500
    stored = zlib.compress(body)
    content = made_of(Part("champion", "1" * 64, len(body), digest_of(stored), len(stored)), stored)
    assert len(body) < MAX_GROWTH * len(stored)

    tracemalloc.start()
    try:
        reason = refusal_of(content, expecting()).reason
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert "digest" == reason
    assert peak_bytes < 1_000_000


def test_a_part_that_is_said_to_grow_beyond_reason_is_not_decompressed():
    bomb = zlib.compress(bytes(50_000_000), 9)
    part = Part("champion", digest_of(bytes(50_000_000)), 50_000_000, digest_of(bomb), len(bomb))

    assert len(bomb) * MAX_GROWTH < 50_000_000
    assert "compression" == refusal_of(made_of(part, bomb), expecting()).reason


def test_a_bomb_is_stopped_at_the_announced_size():
    bomb = zlib.compress(bytes(50_000_000), 9)
    part = Part("champion", "1" * 64, 1_000, digest_of(bomb), len(bomb))

    refusal = refusal_of(made_of(part, bomb), expecting())

    assert "compression" == refusal.reason


def test_a_bomb_that_announces_itself_is_stopped_by_the_cap():
    bomb = zlib.compress(bytes(50_000_000), 9)
    part = Part("champion", "1" * 64, 50_000_000, digest_of(bomb), len(bomb))

    refusal = refusal_of(made_of(part, bomb), expecting(max_body_bytes=1_000_000))

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

    assert reason == refusal_of(made_of(part, stored), expecting()).reason


def test_a_part_larger_than_the_file_allocates_nothing():
    part = Part("champion", "1" * 64, 1, "2" * 64, (1 << 62))

    assert "length" == refusal_of(made_of(part, b"x"), expecting()).reason

"""Manifests, schedules, and who may load what."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tailrace.domain.errors import SnapshotRefused
from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import (
    BRANCH_PART,
    MAX_MANIFEST_BYTES,
    MAX_PARTS,
    Kind,
    Manifest,
    Part,
    SnapshotSchedule,
    canonical_json,
    check_last_block,
    digest_of,
    index_key,
    manifest_of,
    may_load,
    newest_first,
    next_number,
    only_branch_of,
    replaced_by,
    replayed,
)

BLOCK = b"the last block"


def make_manifest(number: int = 1, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "lineage": "a" * 64,
        "loop": "phishing",
        "log_id": "log-1",
        "kind": Kind.SNAPSHOT,
        "number": number,
        "position": position_of(10 * number),
        "last_block_offset": 10 * number - 1,
        "last_block_digest": digest_of(BLOCK),
        "parts": (Part.of("loop", b"counters"), Part.of("champion", b"weights" * 9, b"packed")),
        "state_digest": "5" * 64,
        "previous_digest": None,
        "counters": {"learned": 7},
        "versions": {"river": "0.26.1", "python": "3.11"},
        "created_at_ms": 1_000,
    }
    return Manifest(**(fields | changes))


# ── canonical JSON ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_manifest_comes_back_from_its_canonical_json():
    manifest = make_manifest(store_path="phishing/1.tailrace", previous_digest="6" * 64)

    assert manifest == manifest_of(canonical_json(manifest))


def test_the_canonical_json_does_not_depend_on_the_order_of_counters():
    one = make_manifest(counters={"learned": 1, "skipped": 2})
    other = make_manifest(counters={"skipped": 2, "learned": 1})

    assert canonical_json(one) == canonical_json(other)
    assert one.digest == other.digest


def test_inline_parts_travel_beside_the_canonical_json():
    bare = make_manifest()
    with_parts = replace(bare, inline={"loop": b"counters"})

    assert bare.digest == with_parts.digest
    assert bare == with_parts


def test_a_part_that_is_compressed_says_so_by_its_two_digests():
    plain, compressed = make_manifest().parts

    assert not plain.is_compressed
    assert compressed.is_compressed
    assert len(b"counters") + len(b"packed") == make_manifest().stored_bytes


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "does not have the fields"),
        (b"{}", "does not have the fields"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "allowed are"),
        (canonical_json(make_manifest()) + b" ", "is not in canonical form"),
        (canonical_json(make_manifest()).replace(b'"number":1', b'"number":1,"number":1'), "is not in canonical form"),
    ],
)
def test_bytes_that_are_no_canonical_manifest_are_refused(content: bytes, problem: str):
    with pytest.raises(SnapshotRefused, match=problem) as refused:
        manifest_of(content)

    assert "manifest" == refused.value.reason


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lineage": 7}, "another type in lineage"),
        ({"kind": []}, "another type in kind"),
        ({"loop": None}, "another type in loop"),
        ({"log_id": 1, "number": "1"}, "another type in log_id, number"),
        ({"number": True}, "another type in number"),
        ({"number": -1}, "another type in number"),
        ({"position": 1 << 63}, "another type in position"),
        ({"created_at_ms": 1.5}, "another type in created_at_ms"),
        ({"kind": "draft"}, "another type in kind"),
        ({"state_digest": "5" * 63}, "another type in state_digest"),
        ({"state_digest": 5}, "another type in state_digest"),
        ({"previous_digest": "x" * 64}, "another type in previous_digest"),
        ({"store_path": 1}, "another type in store_path"),
        ({"key_id": None}, "another type in key_id"),
        ({"key_id": "0" * 17}, "another type in key_id"),
        ({"counters": []}, "another type in counters"),
        ({"counters": {"learned": 1.0}}, "another type in counters"),
        ({"versions": {"river": 1}}, "another type in versions"),
        ({"parts": {}}, "another type in parts"),
        ({"last_block_offset": "9"}, "another type in last_block_offset"),
        ({"last_block_digest": "9"}, "another type in last_block_digest"),
        ({"last_block_offset": None}, "without the offset"),
        ({"last_block_digest": None}, "without the digest"),
        ({"extra": 1}, "does not have the fields"),
    ],
)
def test_a_field_of_another_type_is_named(changes: dict[str, Any], problem: str):
    content = json.dumps(json.loads(canonical_json(make_manifest())) | changes).encode()

    with pytest.raises(SnapshotRefused, match=problem):
        manifest_of(content)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "../etc"}, "unusable name"),
        ({"name": 7}, "unusable name"),
        ({"size_bytes": -1}, "unusable size"),
        ({"stored_bytes": "1"}, "unusable size"),
        ({"digest": "5"}, "unusable digest"),
        ({"stored_digest": None}, "unusable digest"),
        ({"size_bytes": 9}, "one digest and two sizes"),
        ({"extra": 9}, "without the fields"),
    ],
)
def test_a_part_that_cannot_be_is_refused(changes: dict[str, Any], problem: str):
    plain = json.loads(canonical_json(make_manifest()))
    plain["parts"][0] |= changes

    with pytest.raises(SnapshotRefused, match=problem):
        manifest_of(json.dumps(plain).encode())


def test_parts_that_are_too_many_twice_or_no_objects_are_refused():
    twice = make_manifest(parts=(Part.of("loop", b"1"), Part.of("loop", b"2")))
    many = make_manifest(parts=tuple(Part.of(f"p{number}", b"") for number in range(MAX_PARTS + 1)))
    plain = json.loads(canonical_json(make_manifest())) | {"parts": [1]}

    for manifest, problem in ((twice, "names a part twice"), (many, f"{MAX_PARTS + 1} parts, allowed are {MAX_PARTS}")):
        with pytest.raises(SnapshotRefused, match=problem):
            manifest_of(canonical_json(manifest))
    with pytest.raises(SnapshotRefused, match="without the fields"):
        manifest_of(json.dumps(plain).encode())


def test_a_manifest_at_the_start_of_the_log_names_no_block():
    manifest = make_manifest(position=0, last_block_offset=None, last_block_digest=None)

    assert manifest == manifest_of(canonical_json(manifest))


# ── the index ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_branch_has_one_place_in_the_index_named_by_its_part():
    branch = make_manifest(17, kind=Kind.BRANCH, parts=(Part.of(f"{BRANCH_PART}12ab", b"weights"),))
    without = make_manifest(17, kind=Kind.BRANCH, parts=(Part.of("loop", b"counters"),))

    assert f"{'a' * 64}/{BRANCH_PART}12ab" == index_key(branch)
    assert f"{'a' * 64}/branch" == index_key(without)
    assert ("12ab", "") == (only_branch_of(branch), only_branch_of(without))


def test_the_index_has_sixteen_places_for_snapshots_and_one_for_publications():
    lineage = "a" * 64

    assert f"{lineage}/1" == index_key(make_manifest(17))
    assert f"{lineage}/0" == index_key(make_manifest(16))
    assert f"{lineage}/serving" == index_key(make_manifest(17, kind=Kind.PUBLICATION))


def test_the_newest_snapshot_of_the_own_lineage_is_tried_first():
    old, new = make_manifest(1), make_manifest(2)
    again = make_manifest(3, position=new.position)
    others = [make_manifest(9, lineage="b" * 64), make_manifest(9, kind=Kind.PUBLICATION)]

    assert [again, new, old] == newest_first([new, *others, old, again], "a" * 64)
    assert [others[1]] == newest_first([new, *others], "a" * 64, Kind.PUBLICATION)


def test_numbers_go_on_from_the_greatest_in_the_index():
    assert 1 == next_number([], "a" * 64)
    assert 1 == next_number([make_manifest(5)], "b" * 64)
    assert 6 == next_number([make_manifest(5), make_manifest(2)], "a" * 64)


def test_the_snapshot_that_loses_its_place_in_the_index_is_named():
    held = [make_manifest(number) for number in range(1, 17)]

    assert held[0] == replaced_by(make_manifest(17), held)
    assert replaced_by(make_manifest(3), held) is None
    assert replaced_by(make_manifest(1, kind=Kind.PUBLICATION), held) is None


def test_a_manifest_below_the_highest_that_the_index_held_is_refused_as_replayed():
    """An older record, written into the index again, would take the place of a newer one."""
    assert replayed(make_manifest(3), position_of(30)) is None

    refusal = replayed(make_manifest(3), position_of(30, 1))

    assert refusal is not None
    assert ("replayed", "snapshot 3 at 30:0 came into the index after one at 30:1; it is ignored") == refusal


# ── may it be loaded ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_of_the_own_lineage_may_be_loaded():
    assert may_load(make_manifest(), "a" * 64) is None
    assert may_load(make_manifest(), "a" * 64, log_id="log-1", kind=Kind.SNAPSHOT, not_below=position_of(10)) is None


def test_another_lineage_is_refused_with_the_versions_that_differ():
    mine = {"river": "0.27.0", "python": "3.11", "numpy": "2"}

    refusal = may_load(make_manifest(), "b" * 64, versions=mine)

    assert refusal is not None
    assert "lineage" == refusal.reason
    assert "river 0.26.1 there and 0.27.0 here" in refusal.message
    assert "python" not in refusal.message


def test_another_log_another_kind_and_an_older_position_are_refused_by_name():
    manifest = make_manifest()

    refusals = [
        may_load(manifest, "b" * 64),
        may_load(manifest, "a" * 64, log_id="log-2"),
        may_load(manifest, "a" * 64, kind=Kind.PUBLICATION),
        may_load(manifest, "a" * 64, not_below=position_of(10, 1)),
    ]

    assert ["lineage", "log", "kind", "older"] == [refusal.reason for refusal in refusals if refusal]


# ── the last block ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_of_the_start_of_the_log_has_no_last_block_to_check():
    manifest = make_manifest(position=0, last_block_offset=None, last_block_digest=None)

    assert check_last_block(manifest, log_id="log-2", start=0, end=0, value=None) is None


def test_the_same_bytes_at_the_last_offset_are_the_same_log():
    assert check_last_block(make_manifest(), log_id="log-1", start=0, end=10, value=BLOCK) is None


@pytest.mark.parametrize(
    ("reason", "log_id", "start", "end", "value"),
    [
        ("log_truncated", "log-1", 0, 9, None),
        ("log_truncated", "", 0, 0, None),
        ("log_recreated", "log-2", 0, 9, None),
        ("log_recreated", "log-2", 0, 90, b"other"),
        ("log_expired", "log-1", 10, 90, None),
        ("log_foreign", "log-1", 0, 90, b"other"),
        ("log_foreign", "", 0, 90, None),
    ],
)
def test_a_log_that_is_not_the_one_that_was_folded_is_named(
    reason: str, log_id: str, start: int, end: int, value: bytes | None
):
    refusal = check_last_block(make_manifest(), log_id=log_id, start=start, end=end, value=value)

    assert refusal is not None
    assert reason == refusal.reason
    assert "offset 9" in refusal.message


# ── when one is due ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_is_due_when_the_interval_has_passed_and_the_position_has_moved():
    schedule = SnapshotSchedule(every_ms=1_000, last_ms=0, last_position=5)

    assert not schedule.due(999, 6)
    assert not schedule.due(1_000, 5)
    assert schedule.due(1_000, 6)


def test_after_one_was_begun_the_interval_starts_again():
    schedule = SnapshotSchedule(every_ms=1_000, last_ms=0)

    schedule.taken(1_500, 6)

    assert not schedule.due(2_499, 7)
    assert not schedule.due(2_500, 6)
    assert schedule.due(2_500, 7)

"""What the HTTP API tells of a loop, read from its log alone: status, snapshots, quality, predictions.

Every function returns plain values and reads a bounded part of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.positions import show
from tailrace.domain.snapshots import Manifest
from tailrace.domain.status import MemberStatus, Quality, worst
from tailrace.domain.times import rfc3339_of
from tailrace.inspection.manifests import snapshots_of
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import Picture, heartbeats, picture_of
from tailrace.opening import open_store
from tailrace.settings import Settings
from tailrace.stores import snapshot_file
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.prediction_codec import decode_prediction
from tailrace.wire.topics import LoopTopics

HEARTBEATS_FOR_STATUS: Final = 600
"""Enough for the verdicts about twenty members, and cheap enough to be looked at every second."""

HEARTBEATS_FOR_QUALITY: Final = 10_000
MOST_POINTS: Final = 1_000

_SHOWN_DIGITS: Final = 16  # of a lineage, as in the names of files in the store
_MOST_SHOWN: Final = 8  # lineages that a refusal names


async def status_of(reading: Reading, now_ms: int) -> dict[str, Any]:
    """Return all loops as they are now."""
    loops = [
        await picture_of(reading, name, loop, now_ms, HEARTBEATS_FOR_STATUS)
        for name, loop in reading.settings.loops.items()
    ]
    verdict = worst(each.status.verdict for each in loops)
    first = next(each for each in loops if each.status.verdict is verdict)
    told = first.headline
    return {
        "sentence": told.sentence if len(loops) == 1 else f"{first.status.loop}: {told.sentence}",
        "code": told.code.value,
        "verdict": told.verdict.value,
        "time": rfc3339_of(now_ms),
        "loops": [_loop(each) for each in loops],
    }


def _loop(picture: Picture) -> dict[str, Any]:
    status = picture.status
    model, snapshot, told = status.model, status.snapshot, picture.headline
    return {
        "loop": status.loop,
        "sentence": told.sentence,
        "code": told.code.value,
        "verdict": told.verdict.value,
        "served_state_age_seconds": None if status.serving is None else status.serving.age_seconds,
        "members": [member.member for member in status.members],
        "model": None
        if model is None
        else {
            "version": model.lineage[:12],
            "position": show(model.position),
            "learned": model.learned,
            "skipped": model.skipped,
        },
        "quality": _quality(status.quality),
        "snapshot": None
        if snapshot is None
        else {
            "number": snapshot.number,
            "position": show(snapshot.position),
            "time": rfc3339_of(snapshot.time_ms),
            "size_bytes": snapshot.size_bytes,
        },
        "findings": [asdict(finding) for finding in status.findings],
        "progress": [asdict(each) for each in picture.progress],
    }


def _quality(quality: Sequence[Quality]) -> list[dict[str, Any]]:
    return [asdict(each) | {"baselines": dict(each.baselines)} for each in quality]


async def versions_of(reading: Reading, topics: LoopTopics, limit: int) -> list[dict[str, Any]]:
    """Return the snapshots that count, the newest first."""
    found = sorted(await snapshots_of(reading, topics), key=lambda each: (each.position, each.number), reverse=True)
    return [
        {
            "number": each.number,
            "position": show(each.position),
            "time": rfc3339_of(each.created_at_ms if each.indexed_at_ms is None else each.indexed_at_ms),
            "state_digest": each.state_digest,
            "lineage": each.lineage,
            "size_bytes": each.stored_bytes,
            "key_id": each.key_id,
            "versions": dict(each.versions),
            "counters": dict(each.counters),
        }
        for each in found[:limit]
    ]


class SeveralLineages(SnapshotRefused):
    """What was asked for fits snapshots of several lineages; the message names these."""


async def manifest_asked_for(reading: Reading, topics: LoopTopics, number: int | None, lineage: str | None) -> Manifest:
    """Return the manifest of the newest snapshot that fits.

    Args:
        number: Every lineage counts from 1.
        lineage: How it begins.

    Raises:
        SeveralLineages: With this number, or of a lineage that begins so.
        SnapshotRefused: There is none that counts.
    """
    found = await snapshots_of(reading, topics)
    wanted = [each for each in found if number in {None, each.number} and each.lineage.startswith(lineage or "")]
    if not wanted:
        raise SnapshotRefused("missing", "the index names no such snapshot that a trusted key has signed")
    lineages = sorted({each.lineage for each in wanted})
    if len(lineages) > 1 and (number, lineage) != (None, None):
        of_number = "" if number is None else f" with the number {number}"
        shown = ", ".join(each[:_SHOWN_DIGITS] for each in lineages[:_MOST_SHOWN])
        rest = f" and {len(lineages) - _MOST_SHOWN} others" if len(lineages) > _MOST_SHOWN else ""
        message = f"found snapshots{of_number} of {len(lineages)} lineages: {shown}{rest}; allowed: one of these"
        raise SeveralLineages("lineage", message)
    return max(wanted, key=lambda each: (each.position, each.created_at_ms))


async def file_of(settings: Settings, manifest: Manifest) -> bytes:
    """Return the file of a snapshot.

    Raises:
        SnapshotRefused: The store does not have it.
        StoreUnavailable: The store gives nothing.
    """
    if manifest.inline or not manifest.parts:
        return snapshot_file.file_of_inline(manifest)
    if manifest.store_path is None:
        raise SnapshotRefused("missing", f"snapshot {manifest.number} has neither inline parts nor a file")
    return await asyncio.to_thread(open_store(settings).get, manifest.store_path, snapshot_file.file_bytes(manifest))


async def judged_of(reading: Reading, topics: LoopTopics) -> list[MemberStatus]:
    """Return the heartbeats that tell of quality: of each second the one that is furthest in the log."""
    heard = await heartbeats(reading, topics, HEARTBEATS_FOR_QUALITY)
    return _furthest((each for member in heard for each in member if each.quality), 1)


def quality_of(judged: Iterable[MemberStatus], step_s: int) -> list[dict[str, Any]]:
    """Return quality over time, oldest first: of the member that is furthest in the log at each step."""
    return [
        {"time": rfc3339_of(each.time_ms), "quality": _quality(each.quality)}
        for each in _furthest(judged, step_s)[-MOST_POINTS:]
    ]


def _furthest(heard: Iterable[MemberStatus], step_s: int) -> list[MemberStatus]:
    steps: dict[int, MemberStatus] = {}
    for each in heard:
        step = each.time_ms // (1_000 * step_s)
        if step not in steps or _place(each) >= _place(steps[step]):
            steps[step] = each
    return [steps[step] for step in sorted(steps)]


def _place(member: MemberStatus) -> tuple[int, int]:
    return (member.model.position if member.model else -1), member.time_ms


class Page(NamedTuple):
    """Some of the predictions, the newest first by the broker's time.

    Attributes:
        oldest_ms: The broker's time of the last record of the page; None: the page has none.
        ends: Per partition, where the page before this one ends; None: there is none.
    """

    predictions: list[dict[str, Any]]
    oldest_ms: int | None
    ends: list[int] | None


async def predictions_of(reading: Reading, topics: LoopTopics, limit: int, ends: Sequence[int] | None) -> Page:
    """Return a page of predictions.

    Args:
        ends: Per partition, exclusive; None: the ends of the topic.
    """
    held = await reading.ranges(topics.predictions)
    found: list[Record] = []
    bounds: dict[int, Range] = {}
    for partition, offsets in held.items():
        asked = offsets.end if ends is None or partition.partition >= len(ends) else ends[partition.partition]
        end = min(max(asked, offsets.start), offsets.end)
        bounds[partition.partition] = Range(offsets.start, end)
        found += await _last(reading, partition, Range(max(offsets.start, end - limit), end))
    found.sort(key=lambda record: (record.timestamp, record.offset), reverse=True)
    page = found[:limit]
    rest = {number: offsets.end for number, offsets in bounds.items()}
    for record in page:
        rest[record.partition] = min(rest[record.partition], record.offset)
    is_more = any(rest[number] > offsets.start for number, offsets in bounds.items())
    return Page(
        [each for each in map(_prediction, page) if each is not None],
        page[-1].timestamp if page else None,
        list(rest.values()) if is_more else None,
    )


async def _last(reading: Reading, partition: TopicPartition, asked: Range) -> list[Record]:
    return [record async for record in reading.records(partition, asked)]


def _prediction(record: Record) -> dict[str, Any] | None:
    try:
        return decode_prediction(record.value or b"")
    except CodecError:
        return None  # Another program's record.


def headers_of(manifest: Manifest) -> Mapping[str, str]:
    """Return what is told about a snapshot beside its file."""
    return {
        "content-length": str(snapshot_file.file_bytes(manifest)),
        "content-disposition": f'attachment; filename="{manifest.loop}-{manifest.number}.snapshot"',
        "etag": f'"{manifest.digest}"',
        "x-tailrace-position": show(manifest.position),
        "x-tailrace-lineage": manifest.lineage,
    }

"""Somebody who may write to the snapshots topic and has no key that counts there."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Final

from tests.simulation.kept import SNAPSHOTS, Kept
from tests.simulation.keys import OPERATOR_KEY, REVOKED_KEY, UNKNOWN_KEY
from tests.simulation.vault import flipped
from tests.simulation.world import Seat, World

from tailrace.domain.positions import position_of
from tailrace.domain.records import Owner
from tailrace.domain.snapshots import Manifest, Sealed, canonical_json, index_key, manifest_of
from tailrace.wire.avro_codec import decode_manifest, encode_manifest

SEAT: Final = Seat("vandal", 0)


def vandal(world: World, name: Owner) -> Generator[None, None, None]:
    """Damage, replay, forge and delete index records until the inputs have ended."""
    while not world.inputs_ended:
        if world.genuine and world.faults.strikes("vandal", 0.04):
            _act(world)
        yield
    while world.owns(SEAT, name):
        world.finished[SEAT] = True
        yield


def _act(world: World) -> None:
    rng = world.rng
    kept = rng.choice([record for record in world.snapshots.kept if record.value in world.genuine])
    value = kept.value or b""
    key, content = rng.choice(
        [
            (kept.key, flipped(value, world.faults)),
            (kept.key, value[: rng.randrange(len(value))]),
            (kept.key, value),  # replayed
            _forged(world, kept),
            _forged(world, kept),
            (kept.key, None),
        ]
    )
    world.append(SNAPSHOTS, key, content)


def _forged(world: World, kept: Kept) -> tuple[bytes, bytes]:
    """Return an old state that claims to be of the log's end, signed by a key that does not count."""
    sealed = decode_manifest(kept.value or b"")
    old = manifest_of(sealed.content)
    key = world.rng.choice([REVOKED_KEY, UNKNOWN_KEY, OPERATOR_KEY])
    signer = world.rng.choice([key.key_id, sealed.key_id])
    forged: Manifest = replace(
        old, position=position_of(world.log.next_offset), number=old.number + 1, key_id=signer, store_path=None
    )
    content = canonical_json(forged)
    value = encode_manifest(Sealed(signer, content, key.sign(content), sealed.inline))
    return index_key(forged).encode(), value

"""Snapshots as an attacker would make them: damaged, swapped, forged, replayed, blown up. Seeded; none is a good one.

What can be written without the key is made of the bytes of good snapshots. What needs the key (the word of a learner
that was taken over, or of a bug in it) is signed for real, and so must be stopped by a later step.
"""

from __future__ import annotations

import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack
from river import linear_model, preprocessing
from tests.keys import make_key

from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.codec_format import Caps, Node, Value
from tailrace.domain.positions import position_of
from tailrace.domain.snapshots import Kind, Manifest, Part, Sealed, canonical_json, digest_of, index_key
from tailrace.stores import snapshot_file
from tailrace.stores.signing import KEY_ID_BYTES, SIGNATURE_BYTES, SigningKey
from tailrace.wire.avro_codec import encode_manifest

KEY: Final = make_key(1)
STRANGER: Final = make_key(2)
LINEAGE, OTHER_LINEAGE = "a" * 64, "b" * 64
HEAD_BYTES: Final = 15 + KEY_ID_BYTES


def make_model() -> Any:
    """Return a model that has learned nothing."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def make_codec() -> StateCodec:
    """Return the codec of its states."""
    return StateCodec([make_model()])


def make_bodies(learned: int) -> dict[str, bytes]:
    """Return the parts of a state that has learned so many examples."""
    rng, model = random.Random(1), make_model()
    for _ in range(learned):
        x = {f"feature {number}": rng.gauss(0, 1) for number in range(20)}
        model.learn_one(x, x["feature 0"] > 0)
    codec = make_codec()
    return {
        "champion": codec.encode(model),
        "loop": codec.encode({"learned": learned, "outcomes": {"joined": learned}}),
    }


@dataclass(frozen=True)
class Good:
    """A snapshot as a learner writes it.

    Attributes:
        manifest: Signed, with its parts inline.
        file: The content of its file.
    """

    manifest: Manifest
    file: bytes

    @property
    def record(self) -> bytes:
        """The value of its index record."""
        return encode_manifest(snapshot_file.seal(self.manifest))


def make_snapshot(
    bodies: dict[str, bytes], number: int = 2, *, key: SigningKey = KEY, compress: bool = True, **changes: Any
) -> Good:
    """Make a snapshot of bodies, signed."""
    packed = snapshot_file.pack(bodies, compress=compress)
    return signed_as(packed.parts, packed.stored, number, key, **changes)


def signed_as(
    parts: tuple[Part, ...], stored: dict[str, bytes] | Any, number: int = 2, key: SigningKey = KEY, **changes: Any
) -> Good:
    """Make a snapshot that says of its parts whatever it says."""
    fields: dict[str, Any] = {
        "lineage": LINEAGE,
        "loop": "phishing",
        "log_id": "log",
        "kind": Kind.SNAPSHOT,
        "number": number,
        "position": position_of(10 * number),
        "last_block_offset": None,
        "last_block_digest": None,
        "parts": parts,
        "state_digest": "5" * 64,
        "previous_digest": None,
        "counters": {"learned": 7},
        "versions": {"river": "0.26.1"},
        "created_at_ms": 1_000,
        "store_path": "phishing/newest.tailrace",
        "inline": stored,
    }
    manifest = snapshot_file.signed(Manifest(**(fields | changes)), key)
    content = canonical_json(manifest)
    head = struct.pack(">9sHI8s", b"TAILRACE\0", 2, len(content), bytes.fromhex(key.key_id))
    return Good(manifest, head + content + manifest.signature + b"".join(stored.values()))


# ── bytes that somebody changed ─────────────────────────────────────────────────────────────────────────────────────


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Turn one bit round."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """Leave out the end."""
    return content[: rng.randrange(len(content))]


def extended(content: bytes, rng: random.Random) -> bytes:
    """Add something at the end."""
    return content + rng.randbytes(rng.choice([1, 2, 50, 5_000]))


def shortened(content: bytes, rng: random.Random) -> bytes:
    """Leave out something in the middle."""
    at = rng.randrange(len(content) - 1)
    return content[:at] + content[at + rng.randint(1, 30) :]


def stretched(content: bytes, rng: random.Random) -> bytes:
    """Put something into the middle."""
    at = rng.randrange(len(content))
    return content[:at] + rng.randbytes(rng.randint(1, 30)) + content[at:]


def shuffled(content: bytes, rng: random.Random) -> bytes:
    """Let two stretches change places."""
    a, b, c = sorted(rng.sample(range(len(content)), 3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def overwritten(content: bytes, rng: random.Random) -> bytes:
    """Put other bytes in the place of some."""
    size = rng.randint(1, 64)
    at = rng.randrange(len(content) - size)
    return content[:at] + rng.randbytes(size) + content[at + size :]


DAMAGES: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    *(flipped, flipped, flipped, cut, extended, shortened, stretched, shuffled, overwritten),
)


def damaged(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield what became of a content; never what it was."""
    rng = random.Random(seed)
    while count:
        mutant = rng.choice(DAMAGES)(content, rng)
        if mutant != content:
            count -= 1
            yield mutant


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def sections(good: Good) -> list[bytes]:
    """Cut a file: head, manifest, signature, one for each part."""
    ends = [HEAD_BYTES, len(canonical_json(good.manifest)), SIGNATURE_BYTES]
    ends += [part.stored_bytes for part in good.manifest.parts]
    found, begin = [], 0
    for size in ends:
        found.append(good.file[begin : begin + size])
        begin += size
    return found


def recombined(goods: list[Good], seed: int, count: int) -> Iterator[bytes]:
    """Yield files of sections of several good ones: swapped, repeated, left out, or of another file; none is good."""
    rng = random.Random(seed)
    each, known = [sections(good) for good in goods], {good.file for good in goods}
    while count:
        mutant = [rng.choice(each)[at] for at in range(len(each[0]))]
        if rng.random() < 0.5:
            a, b = rng.sample(range(len(mutant)), 2)
            mutant[a], mutant[b] = mutant[b], mutant[a]
        if rng.random() < 0.3:
            del mutant[rng.randrange(len(mutant))]
        content = b"".join(mutant)
        if content not in known:
            count -= 1
            yield content


def with_fields_of_the_head(good: Good, seed: int, count: int) -> Iterator[bytes]:
    """Yield files whose head says something else: magic, version, length, key."""
    rng = random.Random(seed)
    rest, length = good.file[HEAD_BYTES:], len(canonical_json(good.manifest))
    key = bytes.fromhex(KEY.key_id)
    while count:
        magic = rng.choice([b"TAILRACE\0", b"TAILRACE\0", b"TAILRACE\1", b"\x80\x05pickle.", bytes(9)])
        version = rng.choice([2, 2, 0, 1, 3, 65_535])
        said = rng.choice([length, length, 0, 1, length - 1, length + 1, 65_536, 65_537, 1 << 31, (1 << 32) - 1])
        signer = rng.choice([key, key, bytes(8), bytes.fromhex(STRANGER.key_id), rng.randbytes(8)])
        mutant = struct.pack(">9sHI8s", magic, version, said, signer) + rest
        if mutant != good.file:
            count -= 1
            yield mutant


def forged(bodies: dict[str, bytes], seed: int, count: int) -> Iterator[Good]:
    """Yield snapshots that fit themselves in everything, and that a stranger, or nobody, has signed."""
    rng = random.Random(seed)
    for number in range(count):
        stranger = SigningKey.generate(KEY.purpose) if number % 10 == 0 else STRANGER
        good = make_snapshot(bodies, rng.randint(2, 99), key=stranger, compress=rng.random() < 0.5)
        act = rng.randrange(4)
        manifest = good.manifest
        if act == 1:  # says that the trusted key has signed, which its signature does not bear out
            manifest = replace(manifest, key_id=KEY.key_id)
            manifest = replace(manifest, signature=stranger.sign(canonical_json(manifest)))
        elif act == 2:
            manifest = replace(manifest, key_id="", signature=b"")
        elif act == 3:
            manifest = replace(manifest, key_id=KEY.key_id, signature=rng.randbytes(rng.choice([0, 64, 65])))
        content = canonical_json(manifest)
        head = struct.pack(">9sHI8s", b"TAILRACE\0", 2, len(content), bytes.fromhex(manifest.key_id or "0" * 16))
        yield Good(manifest, head + content + manifest.signature + b"".join(good.manifest.inline.values()))


def bombs(seed: int, count: int) -> Iterator[Good]:
    """Yield snapshots that a key holder signed and whose parts are not of the size that they say, or far too large."""
    rng = random.Random(seed)
    body = bytes(2_000_000)
    bomb = zlib.compress(body, 9)
    nested = zlib.compress(zlib.compress(bytes(20_000_000), 9), 9)
    for number in range(count):
        stored = rng.choice([bomb, nested, zlib.compress(rng.randbytes(100) * 200), b"no zlib at all"])
        size = rng.choice(
            [0, 1, 1_000, 20_000, len(stored) * 199, len(stored) * 201, 2_000_001, 1 << 31, 1 << 40, (1 << 62)]
        )
        claimed = digest_of(body) if number % 2 else digest_of(rng.randbytes(8))
        if digest_of(stored) != claimed:
            yield signed_as((Part("champion", claimed, size, digest_of(stored), len(stored)),), {"champion": stored})


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def hostile_bodies(body: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield bodies that no model of this kind encodes to: made of a good one, one thing in it turned hostile."""
    rng = random.Random(seed)
    acts = (
        _name,
        _type,
        _symbol,
        _reference,
        _kind,
        _number,
        _deep,
        _long,
        _many,
        _generator,
        _compiled,
        _not_canonical,
    )
    for number in range(count):
        version, fingerprint, layouts, root, nodes = msgpack.unpackb(body, strict_map_key=False)
        acts[number % len(acts)](rng, layouts, nodes)
        yield msgpack.packb([version, fingerprint, layouts, root, nodes], use_bin_type=True)


def _instance(rng: random.Random, nodes: list[Any]) -> list[Any]:
    return rng.choice([node for node in nodes if node[0] == Node.INSTANCE and len(node) > 2])


def _reference_to(number: int) -> msgpack.ExtType:
    return msgpack.ExtType(Value.REFERENCE, number.to_bytes(4, "big"))


def _name(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    layout = rng.choice([layout for layout in layouts if len(layout) > 1])
    layout[rng.randrange(1, len(layout))] = rng.choice(["__class__", "__dict__", "learn_one", "predict_one", "x" * 99])


def _type(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    head = next(node for node in nodes if node[0] == Node.INSTANCE and "l2" in layouts[node[1]])
    at = 1 + layouts[head[1]].index(rng.choice(["l2", "loss", "optimizer", "clip_gradient", "_weights"]))
    head[at] = rng.choice(["text", math.inf, math.nan, _reference_to(rng.randrange(2)), [1, 2]])


def _symbol(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    rng.choice(layouts)[0] = rng.choice([-1, 1_000, 65_535, "os.system", None])


def _reference(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    _instance(rng, nodes)[-1] = _reference_to(len(nodes) + rng.randrange(1 << 20))


def _kind(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    rng.choice(nodes)[0] = rng.choice([-1, 15, 99, "RUST", None])


def _number(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    _instance(rng, nodes)[1] = rng.choice([len(layouts), -len(layouts) - 1, 1 << 40, "0"])


def _deep(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    inner = b"\x90"
    for _ in range(rng.choice([20, 500, 3_000])):
        inner = b"\x91" + msgpack.packb(msgpack.ExtType(Value.FROZENSET, inner))
    _instance(rng, nodes)[-1] = msgpack.ExtType(Value.FROZENSET, inner)


def _long(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    _instance(rng, nodes)[-1] = "x" * (Caps().text_bytes + 1)


def _many(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    nodes += [[Node.LIST] for _ in range(rng.choice([1, 500]))]


def _generator(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    words = [*[1] * 624, rng.choice([625, 1 << 31])]
    forged = [Node.RANDOM, struct.pack(">625I", *words), None]
    forged = rng.choice([forged, [Node.RANDOM_STATE, bytes(2_496), rng.choice([-1, 625, 1 << 30]), 0, 0.0]])
    nodes[rng.randrange(1, len(nodes))] = forged


def _compiled(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    nodes[rng.randrange(1, len(nodes))] = [Node.RUST, rng.randrange(40), [], rng.randbytes(rng.choice([0, 8, 200]))]


def _not_canonical(rng: random.Random, layouts: list[Any], nodes: list[Any]) -> None:
    # Two of different kinds: two alike, with values that change places, would be another good state.
    a, b = rng.choice([(a, b) for a in range(len(nodes)) for b in range(a) if nodes[a][0] != nodes[b][0]])
    nodes[a], nodes[b] = nodes[b], nodes[a]


# ── index records ───────────────────────────────────────────────────────────────────────────────────────────────────


def resealed(good: Good, seed: int, count: int) -> Iterator[bytes]:
    """Yield index records whose envelope says something else than what a good one's does."""
    rng = random.Random(seed)
    sealed = snapshot_file.seal(good.manifest)
    names = list(sealed.inline)
    while count:
        changed = Sealed(
            rng.choice([sealed.key_id, sealed.key_id, "", STRANGER.key_id, "x" * 99]),
            rng.choice([sealed.content, sealed.content, b"", b"{}", b"[" * 60_000, sealed.content + b" "]),
            rng.choice([sealed.signature, sealed.signature, b"", bytes(64), STRANGER.sign(sealed.content)]),
            rng.choice(
                [
                    sealed.inline,
                    {names[0]: sealed.inline[names[0]]},
                    {names[0]: sealed.inline[names[1]], names[1]: sealed.inline[names[0]]},
                    dict.fromkeys(names, b""),
                    sealed.inline | {"more": b"more"},
                    sealed.inline | {names[0]: bytes(400_000)},
                    sealed.inline | {names[0]: flipped(sealed.inline[names[0]], rng)},
                ]
            ),
        )
        mutant = encode_manifest(changed)
        if mutant != good.record:
            count -= 1
            yield mutant


def slot_of(manifest: Manifest) -> bytes:
    """Return the key of a manifest's index record."""
    return index_key(manifest).encode()

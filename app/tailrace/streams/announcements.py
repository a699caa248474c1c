"""Tells others on `<loop>.model-events` what happened to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tailrace.domain.branches import CHAMPION
from tailrace.domain.drift import DriftSignal
from tailrace.domain.pointers import Decision
from tailrace.domain.positions import Position, show
from tailrace.domain.proof import Divergence, ProofStatus
from tailrace.domain.snapshots import Manifest
from tailrace.streams import held_back
from tailrace.streams.log import Outgoing, Sink, TopicPartition
from tailrace.wire.avro_codec import ModelEvent, encode_model_event

PART_DIGEST: Final = "digest."
"""How the keys of the texts begin that hold the digest of a part, in the announcement of a snapshot."""

PROVEN: Final = "manifests"
"""The key of the text that holds the digests of the manifests of all proven snapshots, in that of a verification."""


class Announcements:
    """The model events of one loop: of the owner of the training log, and of who follows it and has cause to."""

    def __init__(self, sink: Sink, *, loop: str, topic: str, now_ms: Callable[[], int]) -> None:
        self.champion = ""  # lineage, as the learner has last said it
        self._sink = sink
        self._loop = loop
        self._partition = TopicPartition(topic, 0)
        self._now_ms = now_ms

    async def drift(self, signal: DriftSignal) -> None:
        """The loss of the served predictions has changed."""
        await self._send(
            "drift", signal.position, f"the loss of the served predictions {'rose' if signal.is_worse else 'fell'}"
        )

    async def skip(self, position: Position, error: str) -> None:
        """An example raised inside the model and is left out."""
        await self._send("skip", position, f"the model raised {error} at {show(position)}; the example is left out")

    async def snapshot(self, manifest: Manifest) -> None:
        """A snapshot is complete."""
        numbers = {"number": float(manifest.number), "bytes": float(manifest.stored_bytes)}
        texts = {"digest": manifest.state_digest, "lineage": manifest.lineage, "log_id": manifest.log_id}
        texts |= {f"{PART_DIGEST}{part.name}": part.digest for part in manifest.parts}
        await self._send("snapshot", manifest.position, f"snapshot {manifest.number} is complete", numbers, texts)

    async def decision(self, decision: Decision) -> None:
        """A branch was admitted, promoted or retired, or was refused to be."""
        done = {"admit": "admitted", "promote": "promoted", "retire": "retired"}[decision.kind]
        words = f"not {done}: {decision.refusal}" if decision.refusal else f"{done}"
        reason = f" ({decision.by}: {decision.why})" if decision.why else f" ({decision.by})"
        texts = {"branch": decision.branch, "by": decision.by, "why": decision.why, "refusal": decision.refusal}
        detail = f"branch {decision.branch[:12]} is {words}{reason}"
        await self._send(decision.kind, decision.position, detail, {"epoch": float(decision.epoch)}, texts)

    async def held_back(self, position: Position, lineage: str, why: str) -> None:
        """A process goes on without an admitted branch."""
        await self._send("held_back", position, held_back.in_words(lineage, why), None, {"branch": lineage, "why": why})

    async def divergence(self, found: Divergence) -> None:
        """Another member folded the same log and came to something else."""
        texts = {"member": found.member, "parts": ",".join(found.parts)}
        texts["equal_at"] = "" if found.equal_at is None else show(found.equal_at)
        await self._send("divergence", found.position, in_words(found), None, texts)

    async def verified(self, proof: ProofStatus, numbers: Sequence[int], manifests: Sequence[str]) -> None:
        """The log was folded again in another process.

        Args:
            numbers: Of the proven snapshots, for people.
            manifests: Digests of their manifests: numbers come again, in other lineages and in a log written anew.
        """
        counts = {"proven": float(proof.proven), "known": float(proof.known)}
        texts = {"snapshots": ",".join(map(str, numbers)), PROVEN: ",".join(manifests), "problem": proof.problem}
        words = proof.problem or f"{proof.proven} of {proof.known} snapshots are what the log says"
        await self._send("verified", proof.position, words, counts, texts)

    async def refused(self, command_id: str, reason: str) -> None:
        """A command was not even taken into the log."""
        await self._send(
            "command_refused", 0, f"command {command_id or '?'} is refused: {reason}", None, {"id": command_id}
        )

    async def _send(
        self,
        kind: str,
        position: Position,
        detail: str,
        numbers: Mapping[str, float] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        event = ModelEvent(
            self._loop, kind, self._now_ms(), CHAMPION, self.champion[:12], position, detail, numbers or {}, texts or {}
        )
        # Nobody waits for it: an announcement is news, the log is the truth.
        await self._sink.send(self._partition, [Outgoing(self._loop.encode(), encode_model_event(event))])


def in_words(found: Divergence) -> str:
    """Return a divergence as a sentence."""
    since = "" if found.equal_at is None else f", equal up to {show(found.equal_at)}"
    return f"at {show(found.position)} {', '.join(found.parts)} differ from those of {found.member}{since}"

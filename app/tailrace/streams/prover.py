"""Lets another process fold the training log again, now and then, and tells what it found.

The other process is `tailrace verify`, at the lowest priority, one at a time for each loop, from the last snapshot that
was proven on: every stretch of the log is folded once more than by the learner, and never in its memory. It ends with
this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final

import orjson
import structlog
from mode import Service

from tailrace.domain.positions import parse
from tailrace.domain.proof import ProofStatus
from tailrace.streams.announcements import Announcements
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_END_WITHIN_S: Final = 2.0  # after SIGTERM, before SIGKILL
_READ: Final = frozenset({"snapshot", "problem", "proven", "proven_manifests", "known", "end"})  # of a certificate
_WORDS_KEPT: Final = 400  # of what a verification that failed wrote


@dataclass(frozen=True, slots=True)
class Proving:
    """What a verification in the background is made of.

    Attributes:
        command: Of one that prints its certificate as JSON.
        environment, folder: Of that process.
        is_mine: Whether this process, of all that could, begins them now.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    every_ms: int
    is_mine: Callable[[], bool]
    announcements: Announcements
    recorder: Recorder
    now_ms: Callable[[], int]


class Prover(Service):
    """Verifies one loop every so often.

    Attributes:
        proof: What the last verification came to; None before the first.
    """

    def __init__(self, proving: Proving) -> None:
        super().__init__()
        self.proof: ProofStatus | None = None
        self._proving = proving
        self._child: asyncio.subprocess.Process | None = None

    @Service.task
    async def _prove(self) -> None:
        while not self.should_stop:
            await self.sleep(self._proving.every_ms / 1_000)
            if not self.should_stop and self._proving.is_mine():
                await self._verify()

    async def on_stop(self) -> None:
        """End the verification that is under way."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), _END_WITHIN_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()

    async def _verify(self) -> None:
        made = self._proving
        child = self._child = await asyncio.create_subprocess_exec(
            *made.command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=made.environment, cwd=made.folder
        )
        out, err = await child.communicate()
        if self.should_stop:
            return
        certificate = _read(out)
        if certificate is None:
            made.recorder.verified("failed", None)
            words = err.decode("utf-8", "replace").strip()[-_WORDS_KEPT:]
            log.warning("verification failed, the next interval tries again", code=child.returncode, why=words)
        elif certificate["snapshot"] is None:
            log.info("nothing to verify yet", why=certificate["problem"])
        else:
            await self._tell(certificate)

    async def _tell(self, certificate: Mapping[str, Any]) -> None:
        made, problem = self._proving, certificate["problem"] or ""
        proven = certificate["proven"]
        proof = ProofStatus(made.now_ms(), parse(certificate["end"]), len(proven), certificate["known"], problem)
        self.proof = proof
        made.recorder.verified("different" if problem else "equal", proof.share)
        if problem:
            log.error("verification found another state", why=problem)
        await made.announcements.verified(proof, proven, certificate["proven_manifests"])


def _read(out: bytes) -> Mapping[str, Any] | None:
    """Return the certificate that was printed; None where there is none."""
    try:
        certificate = orjson.loads(out)
    except ValueError:
        return None
    return certificate if isinstance(certificate, dict) and certificate.keys() >= _READ else None

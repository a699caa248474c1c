"""What the API asks of the process it runs in. `main` gives it; tests give their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

Plain: TypeAlias = dict[str, Any]
Side: TypeAlias = Literal["events", "labels"]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream.

    Attributes:
        name: `prediction`, `model-event` or `gap`; "" of a pause, in which nothing came.
        id: Where a client goes on that has seen it; of a pause: that has seen nothing yet.
        data: JSON.
    """

    name: str
    id: str = ""
    data: bytes = b""


class Backend(Protocol):
    """Answers for the loops of a configuration, by their names. Bodies are as `bodies` describes them.

    Every call may raise a ProblemError, or a LogUnavailable.
    """

    @property
    def names(self) -> Sequence[str]:
        """The loops."""

    async def status(self) -> Plain:
        """Return a StatusAnswer."""

    def model(self, name: str) -> Plain:
        """Return a ModelBody."""

    async def predict(self, name: str, instances: Sequence[Plain], *, explain: bool) -> list[Plain]:
        """Return an InstanceAnswer each."""

    async def write(self, side: Side, name: str, records: Sequence[Plain]) -> Plain:
        """Write records; return a WriteAnswer."""

    async def versions(self, name: str, limit: int) -> Plain:
        """Return a VersionsAnswer."""

    async def snapshot_head(self, name: str, number: int | None, lineage: str | None) -> Mapping[str, str]:
        """Return headers about a snapshot, its length among them; its file is not fetched.

        Args:
            number: None: the newest.
            lineage: How it begins; None: any, where that is not ambiguous.
        """

    async def snapshot(self, name: str, number: int | None, lineage: str | None) -> tuple[bytes, Mapping[str, str]]:
        """Return a snapshot's file and headers about it."""

    async def quality(self, name: str, step_s: int) -> Plain:
        """Return a QualityAnswer."""

    async def predictions(self, name: str, limit: int, cursor: str | None) -> Plain:
        """Return a PredictionsAnswer."""

    def stream(
        self, name: str, types: Sequence[str], last_id: str | None
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """Open a stream: where it begins, events, and at least one pause a second while nothing comes.

        It lasts until the process stops.
        """

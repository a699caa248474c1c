"""A store of snapshots that fails, loses, and damages what it was given."""

from __future__ import annotations

from tests.simulation.faults import Faults

from tailrace.domain.errors import SnapshotRefused, StoreUnavailable
from tailrace.stores.snapshot_store import SnapshotStore

FAULTS = 0.06


class Vault(SnapshotStore):
    """Keeps contents in memory.

    Attributes:
        acknowledged: Path → what callers were told is kept; two that write one path replace each other's.
    """

    def __init__(self, faults: Faults) -> None:
        self.acknowledged: dict[str, list[bytes]] = {}
        self._faults = faults
        self._kept: dict[str, bytes] = {}
        self._listed: list[str] = []

    @property
    def address(self) -> str:
        """For messages."""
        return "memory"

    def put(self, path: str, content: bytes) -> None:
        """Keep a content, or fail, or say that it is kept and lose or damage it."""
        if self._faults.strikes("put_fails", FAULTS):
            raise StoreUnavailable("no space is left")
        self.acknowledged.setdefault(path, []).append(content)
        if self._faults.strikes("put_is_lost", FAULTS):
            return
        if self._faults.strikes("put_is_cut", FAULTS):
            content = content[: self._faults.rng.randrange(len(content))]
        elif self._faults.strikes("bit_flips", FAULTS):
            content = flipped(content, self._faults)
        self._kept[path] = content
        if not self._faults.strikes("listing_is_stale", FAULTS):
            self._listed = sorted(self._kept)

    def get(self, path: str, max_bytes: int) -> bytes:
        """Return a content, or what the way from the store made of it."""
        if self._faults.strikes("get_fails", FAULTS):
            raise StoreUnavailable("the store does not answer")
        if path not in self._kept:
            raise SnapshotRefused("missing", f"{path} is not there")
        content = self._kept[path]
        if len(content) > max_bytes:
            raise SnapshotRefused("too_large", f"{path} has {len(content)} bytes, allowed are {max_bytes}")
        return flipped(content, self._faults) if content and self._faults.strikes("get_flips", FAULTS) else content

    def paths(self, folder: str = "") -> list[str]:
        """Return what the listing shows, which may be stale."""
        return [path for path in self._listed if path.startswith(folder)]

    def delete(self, path: str) -> None:
        """Forget a content."""
        self._kept.pop(path, None)


def flipped(content: bytes, faults: Faults) -> bytes:
    """Return the content with one bit flipped."""
    place, bit = faults.rng.randrange(len(content)), faults.rng.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]

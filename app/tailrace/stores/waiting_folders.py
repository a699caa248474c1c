"""The folders of the waiting rooms on disk: one for each partition that this host joins, open in one place at a time.

A folder may still be held by a process that lost the partition and does not know it yet; then another folder is used,
and made anew or brought forward from the topics.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tailrace.domain.errors import WaitingRoomError
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_room import DiskRoom

_MOST: Final = 4
"""Folders of one partition: its own, and those for as long as former owners hold on to it."""


class WaitingFolders:
    """The rooms of one loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache = new_cache()

    def has(self, partition: int) -> bool:
        """Whether a room of this partition was made before."""
        return any(folder.exists() for folder in self._folders(partition))

    def open(self, partition: int) -> DiskRoom:
        """Open the room of a partition: as it was left, an empty one where there was none or it is damaged.

        Raises:
            WaitingRoomError: Nothing can be read or written there now, or former owners hold every folder.
        """
        refusal: WaitingRoomError | None = None
        for folder in self._folders(partition):
            try:
                room = self._room(folder, partition)
            except WaitingRoomError as problem:
                if not problem.is_locked:
                    raise
                refusal = problem
                continue
            self._clear(other for other in self._folders(partition) if other != folder)
            return room
        assert refusal is not None
        raise refusal

    def renew(self, room: DiskRoom, partition: int) -> DiskRoom:
        """Return an empty room in place of one that cannot be used.

        Raises:
            WaitingRoomError: Nothing can be written there.
        """
        with suppress(WaitingRoomError):
            room.close()
        shutil.rmtree(room.shelf.folder, ignore_errors=True)
        return self.open(partition)

    def _folders(self, partition: int) -> list[Path]:
        names = [str(partition), *(f"{partition}.{number}" for number in range(2, _MOST + 1))]
        return [self._folder / name for name in names]

    def _room(self, folder: Path, partition: int) -> DiskRoom:
        try:
            return DiskRoom(Shelf(folder, self._cache), partition)
        except WaitingRoomError as problem:
            if not problem.is_damaged:  # on a full disk, without file handles: what lies there may be good
                raise
        shutil.rmtree(folder, ignore_errors=True)
        return DiskRoom(Shelf(folder, self._cache), partition)

    def _clear(self, folders: Iterable[Path]) -> None:
        """Remove what former owners have let go of."""
        for folder in folders:
            if folder.exists():
                with suppress(WaitingRoomError):
                    Shelf(folder, self._cache).close()
                    shutil.rmtree(folder, ignore_errors=True)

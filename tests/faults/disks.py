"""Disks: a small one that fills up, and the log of a broker whose last writes are lost."""

from __future__ import annotations

import os
import select
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

READY_S = 10.0
_PIECE_BYTES = 64 << 10
_MOST_INODES = 1 << 20


class NoSmallDisk(Exception):
    """None can be had here; the message says why."""


class SmallDisk:
    """A tmpfs in a mount namespace of its own; it is gone with `close`, whatever happens to us.

    Args:
        inodes: How many files and folders it takes; None: as many as Linux thinks fit.

    Attributes:
        path: Where everyone of this user reaches it.
    """

    def __init__(self, size_mb: int, inodes: int | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tailrace-disk-"))
        whose = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        options = f"size={size_mb}m,mode=0777" + ("" if inodes is None else f",nr_inodes={inodes}")
        script = f"mount -t tmpfs -o {options} tailrace {self._folder} && echo ready && exec cat"
        try:
            self._holder = subprocess.Popen(
                ["unshare", *whose, "--mount", "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError as error:
            self._folder.rmdir()
            raise NoSmallDisk(f"{error.filename} is not installed") from error
        assert self._holder.stdout is not None
        said = b""
        if select.select([self._holder.stdout], [], [], READY_S)[0]:
            said = self._holder.stdout.readline()
        if said != b"ready\n":
            self.close()
            raise NoSmallDisk(f"no tmpfs can be mounted: {said.decode().strip() or 'no answer'}")
        self.path = Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def fill(self) -> None:
        """Take all room that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            piece = bytes(_PIECE_BYTES)
            while piece:
                try:
                    if ballast.write(piece) < len(piece):
                        piece = piece[: len(piece) // 2]
                except OSError:
                    piece = piece[: len(piece) // 2]

    def fill_inodes(self) -> None:
        """Take every inode that is left: nothing new can be opened there."""
        self._ballast.mkdir()
        for number in range(_MOST_INODES):
            try:
                (self._ballast / str(number)).touch()
            except OSError:
                return
        raise AssertionError(f"{self.path} takes more than {_MOST_INODES} files")

    def make_room(self) -> None:
        """Give back what `fill` or `fill_inodes` took."""
        if self._ballast.is_dir():
            shutil.rmtree(self._ballast)
        else:
            self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def close(self) -> None:
        """Let it go."""
        self._holder.kill()
        self._holder.wait()
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def lose_tail(data: Path, topic: str, partition: int, batches: int) -> int:
    """Cut the last record batches off a partition of a broker that does not run, as a power cut may.

    Args:
        data: The broker's folder.

    Returns:
        The first offset that was lost.
    """
    folder = data / f"{topic}-{partition}"
    segment = max(folder.glob("*.log"))
    held, starts, at = segment.read_bytes(), [], 0
    while at + 12 <= len(held):
        # Of a record batch (KIP-98): its first offset, then the length of what follows those 12 bytes.
        first, length = struct.unpack_from(">qi", held, at)
        if length <= 0 or at + 12 + length > len(held):
            break
        starts.append((at, first))
        at += 12 + length
    assert len(starts) > batches, f"{segment} holds {len(starts)} batches"
    cut, first = starts[-batches]
    os.truncate(segment, cut)
    return int(first)

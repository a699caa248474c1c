"""Where snapshot files lie.

`file:` is here, buckets are in `object_store`. Any form keeps three promises, held by `tests/stores/store_rules.py`:

    1. All or nothing: a reader finds the whole content of one finished put, or nothing, whatever is killed when.
    2. What put has returned from survives a power failure.
    3. A path never leads out of the store, and a content larger than asked for is never read into memory.

Calls block; callers on an event loop use `asyncio.to_thread`. The store's listing is never trusted to say which
snapshots exist: the index in Kafka does.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from tailrace.domain.errors import SnapshotRefused, StoreUnavailable

MAX_PATH_LENGTH: Final = 256

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_TEMPORARY_PREFIX: Final = ".writing-"
_ABANDONED_S: Final = 3_600
"""What a killed process left half-written is removed when it is so much older than the newest file."""


class SnapshotStore(ABC):
    """Keeps named contents. Paths are `name/name/…`, names `[A-Za-z0-9][A-Za-z0-9_.-]*`."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What the user configured, without secrets: for banners and messages."""

    @abstractmethod
    def put(self, path: str, content: bytes) -> None:
        """Keep a content, in place of one that was there.

        Raises:
            ValueError: The path is not one of a store.
            StoreUnavailable: It could not be kept; what was there before still is.
        """

    @abstractmethod
    def get(self, path: str, max_bytes: int) -> bytes:
        """Return a content.

        Raises:
            ValueError: The path is not one of a store.
            SnapshotRefused: reason "missing", "too_large" or "not_a_file".
            StoreUnavailable: It could not be read.
        """

    @abstractmethod
    def paths(self, folder: str = "") -> list[str]:
        """Return the paths below a folder, sorted; what is half-written is left out."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Forget a content; none being there is fine."""


class DirectoryStore(SnapshotStore):
    """`file:PATH`: a folder of a local file system, or of a network one that has atomic renames.

    Files are readable by their owner alone (0600, folders 0700): a snapshot holds values of features. Symbolic links
    below the root are never followed, neither to read nor to write; the root itself may be one.

    Args:
        on_step: Told the steps of a put: "store.half_written", "store.written".
    """

    def __init__(self, root: Path, *, on_step: Callable[[str], None] = lambda _: None) -> None:
        self._root = root.absolute()
        self._on_step = on_step

    @property
    def address(self) -> str:
        return f"file:{self._root}"

    def put(self, path: str, content: bytes) -> None:
        folders, name = _split(path)
        with _failures(path, is_put=True), self._folder(folders, create=True) as folder:
            temporary = f"{_TEMPORARY_PREFIX}{token_hex(8)}"
            try:
                written_s = _write_synced(temporary, content, folder, self._on_step)
                self._on_step("store.written")
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)
            _remove_abandoned(folder, written_s - _ABANDONED_S)

    def get(self, path: str, max_bytes: int) -> bytes:
        folders, name = _split(path)
        with _failures(path), self._folder(folders) as folder, _opened(name, _READ, folder) as file:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise SnapshotRefused("not_a_file", f"{path} in {self.address} is not a plain file; it is ignored")
            if found.st_size > max_bytes:
                raise SnapshotRefused(
                    "too_large", f"{path} has {found.st_size} bytes, allowed are {max_bytes}; it is ignored"
                )
            return _read_up_to(file, found.st_size)

    def paths(self, folder: str = "") -> list[str]:
        top = self._root.joinpath(*names_of(folder)) if folder else self._root
        with _failures(folder or "."):
            return sorted(
                path.relative_to(self._root).as_posix()
                for path in top.rglob("*")
                if not path.name.startswith(".") and path.is_file() and not path.is_symlink()
            )

    def delete(self, path: str) -> None:
        folders, name = _split(path)
        try:
            with _failures(path), self._folder(folders) as folder:
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except SnapshotRefused as refused:
            if refused.reason != "missing":
                raise

    @contextmanager
    def _folder(self, names: list[str], *, create: bool = False) -> Iterator[int]:
        if create:
            _make_root(self._root)
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if create:
                    _make_folder(name, folder)
                inner = os.open(name, _READ | os.O_DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


# O_NONBLOCK: opening a planted named pipe must not wait for a writer.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_path(text: str) -> bool:
    """Return whether a text is a path of a store."""
    return len(text) <= MAX_PATH_LENGTH and all(_NAME.fullmatch(name) for name in text.split("/"))


def names_of(path: str) -> list[str]:
    """Return the names that a path is made of.

    Raises:
        ValueError: It is not one of a store.
    """
    if not is_path(path):
        raise ValueError(
            f"{path[:MAX_PATH_LENGTH]!r} is not a path of a store; allowed are up to {MAX_PATH_LENGTH} letters, "
            "digits, '_', '.' and '-', in names that begin with a letter or digit, with '/' between them"
        )
    return path.split("/")


def _split(path: str) -> tuple[list[str], str]:
    *folders, name = names_of(path)
    return folders, name


def _make_root(root: Path) -> None:
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing:
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _make_folder(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=parent)
        os.fsync(parent)


@contextmanager
def _opened(name: str, flags: int, folder: int) -> Iterator[int]:
    file = os.open(name, flags, mode=0o600, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def _write_synced(name: str, content: bytes, folder: int, on_step: Callable[[str], None]) -> float:
    view, half = memoryview(content), len(content) // 2
    with _opened(name, _CREATE, folder) as file:
        _write_all(file, view[:half])
        on_step("store.half_written")
        _write_all(file, view[half:])
        os.fsync(file)
        return os.fstat(file).st_mtime


def _write_all(file: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(file, rest) :]


def _remove_abandoned(folder: int, before_s: float) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_TEMPORARY_PREFIX):
                with suppress(FileNotFoundError):  # another writer has just put it in its place, or removed it
                    if entry.stat(follow_symlinks=False).st_mtime < before_s:
                        os.unlink(entry.name, dir_fd=folder)


def _read_up_to(file: int, size: int) -> bytes:
    # Files are replaced, never changed in place, so the size that was found is the size that is read.
    chunks = []
    while size > 0 and (chunk := os.read(file, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


@contextmanager
def _failures(path: str, *, is_put: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno == errno.ENOENT and not is_put:
            raise SnapshotRefused("missing", f"{path} is not in the store") from cause
        # ELOOP: a symbolic link stands there; ENOTDIR: a file, or a link where a folder was meant.
        if cause.errno in {errno.ELOOP, errno.ENOTDIR} and not is_put:
            raise SnapshotRefused("not_a_file", f"{path} leads over something that is no plain file") from cause
        raise StoreUnavailable(
            f"{path} cannot be read or written: {cause.strerror}; check the space and permissions of the store"
        ) from cause

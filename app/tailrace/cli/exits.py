"""Exit codes of every command, and which error ends with which."""

from __future__ import annotations

from enum import IntEnum

from tailrace.domain.errors import (
    LogError,
    LogUnavailable,
    OwnershipLost,
    SettingsError,
    SnapshotRefused,
    StoreUnavailable,
    TailraceError,
)


class Exit(IntEnum):
    """What a command says to the shell that called it."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    CONFIG = 3
    UNREACHABLE = 4
    REFUSED = 5
    UNEXPLAINED = 75  # sysexits' "temporary failure": systemd and Kubernetes start the process again
    INTERRUPTED = 130


_EXITS: tuple[tuple[type[TailraceError], Exit], ...] = (
    (SettingsError, Exit.CONFIG),
    (LogUnavailable, Exit.UNREACHABLE),
    (LogError, Exit.REFUSED),
    (SnapshotRefused, Exit.REFUSED),
    (StoreUnavailable, Exit.UNREACHABLE),
    (OwnershipLost, Exit.UNEXPLAINED),
)


def exit_of(error: TailraceError) -> Exit:
    """Return the exit code of a command that ended with this error."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.CHECK_FAILED)


class UsageError(Exception):
    """The arguments of a command contradict each other; ends with USAGE."""

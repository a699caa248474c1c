"""The error tree. Expected things (late, duplicate, poison) are outcomes, never errors.

    TailraceError
    ├── SettingsError          the configuration cannot be used; carries every problem at once
    │   └── ExpressionError    a model expression cannot be accepted; carries the position
    ├── ContractError          our own caller broke a promise about shapes or types
    ├── CodecError             bytes are not what their format promises
    ├── SnapshotRefused        a snapshot failed one step of the load order
    ├── StoreUnavailable       the snapshot store takes or gives nothing (retriable)
    ├── WaitingRoomError       the waiting room on disk is damaged, locked or full (retriable: it is made again)
    ├── FoldError              a model raised while it learned one example
    ├── LogError               the log cannot be used as it is
    │   ├── ForeignLogError    truncated, recreated or another log than the one that was folded
    │   ├── RecordTooLarge     one record is larger than the topic accepts
    │   ├── LogUnavailable     the log does not answer (retriable)
    │   └── UnexplainedState   a client of the log is in a state that only a new process gets out of
    └── OwnershipLost          another process owns this partition now (retriable)

Each class says with `retriable` whether the same act may succeed later without a person doing something.
A message has three parts: what was found, what was allowed, what to do next.
"""

from __future__ import annotations

from typing import ClassVar


def is_stop(error: BaseException) -> bool:
    """Return whether an exception ends the process, and so is no answer of the model it came through.

    A cancellation does not: a task is cancelled where it awaits, and a call of a model awaits nothing, so one that
    comes out of it is the model's own. Taken for the task's it would end learning or scoring without a word.
    """
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


class TailraceError(Exception):
    """Base of every error that Tailrace raises on purpose."""

    retriable: ClassVar[bool] = False


class SettingsError(TailraceError):
    """The configuration cannot be used.

    Attributes:
        problems: One line per problem: key, what was found, what was allowed, nearest valid name.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ExpressionError(SettingsError):
    """A model expression cannot be accepted.

    Attributes:
        column: 0-based position in the expression at which the refused part begins.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__([message])
        self.column = column


class ContractError(TailraceError):
    """A caller inside Tailrace passed columns that do not fit the feature contract."""


class CodecError(TailraceError):
    """Bytes are not what their format promises: cut, foreign, of an unknown version."""


class SnapshotRefused(TailraceError):
    """A snapshot failed one step of the load order.

    Attributes:
        reason: Stable name of the step, e.g. "digest", "lineage", "too_large".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StoreUnavailable(TailraceError):
    """The snapshot store takes or gives nothing: no space, no permission, not mounted."""

    retriable = True


class WaitingRoomError(TailraceError):
    """The waiting room on disk cannot be used: damaged, locked by another process, no space.

    Nothing is lost with it: the join makes it again from the topics.

    Attributes:
        is_locked: Another process, or another part of this one, has it.
        is_damaged: What it holds cannot be read, or is none of ours: it can only be made anew. Without it the same
            folder may be good once there is room, a permission or a file handle.
    """

    retriable = True

    def __init__(self, message: str, *, is_locked: bool = False, is_damaged: bool = False) -> None:
        super().__init__(message)
        self.is_locked = is_locked
        self.is_damaged = is_damaged


class FoldError(TailraceError):
    """The model of a branch raised while it learned the example at `position`.

    The state that was being folded is half-changed and must be thrown away.

    Attributes:
        branch: Lineage of the branch.
    """

    def __init__(self, position: int, cause: BaseException, branch: str) -> None:
        super().__init__(f"the model raised {type(cause).__name__} while it learned position {position}")
        self.position = position
        self.cause = cause
        self.branch = branch


class LogError(TailraceError):
    """The log cannot be used as it is."""


class ForeignLogError(LogError):
    """The log is not the one that was folded: truncated, recreated, or another one."""


class RecordTooLarge(LogError):
    """One record is larger than its topic accepts; it was not sent."""


class LogUnavailable(LogError):
    """The log does not answer."""

    retriable = True


class UnexplainedState(LogError):
    """A client of the log is in a state that nobody can explain; the process ends and is started anew."""


class OwnershipLost(TailraceError):
    """Another process owns this partition of the log now."""

    retriable = True

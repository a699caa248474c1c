"""What the commands that change which branch serves have in common: who asks and why, the answer in plain words."""

from __future__ import annotations

import getpass
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from tailrace.cli import output
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.session import loop_of, now_ms
from tailrace.domain.positions import Position, show
from tailrace.settings import Settings

if TYPE_CHECKING:
    from tailrace.domain.branches import Branch
    from tailrace.inspection.asking import Answer, Asking
    from tailrace.inspection.lineup import Loop
    from tailrace.inspection.reading import Reading
    from tailrace.main import LoopDomain

SHORT: Final = 12
"""Digits of a lineage that people read and type."""

_TELL_EVERY_S: Final = 1.0

By: TypeAlias = Annotated[str | None, Parameter(help="Who asks; without it the name of this user.")]
"""`by: By = None`; hand it to `who`."""

Why: TypeAlias = Annotated[str | None, Parameter(help="The reason, kept in the log for good.")]
"""`why: Why = None`; hand it to `reason`."""

Wait: TypeAlias = Annotated[int, Parameter(help="Seconds to wait for a learner to take it.")]
"""`wait: Wait = WAIT_S`."""

WAIT_S: Final = 120


def who(by: str | None) -> str:
    """Return who asks: as given, else this user's name."""
    if by is not None and not by.strip():
        raise UsageError("--by: found nothing; allowed: a name")
    try:
        return by or getpass.getuser()
    except (OSError, KeyError) as cause:  # a container's user without a name
        raise UsageError("--by: this user has no name; allowed: a name") from cause


def reason(why: str | None, otherwise: str) -> str:
    """Return the reason: as given, else as a person at a terminal types it, else what is known."""
    if why is not None:
        return why
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return otherwise
    print(f"why? [{otherwise}] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or otherwise


def domain_of(settings: Settings, loop: str | None) -> LoopDomain:
    """Return the loop of this name, or the only one there is."""
    from tailrace import main  # noqa: PLC0415 - loads River

    name, found = loop_of(settings, loop)
    return main.LoopDomain.of(name, found, settings.folder)


def loop_for(domain: LoopDomain) -> Loop:
    """Return what `inspection` needs of a loop to look at its branches."""
    from tailrace import main  # noqa: PLC0415 - loads River
    from tailrace.inspection.lineup import Loop  # noqa: PLC0415

    return Loop(domain.name, domain.topics, domain.fold(), main.versions())


def asking(reading: Reading, loop: Loop) -> Asking:
    """Return what asks the learner, with this machine's key for commands.

    Raises:
        SettingsError: There is no such key, and none can be made that would count.
    """
    from tailrace.inspection.asking import Asking  # noqa: PLC0415
    from tailrace.inspection.operator_key import operator_key  # noqa: PLC0415
    from tailrace.opening import open_keys  # noqa: PLC0415

    return Asking(reading, loop, operator_key(open_keys(reading.settings), output.talk), now_ms)


def before_end(option: str, found: Position, end: Position) -> None:
    """Return if a position that a person typed lies before the log's end, or is the log's start.

    Raises:
        UsageError: Nothing stands there yet.
    """
    if 0 < found >= end:
        raise UsageError(f"{option}: found {show(found)}; allowed: a position before the log's end, {show(end)}")


def chosen_branch(branches: dict[str, Branch], beginning: str) -> str:
    """Return the lineage that begins so.

    Raises:
        UsageError: None does, or several do.
    """
    found = [lineage for lineage in branches if lineage.startswith(beginning)]
    if len(found) == 1 and beginning:
        return found[0]
    known = ", ".join(lineage[:SHORT] for lineage in branches) or "none"
    raise UsageError(f"found {len(found)} admitted branches that begin with {beginning!r}; there are: {known}")


def answer_in_words(verb: str, lineage: str, answer: Answer) -> str:
    """Return what became of a request, in one sentence."""
    name = f"branch {lineage[:SHORT]}"
    if answer.is_waiting:
        later = "takes effect when a learner reads it; `tailrace branches list` shows when it has"
        return (
            f"no learner has taken it yet: to {verb} {name} lies at offset {answer.offset} of the commands and {later}"
        )
    if answer.refusal:
        return f"refused: to {verb} {name}: {answer.refusal}"
    return f"done: {name} is {_DONE[verb]}"


def exit_of_answer(answer: Answer) -> Exit:
    """Return the exit code for what became of a request."""
    if answer.is_waiting:
        return Exit.UNREACHABLE
    return Exit.REFUSED if answer.refusal else Exit.OK


def described(verb: str, lineage: str, answer: Answer) -> dict[str, Any]:
    """Return what became of a request, as fields."""
    decision = answer.decision
    return {
        "branch": lineage,
        "asked": verb,
        "done": answer.is_done,
        "said": answer_in_words(verb, lineage, answer),
        "position": None if decision is None else show(decision.position),
        "epoch": None if decision is None else decision.epoch,
    }


_DONE: Final = {"admit": "admitted", "promote": "promoted: it serves", "retire": "retired: it is not folded any more"}


class Teller:
    """Tells on stderr how far a fold is, once a second: how many, how fast, how long still."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun_s = self._told_s = perf_counter()

    def tell(self, done: int, total: int) -> None:
        """Take how many records are folded, and of how many."""
        now_s = perf_counter()
        if now_s - self._told_s < _TELL_EVERY_S:
            return
        self._told_s = now_s
        rate = done / (now_s - self._begun_s)
        # Before the first hundredth is done, the rate is that of loading and of the index, not of the fold.
        pace = f", {rate:,.0f} a second, about {(total - done) / rate:.0f} s left" if done * 100 >= total > 0 else ""
        output.talk(f"{self._name}: folded {done:,} of {total:,} records{pace}")

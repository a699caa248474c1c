"""`tailrace books`: what came in equals what became of it, counted again from the topics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, loops_of
from tailrace.domain.positions import show
from tailrace.settings import LoopSettings, Settings, load

if TYPE_CHECKING:
    from tailrace.inspection.books import Account
    from tailrace.inspection.reading import Reading

TWICE_SHOWN: Final = 100
"""Identities that were learned twice and are named; all of them are counted."""

_LOOKS: Final = 3
_LOOK_AGAIN_S: Final = 1.0


def register(app: App) -> None:
    """Add the command."""
    app.command(books)


def books(*, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None) -> int:
    """Recompute from the topics what became of every event and label; ends with 1 when something is unexplained.

    Counts each event and label once by its place in your topics, over the range
    that all topics still hold, and only as far as the loop has come, so that it
    may be asked at any time. Also looks whether anything was learned twice.

    tailrace books
    tailrace books -o json
    """
    settings = load(config)
    accounts = {name: _settled_account(settings, name, each) for name, each in loops_of(settings, loop).items()}
    for name, account in accounts.items():
        if output.chosen(output_format) == "json":
            output.json_line(described(name, account))
        else:
            _print(name, account)
    return Exit.OK if all(account.books.holds for account in accounts.values()) else Exit.CHECK_FAILED


def _settled_account(settings: Settings, name: str, loop: LoopSettings) -> Account:
    """Look again where the books do not hold: a horizon may be passing at this moment, in many rows at once."""
    from tailrace.inspection.books import account_of  # noqa: PLC0415 - loads the client of Kafka

    async def look(reading: Reading) -> Account:
        return await account_of(reading, name, loop)

    account = ask(settings, look)
    for _ in range(_LOOKS - 1):
        if account.books.holds:
            break
        time.sleep(_LOOK_AGAIN_S)
        again = ask(settings, look)
        if again.stretches == account.stretches:
            break
        account = again
    return account


def described(name: str, account: Account) -> dict[str, Any]:
    """Return the books as plain values."""
    found = account.books
    return {
        "loop": name,
        "balanced": found.holds,
        "balances": {
            each.line: {"total": each.total, **each.parts, "unexplained": each.difference} for each in found.balances
        },
        "redelivered": found.redelivered,
        "learned_twice": len(found.learned_twice),
        "learned_twice_positions": [[show(at) for at in each.positions] for each in found.learned_twice[:TWICE_SHOWN]],
        "range": [
            {
                "topic": each.topic,
                "partition": each.partition,
                "start": each.start,
                "end": each.end,
                "held_end": each.held_end,
            }
            for each in account.stretches
        ],
        "counted_after_ms": account.counted_after_ms,
        "notes": list(account.notes),
    }


def _print(name: str, account: Account) -> None:
    found = account.books
    print(f"loop {name}: the books {'balance' if found.holds else 'DO NOT BALANCE'}\n")
    for each in found.balances:
        verdict = "ok" if each.holds else f"{each.difference} unexplained"
        print(f"  {each.total} {each.line}: {verdict}")
        for part, count in each.parts.items():
            if count or part not in _USUALLY_NONE:
                print(f"    {count:>12} {_IN_WORDS.get(part, part)}")
    if found.redelivered:
        print(f"  {found.redelivered} rows of scored were delivered again; each counts once")
    twice = len(found.learned_twice)
    print(f"  learned twice: {twice or 'nothing'}")
    for again in found.learned_twice[:TWICE_SHOWN]:
        print(f"    at {', '.join(map(show, again.positions))}")
    print("\ncounted")
    output.rows([_stretch(each) for each in described(name, account)["range"]], _COLUMNS, "table")
    if account.counted_after_ms is not None:
        print("  only what came after topics lost their beginning, with time for it to be settled, is counted")
    for note in account.notes:
        print(f"  note: {note}")


_USUALLY_NONE: Final = frozenset({"foreign", "implicit", "left_out", "skipped"})
_IN_WORDS: Final = {
    "foreign": "foreign: recorded under another feature contract, so not learned",
    "left_out": "left out: before the start of the branch that serves, or named by its filter",
}
_COLUMNS: Final = ("topic", "partition", "from", "to", "not_yet")


def _stretch(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "topic": each["topic"],
        "partition": each["partition"],
        "from": each["start"],
        "to": each["end"],
        "not_yet": max(0, each["held_end"] - each["end"]),
    }

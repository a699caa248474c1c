"""`tailrace verify`: is the newest snapshot what the training log says?"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, loops_of, now_ms
from tailrace.domain.positions import Position, parse, row_of, show
from tailrace.domain.times import rfc3339_of
from tailrace.settings import Settings, load

if TYPE_CHECKING:
    from tailrace.inspection.certificate import Verified
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.verifying import Base
    from tailrace.main import LoopDomain

_TELL_EVERY_S: Final = 1.0
_LOWEST_PRIORITY: Final = 19


def register(app: App) -> None:
    """Add the command."""
    app.command(verify)


def verify(
    *,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="Number of the snapshot to begin with, or `proven`: the last one that a worker has verified. Without "
            "it: the start of the log, or what snapshot reaches to it.",
        ),
    ] = None,
    from_start: Annotated[
        bool, Parameter(negative="", help="Begin at the log's first record, and at nothing else.")
    ] = False,
    to: Annotated[
        str | None, Parameter(help="Offset of the training log up to which to fold; without it the newest snapshot's.")
    ] = None,
    low_priority: Annotated[
        bool, Parameter(negative="", help="Yield to everything else, and end with the process that began this.")
    ] = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Fold the training log again and compare with what was recorded; ends with 1 when they differ.

    Runs beside the workers and changes nothing. Equal digests prove that the
    model in the snapshot is what this log, this configuration and these
    libraries come to, byte for byte. Where they differ it says between which
    two recorded positions that begins.

    tailrace verify
    tailrace verify --from 12 -o json
    tailrace verify --from-start --to 4711
    """
    base, end = _base(from_, from_start=from_start), _position(to)
    from tailrace import main  # noqa: PLC0415 - loads River

    settings = load(config)
    chosen = loops_of(settings, loop)
    parent = _yield_to_others() if low_priority else None
    all_equal = True
    for domain in [main.LoopDomain.of(name, each, settings.folder) for name, each in chosen.items()]:
        begun = perf_counter()
        found = _verified(settings, domain, base, end, parent)
        output.record(_described(domain.name, found, perf_counter() - begun), output_format)
        all_equal &= found.is_equal
    return Exit.OK if all_equal else Exit.CHECK_FAILED


def _base(number: str | None, *, from_start: bool) -> Base:
    if from_start and number is not None:
        raise UsageError("found --from and --from-start; give one of them")
    if from_start:
        return "start"
    if number is None or number == "proven":
        return "proven" if number else None
    if not number.isdecimal():
        raise UsageError(f"--from: found {number!r}; allowed: the number of a snapshot, or proven")
    return int(number)


def _position(to: str | None) -> Position | None:
    if to is None:
        return None
    try:
        position = parse(to)
    except ValueError:
        position = -1
    if position < 0 or row_of(position):
        raise UsageError(f"--to: found {to!r}; allowed: an offset of the training log, such as 4711")
    return position


def _yield_to_others() -> int:
    """Take the lowest priority; return the process that began this one."""
    os.nice(_LOWEST_PRIORITY)
    return os.getppid()


def _verified(settings: Settings, domain: LoopDomain, base: Base, to: Position | None, parent: int | None) -> Verified:
    from tailrace import main  # noqa: PLC0415 - see above
    from tailrace.inspection.verifying import Verifier  # noqa: PLC0415
    from tailrace.opening import open_store  # noqa: PLC0415

    teller = _Teller(domain.name, parent)

    async def look(reading: Reading) -> Verified:
        verifier = Verifier(reading, domain.topics, domain.fold(), open_store(settings), main.versions())
        return await verifier.verify(teller.tell, base=base, to=to)

    return ask(settings, look)


def _described(name: str, found: Verified, seconds: float) -> dict[str, Any]:
    from tailrace import main  # noqa: PLC0415 - see above

    difference = found.difference
    return {
        "loop": name,
        "equal": found.is_equal,
        **asdict(found),
        "start": show(found.start),
        "end": show(found.end),
        "parts": [asdict(part) for part in found.parts],
        "difference": None
        if difference is None
        else asdict(difference) | {"equal_to": show(difference.equal_to), "at": show(difference.at)},
        "problem": found.problem or None,
        "versions": dict(main.versions()),
        "time": rfc3339_of(now_ms()),
        "process": os.getpid(),
        "seconds": round(seconds, 3),
        "examples_per_second": round(found.examples / seconds) if seconds > 0 else None,
    }


class _Teller:
    """Tells on stderr how far the fold is, once a second; ends the process when nobody waits for it any more."""

    def __init__(self, name: str, parent: int | None) -> None:
        self._name = name
        self._parent = parent
        self._told_s = perf_counter()

    def tell(self, done: int, total: int) -> None:
        """Take how many records are folded, and of how many."""
        now_s = perf_counter()
        if now_s - self._told_s < _TELL_EVERY_S:
            return
        self._told_s = now_s
        if self._parent is not None and os.getppid() != self._parent:
            sys.exit(Exit.INTERRUPTED)
        print(f"{self._name}: folded {done} of {total} records, {done * 100 // max(total, 1)} %", file=sys.stderr)

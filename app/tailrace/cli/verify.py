"""`tailrace verify`: is the newest snapshot what the training log says?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, loops_of
from tailrace.domain.positions import show
from tailrace.settings import Settings, load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.verifying import Verified
    from tailrace.main import LoopDomain

_TELL_EVERY_S: Final = 1.0


def register(app: App) -> None:
    """Add the command."""
    app.command(verify)


def verify(*, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None) -> int:
    """Fold the training log again from its start and compare with the newest snapshot; ends with 1 when they differ.

    Runs beside the workers and changes nothing. Equal digests prove that the
    model in the snapshot is what this log, this configuration and these
    libraries come to, byte for byte.

    tailrace verify
    tailrace verify -o json
    """
    from tailrace import main  # noqa: PLC0415 - loads River

    settings = load(config)
    chosen = loops_of(settings, loop)
    all_equal = True
    for domain in main.loops_of(settings):
        if domain.name in chosen:
            begun = perf_counter()
            found = _verified(settings, domain)
            shown = _described(domain.name, found, perf_counter() - begun)
            output.record(shown, output_format)
            all_equal &= found.is_equal
    return Exit.OK if all_equal else Exit.CHECK_FAILED


def _verified(settings: Settings, domain: LoopDomain) -> Verified:
    from tailrace import main  # noqa: PLC0415 - see above
    from tailrace.inspection.verifying import Verifier  # noqa: PLC0415
    from tailrace.opening import open_store  # noqa: PLC0415

    teller = _Teller(domain.name)

    async def look(reading: Reading) -> Verified:
        verifier = Verifier(reading, domain.topics, domain.fold(), open_store(settings), main.versions())
        return await verifier.verify(teller.tell)

    return ask(settings, look)


def _described(name: str, found: Verified, seconds: float) -> dict[str, Any]:
    shown: dict[str, Any] = {"loop": name, "equal": found.is_equal, **asdict(found)}
    return shown | {
        "start": show(found.start),
        "end": show(found.end),
        "seconds": round(seconds, 3),
        "examples_per_second": round(found.examples / seconds) if seconds > 0 else None,
        "problem": found.problem or None,
    }


class _Teller:
    """Tells on stderr how far the fold is, once a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told_s = perf_counter()

    def tell(self, done: int, total: int) -> None:
        """Take how many records are folded, and of how many."""
        now_s = perf_counter()
        if now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            print(f"{self._name}: folded {done} of {total} records, {done * 100 // total} %", file=sys.stderr)

"""`tailrace doctor`: what may keep a loop from working, with the next step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App
from rich.text import Text

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.model_check import model_check
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import be_quiet, now_ms
from tailrace.domain.errors import SettingsError, TailraceError
from tailrace.domain.status import Verdict, worst
from tailrace.settings import Settings, find_file, load

if TYPE_CHECKING:
    from tailrace.inspection.doctor import Check

_STYLES: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def register(app: App) -> None:
    """Add the command."""
    app.command(doctor)


def doctor(*, config: ConfigFile = None, output_format: OutputFormat = None) -> int:
    """Check configuration, keys, log, topics, partitioner of labels, clocks, store, model; ends with 1 when one fails.

    Changes nothing, but for a file of a few bytes in the store that it writes
    and deletes.

    tailrace doctor
    tailrace doctor -o json
    """
    be_quiet()
    is_json = output.chosen(output_format) == "json"
    settings = _settings(config, is_json=is_json)

    async def look() -> list[Verdict]:
        verdicts = []
        async for check in _checks(settings, find_file(config)):
            _print(check, is_json=is_json)
            verdicts.append(check.verdict)
        return verdicts

    return Exit.CHECK_FAILED if worst(asyncio.run(look())) is Verdict.FAIL else Exit.OK


def _settings(config: Path | None, *, is_json: bool) -> Settings:
    try:
        return load(config, check_model=model_check(find_file(config).parent))
    except SettingsError as error:
        if is_json:
            problems = "; ".join(error.problems)
            row = {"name": "config", "verdict": Verdict.FAIL, "found": problems, "next": "repair them", "loop": None}
            output.json_line(row)
        raise


async def _checks(settings: Settings, file: Path) -> AsyncIterator[Check]:
    from tailrace.inspection.doctor import Check, checks_of  # noqa: PLC0415 - loads the client of Kafka
    from tailrace.inspection.key_check import keys_check  # noqa: PLC0415
    from tailrace.opening import open_keys  # noqa: PLC0415

    loops = len(settings.loops)
    yield Check("config", Verdict.OK, f"{file}: no problem found, {loops} loop{'s' * (loops != 1)}")
    yield await asyncio.to_thread(keys_check, open_keys(settings), now_ms())
    is_reachable = True
    async for check in checks_of(settings, now_ms):
        yield check
        is_reachable &= check.name != "log" or check.verdict is Verdict.OK
    if is_reachable:
        async for check in _models(settings):
            yield check


async def _models(settings: Settings) -> AsyncIterator[Check]:
    from tailrace import main  # noqa: PLC0415 - loads River
    from tailrace.inspection.doctor import Check  # noqa: PLC0415
    from tailrace.inspection.model_cost import model_check as cost_check  # noqa: PLC0415
    from tailrace.inspection.reading import opened  # noqa: PLC0415

    async with opened(settings) as reading:
        for domain in main.loops_of(settings):
            try:
                yield await cost_check(reading, domain.settings, domain.topics, domain.fold(), domain.branch)
            except TailraceError as problem:
                advice = "read what it says; `tailrace check` knows the models that are proven"
                yield Check("model", Verdict.FAIL, str(problem), advice, domain.name)


def _print(check: Check, *, is_json: bool) -> None:
    if is_json:
        plain: dict[str, Any] = asdict(check)
        output.json_line(plain)
        return
    about = check.name if check.loop is None else f"{check.name} ({check.loop})"
    line = Text.assemble((f"{check.verdict.value:<5}", _STYLES[check.verdict]), f"{about}: {check.found}")
    console = output.console()
    console.print(line, soft_wrap=True)
    if check.next:
        console.print(Text(f"     next: {check.next}"), soft_wrap=True)

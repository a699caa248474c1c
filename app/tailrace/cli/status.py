"""`tailrace status`: what a loop does and how well, from its log alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter
from rich.live import Live
from rich.text import Text

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, loops_of, now_ms
from tailrace.cli.status_table import live_books, rendered
from tailrace.domain.positions import show
from tailrace.domain.status import LoopStatus, Verdict, to_plain, worst
from tailrace.settings import Settings, load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.status import Picture

WATCH_EVERY_S: Final = 1.0


def register(app: App) -> None:
    """Add the command."""
    app.command(status)


def status(
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative="", help="Show it again every second.")] = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Show what runs, how far it is behind and why, the model, its quality, and its last snapshot.

    Looks at the log alone: no process is asked. Ends with 1 when a verdict is
    fail.

    tailrace status
    tailrace status -o json
    """
    settings = load(config)
    names = tuple(loops_of(settings, loop))
    if watch:
        _watch(settings, names, output_format)
    pictures = ask(settings, _looker(settings, names))
    if output.chosen(output_format) == "json":
        _print_lines(pictures)
    else:
        output.console().print(rendered(pictures))
    verdict = worst(picture.status.verdict for picture in pictures)
    return Exit.CHECK_FAILED if verdict is Verdict.FAIL else Exit.OK


def _looker(settings: Settings, names: Iterable[str]) -> Callable[[Reading], Awaitable[list[Picture]]]:
    from tailrace.inspection.status import picture_of  # noqa: PLC0415 - loads the client of Kafka

    async def look(reading: Reading) -> list[Picture]:
        return [await picture_of(reading, name, settings.loops[name], now_ms()) for name in names]

    return look


def _watch(settings: Settings, names: Iterable[str], output_format: output.Format | None) -> None:
    """Look again and again, until Ctrl-C."""
    look = _looker(settings, names)

    async def keep_looking(reading: Reading, show_all: Callable[[list[Picture]], None]) -> None:
        while True:
            show_all(await look(reading))
            await asyncio.sleep(WATCH_EVERY_S)

    if output.chosen(output_format) == "json":
        ask(settings, lambda reading: keep_looking(reading, _print_lines))
        return
    with Live(Text("looking …"), console=output.console(), auto_refresh=False) as live:
        ask(
            settings,
            lambda reading: keep_looking(reading, lambda pictures: live.update(rendered(pictures), refresh=True)),
        )


def _print_lines(pictures: Iterable[Picture]) -> None:
    for picture in pictures:
        output.json_line(described(picture))
    sys.stdout.flush()


def described(picture: Picture) -> dict[str, Any]:
    """Return everything as plain values."""
    status_ = picture.status
    plain = {"headline": asdict(picture.headline), **to_plain(status_)}
    if status_.model is not None:
        plain["model"]["position_shown"] = show(status_.model.position)
    plain["snapshot_age_seconds"] = snapshot_age_s(status_)
    plain["books"] = live_books(status_.counters)
    plain["groups"] = {role.value: group for role, group in picture.groups.items()}
    plain["progress"] = [asdict(each) for each in picture.progress]
    return plain


def snapshot_age_s(status_: LoopStatus) -> float | None:
    """Return the age of the newest snapshot; None without one."""
    return None if status_.snapshot is None else max(0, status_.time_ms - status_.snapshot.time_ms) / 1_000

"""`tailrace demo`: a whole loop on this machine, with data that comes along."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.output import talk
from tailrace.telemetry import logs


def register(app: App) -> None:
    """Add the command."""
    app.command(demo)


def demo(
    *,
    seconds: Annotated[float | None, Parameter(help="End after this many seconds; without it Ctrl-C ends it.")] = None,
    summary: Annotated[Path | None, Parameter(help="Write what it came to into this file, as JSON.")] = None,
    kafka: Annotated[
        bool, Parameter(negative="", help="On an Apache Kafka of its own; needs Java 17+ and, once, Maven.")
    ] = False,
    bootstrap: Annotated[str | None, Parameter(help="HOST:PORT of a Kafka of yours to use instead.")] = None,
    keep: Annotated[
        Path | None, Parameter(help="Folder in which log, snapshots and tailrace.toml stay for other commands.")
    ] = None,
    http: Annotated[str | None, Parameter(help="HOST:PORT of /livez, /readyz and /metrics.")] = None,
    rate: Annotated[float, Parameter(help="Events per second.")] = 80.0,
    seed: Annotated[int, Parameter(help="Of the order of pages and the delays of labels.")] = 1,
) -> int:
    """Show a model that learns while it serves: real data, late labels, and a drift half-way.

    Runs a worker and a feeder on an embedded log in a temporary folder. Nothing
    stays behind, unless --keep says so; on a Kafka of yours the topics demo_*
    stay. Ends with 1 when not everything that came in is accounted for.

    tailrace demo
    tailrace demo --seconds 25 --summary out.json
    tailrace demo --keep ./demo --kafka
    """
    _check(seconds, rate, summary, is_twice=kafka and bootstrap is not None)
    talk("Tailrace demo is starting …")
    from tailrace.demo import runner, screen  # noqa: PLC0415 - loads River, Faust and the client of Kafka

    shown = screen.make_screen(sys.stderr)
    logs.configure("warning", "console", stream=screen.LogLines(shown))
    # Its errors of every new broker's first seconds are told by ours where they last.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    options = runner.DemoOptions(
        seconds=seconds,
        rate_per_s=rate,
        seed=seed,
        keep=keep,
        http=http,
        bootstrap=bootstrap,
        own_kafka=kafka,
        program=_program(),
    )
    ended = runner.play(options, shown)
    if ended is None:
        talk("ended before it had begun")
        return Exit.INTERRUPTED
    print(ended.in_words())
    if summary is not None:
        summary.write_text(json.dumps(ended.to_plain(), indent=2) + "\n")
    print("Your own data: `tailrace init --from-file EVENTS.jsonl` writes the configuration for it.")
    return Exit.OK if ended.is_balanced else Exit.CHECK_FAILED


def _check(seconds: float | None, rate: float, summary: Path | None, *, is_twice: bool) -> None:
    if seconds is not None and not 1 <= seconds < float("inf"):
        raise UsageError(f"--seconds: found {seconds:g}; allowed: at least 1")
    if not 1 <= rate <= 5_000:
        raise UsageError(f"--rate: found {rate:g}; allowed: 1 to 5000 events per second")
    if summary is not None and not summary.absolute().parent.is_dir():
        raise UsageError(f"--summary: there is no folder {summary.absolute().parent}; make it first")
    if is_twice:
        raise UsageError("found --kafka and --bootstrap; one starts a Kafka, the other uses yours: give one of them")


def _program() -> str:
    """Return how a person calls this command in another terminal."""
    if shutil.which("tailrace") is not None:
        return "tailrace"
    beside = Path(sys.executable).with_name("tailrace")
    return str(beside) if beside.exists() else f"{sys.executable} -m tailrace"

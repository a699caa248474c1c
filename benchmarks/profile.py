"""Where each microsecond of an event goes: by role and stage as the product counts it, and by package by samples.

    python -m benchmarks.profile [--events N] [--compiled]

Three runs on one broker: one process with all roles; the same, sampled every millisecond of its CPU; and the three roles
apart, so that what the client of Kafka, the event loop and Faust cost each of them is seen. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace

from benchmarks import lineup
from benchmarks.broker import broker, launcher, say
from benchmarks.configuration import COMPILED, UNMODIFIED, compiling
from benchmarks.protocol import Measured
from benchmarks.running import Outcome, run
from benchmarks.topics import Inputs, fill

_EVENTS = 100_000
_WITHIN_S = 300.0
REST = "Kafka client, event loop, Faust"
ROLES = ("score", "join", "learn")


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("--events", type=int, default=_EVENTS)
    parser.add_argument("--compiled", action="store_true", help="with champion.compiled = auto")
    asked = parser.parse_args()
    if asked.compiled and (why := compiling()):
        say(why)
        return 3
    launch = launcher()
    try:
        with broker(launch) as bootstrap:
            print(asyncio.run(_measure(bootstrap, asked.events, COMPILED if asked.compiled else UNMODIFIED)))
    except launch.LaunchError as problem:
        say(str(problem))
        return 4
    return 0


async def _measure(bootstrap: str, count: int, compiled: str) -> str:
    say(f"filling the topics: {count:,} events and labels")
    inputs = await fill(bootstrap, "bench", count, 1)
    ours = next(each for each in lineup.QUICK if each.parts)
    whole = replace(ours, compiled=compiled)
    say("warming up")
    await run(whole, bootstrap, inputs, _WITHIN_S)
    say("all roles in one process")
    plain = await run(whole, bootstrap, inputs, _WITHIN_S)
    say("the same, sampled")
    sampled = await run(replace(whole, options={"is_sampled": True}), bootstrap, inputs, _WITHIN_S)
    say("three processes")
    apart = await apart_run(whole, bootstrap, inputs)
    return "\n".join([*_stages(plain, apart), "", *_packages(sampled)])


async def apart_run(ours: lineup.Contender, bootstrap: str, inputs: Inputs) -> Outcome:
    """Run the three roles in a process each."""
    return await run(replace(ours, parts=tuple((role,) for role in ROLES)), bootstrap, inputs, _WITHIN_S)


def _stages(plain: Outcome, apart: Outcome) -> list[str]:
    columns = {"all roles": by_stage(plain.parts[0], plain.count)}
    columns |= {f"{role} alone": by_stage(part, apart.count) for role, part in zip(ROLES, apart.parts, strict=True)}
    names = [name for name in dict.fromkeys(name for column in columns.values() for name in column) if name != REST]
    lines = [f"| CPU us/event, {plain.count:,} events | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name in (*names, REST, "sum"):
        cells = [_cell(sum(column.values()) if name == "sum" else column.get(name)) for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def by_stage(part: Measured, count: int) -> dict[str, float]:
    """Return stage → microseconds an event of one process; the rest last."""
    named = {stage: seconds / count * 1e6 for stage, seconds in sorted(part.stages.items()) if seconds}
    return named | {REST: part.cpu_s / count * 1e6 - sum(named.values())}


def _packages(sampled: Outcome) -> list[str]:
    (part,) = sampled.parts
    shares: Mapping[str, float] = part.stages
    lines = ["| all roles, by package of the innermost frame | CPU us/event |", "|---|---|"]
    return [*lines, *(f"| {name} | {seconds / sampled.count * 1e6:.1f} |" for name, seconds in shares.items())]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())

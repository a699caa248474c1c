"""`tailrace topics`: what topics a loop needs, and making them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat, Yes
from tailrace.cli.session import LoopName, ask, be_quiet, loops_of
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.topics import TopicPlan

WithInputs: TypeAlias = Annotated[
    bool,
    Parameter(name="--with-inputs", negative="", help="Create missing topics of events and labels too, on Kafka."),
]


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="topics", help="The topics of a loop: see how they differ, and make them so.")
    group.command(plan)
    group.command(apply)
    app.command(group)


def plan(
    *,
    with_inputs: WithInputs = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Print what `topics apply --yes` would do; ends with 1 when a topic that exists breaks a promise.

    Nothing is ever lowered, deleted or reset. Topics of events and labels are
    yours: they are only looked at.

    tailrace topics plan
    tailrace topics plan -o json
    """
    from tailrace.inspection import topics  # noqa: PLC0415 - loads the client of Kafka

    be_quiet()
    settings = load(config)
    chosen = loops_of(settings, loop)
    plans = {name: topics.planned(settings, name, each, with_inputs=with_inputs) for name, each in chosen.items()}
    for name, made in plans.items():
        _print(name, made, output_format, is_applied=False)
    return Exit.CHECK_FAILED if any(made.refusals for made in plans.values()) else Exit.OK


def apply(
    *,
    yes: Yes = False,
    with_inputs: WithInputs = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Create and change topics as planned; without --yes print the plan and stop. Ends with 5 when one is refused.

    tailrace topics apply --yes
    """
    if not yes:
        code = plan(with_inputs=with_inputs, loop=loop, config=config, output_format=output_format)
        output.talk("nothing was changed; --yes does it")
        return code
    settings = load(config)
    chosen = loops_of(settings, loop)

    async def act(reading: Reading) -> dict[str, TopicPlan]:
        from tailrace.inspection import topics  # noqa: PLC0415 - loads the client of Kafka

        return {
            name: await topics.applied(reading, name, each, with_inputs=with_inputs) for name, each in chosen.items()
        }

    for name, made in ask(settings, act, must_exist=False).items():
        _print(name, made, output_format, is_applied=True)
    return Exit.OK


def _print(name: str, made: TopicPlan, output_format: output.Format | None, *, is_applied: bool) -> None:
    if output.chosen(output_format) == "json":
        output.json_line(described(name, made) | {"applied": is_applied})
        return
    print(f"loop {name}: {'done' if is_applied and not made.is_empty else _headline(made)}")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for is_last in (False, False, False, True):
        table.add_column(no_wrap=not is_last, overflow="fold")
    for row in _steps(made):
        table.add_row(*(Text(cell) for cell in row))
    if table.row_count:
        output.console().print(table)
    for refusal in made.refusals:
        print(f"  refused: {refusal}")
    for remark in made.remarks:
        print(f"  note: {remark}")
    if made.missing:
        print("  next: create what is yours, or let `tailrace topics apply --with-inputs --yes` do it")


def _steps(made: TopicPlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield what to do, with which topic, in what shape, with which settings."""
    for creation in made.creations:
        topic = creation.topic
        shape = f"{_count(topic.partitions, 'partition')}, {_count(topic.replication, 'replica')}"
        yield "  create", topic.name, shape, _settings(topic.settings)
    for growth in made.growths:
        yield "  grow", growth.name, f"{growth.present} → {_count(growth.total, 'partition')}", ""
    for change in made.changes:
        yield "  change", change.name, "", _settings(change.settings)


def _settings(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _headline(made: TopicPlan) -> str:
    if made.refusals:
        return "a topic breaks a promise, so nothing would be done"
    if not made.is_empty:
        return "to be done"
    return "topics of yours are missing" if made.missing else "every topic is as it must be"


def described(name: str, made: TopicPlan) -> dict[str, Any]:
    """Return a plan as plain values."""
    return {
        "loop": name,
        "create": [asdict(creation.topic) for creation in made.creations],
        "add_partitions": [asdict(growth) for growth in made.growths],
        "change": [asdict(change) for change in made.changes],
        "refusals": list(made.refusals),
        "remarks": list(made.remarks),
    }

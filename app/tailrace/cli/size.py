"""`tailrace size`: how many processes a rate takes, before there is anything to measure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.options import OutputFormat
from tailrace.cli.output import talk
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import ContractError
from tailrace.domain.records import Task
from tailrace.domain.sizing import BUSY, Fleet, ModelCost, size

SizedTask = Literal["binary", "regression", "anomaly"]

_COLUMNS: Final = ("role", "processes", "cores", "us_an_event")
_MOST_FEATURES: Final = 10_000


def register(app: App) -> None:
    """Add the command."""
    app.command(sized, name="size")


def sized(
    *,
    rate: Annotated[float, Parameter(help="Events a second, steady; bursts are caught up with the half that is free.")],
    features: Annotated[int, Parameter(help="Numbers an event.")],
    model: Annotated[str, Parameter(help="The model, as in the configuration; it is timed here, on made-up examples.")],
    task: Annotated[SizedTask, Parameter(help="What the model is asked for.")] = "binary",
    labelled: Annotated[float, Parameter(help="Share of the events that get a label, 0 to 1.")] = 1.0,
    output_format: OutputFormat = None,
) -> int:
    """Say how many processes, cores and partitions a rate takes.

    The model is timed on this machine; what an event costs besides was measured
    on the machine of benchmarks/results/sizing.json. Ends with 1 when one
    learner cannot keep up.

    tailrace size --rate 20000 --features 20 --model "StandardScaler() | LogisticRegression()"
    """
    if not 1 <= features <= _MOST_FEATURES:
        raise UsageError(f"--features: found {features}; allowed: 1 to {_MOST_FEATURES:,}")
    cost = _cost(model, Task(task), features)
    try:
        fleet = size(rate, features, cost, labelled)
    except ContractError as error:
        raise UsageError(str(error)) from error
    output.rows([_row(fleet, index) for index in range(len(fleet.roles))], _COLUMNS, output_format)
    for line in advice(fleet):
        talk(line)
    return Exit.OK if fleet.keeps_up else Exit.CHECK_FAILED


def advice(fleet: Fleet) -> Iterator[str]:
    """Yield what the numbers mean, in words."""
    score, join, _ = fleet.roles
    if fleet.is_one_process:
        yield f"one process with all roles is enough: `tailrace run`, {fleet.cores:.2f} of a core on average"
    else:
        yield (
            f"{score.processes} x `tailrace run --role score`, {join.processes} x `--role join`, 1 x `--role learn`: "
            f"{fleet.cores:.1f} cores busy on average, scorers and joiners at most {BUSY:.0%} of one each"
        )
        yield f"at least {fleet.partitions} partitions for events and labels; broker and disks come on top"
    if not fleet.keeps_up:
        yield (
            f"one learner learns at most {fleet.most_learned:,.0f} examples a second and will fall behind; scoring "
            "will not. Choose a cheaper model, or divide the events into loops"
        )


def _cost(model: str, task: Task, features: int) -> ModelCost:
    # River takes two seconds to load; help and version answer at once.
    from tailrace.domain.models.spec import ModelSpec  # noqa: PLC0415
    from tailrace.inspection.model_speed import model_speed, numbers  # noqa: PLC0415
    from tailrace.settings import importer  # noqa: PLC0415

    target = TargetContract(task)
    spec = ModelSpec.load(task.value, model, importer(Path.cwd()))
    try:
        return model_speed(spec, numbers(features, target), target)
    except ContractError as error:
        raise UsageError(f"--model: {error}") from error


def _row(fleet: Fleet, index: int) -> dict[str, Any]:
    role = fleet.roles[index]
    return {
        "role": role.role,
        "processes": role.processes,
        "cores": round(role.cores, 3),
        "us_an_event": round(role.event_us, 1),
        "partitions": fleet.partitions,
        "one_process": fleet.is_one_process,
        "keeps_up": fleet.keeps_up,
    }

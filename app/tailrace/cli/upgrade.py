"""`tailrace upgrade`: the configured model, or the same one with other libraries, beside the one that serves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.building import COMPARED, Compare, DryRun, Order, carried_out
from tailrace.cli.deciding import SHORT, WAIT_S, By, Wait, Why, before_end, domain_of, loop_for, who
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat, read_position
from tailrace.cli.session import LoopName, ask, now_ms
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading


def register(app: App) -> None:
    """Add the command."""
    app.command(upgrade)


def upgrade(
    *,
    promote: Annotated[bool, Parameter(negative="", help="Let it serve once the learner holds it.")] = False,
    start: Annotated[
        str | None, Parameter(help="Learn from this position of the log on (offset or offset:row).")
    ] = None,
    compare: Compare = COMPARED,
    dry_run: DryRun = False,
    by: By = None,
    why: Why = None,
    wait: Wait = WAIT_S,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Build the configured model beside the one that serves, compare the two, and let the learner hold both.

    It is folded from the log's start with the libraries of this environment, and
    asked about the last examples as of the state that had served each of them.
    What serves goes on serving and learning; with --promote the new one takes
    over at one position of the log. What a repair left out stays left out.

    tailrace upgrade --dry-run
    tailrace upgrade --promote --why "river 0.26"
    """
    settings = load(config)
    domain, asked_by = domain_of(settings, loop), who(by)

    async def act(reading: Reading) -> tuple[Exit, dict[str, Any]]:
        from tailrace.domain.branches import has_same_learner, renewed  # noqa: PLC0415
        from tailrace.domain.positions import position_of  # noqa: PLC0415
        from tailrace.inspection.building import Builder  # noqa: PLC0415
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415

        known = loop_for(domain)
        lineup = await lineup_of(reading, known)
        serving = lineup.champion
        branch = renewed(domain.branch, serving)
        if start is not None:
            branch = replace(branch, start=read_position("--start", start))
            before_end("--start", branch.start, position_of(await Builder(reading, known, now_ms).end()))
        if branch.lineage == lineup.pointers.champion:
            said = f"branch {branch.lineage[:SHORT]} serves already: it is the configured model with these libraries"
            return Exit.OK, {"branch": branch.lineage, "built": False, "said": said}
        ids = frozenset[str]()
        if branch.filter.ids:
            ids = await Builder(reading, known, now_ms).known_ids(lineup.pointers.champion)
        is_new = serving is not None and not has_same_learner(serving, branch)
        order = Order(branch, ids, asked_by, why, compare, wait, dry_run, promote, is_new)
        return await carried_out(reading, known, lineup, order)

    code, found = ask(settings, act)
    output.record(found, output_format)
    return code

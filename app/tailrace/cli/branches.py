"""`tailrace branches`: which models a loop has beside each other, which of them serves, and who decided so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.deciding import (
    SHORT,
    WAIT_S,
    By,
    Wait,
    Why,
    asking,
    chosen_branch,
    described,
    domain_of,
    exit_of_answer,
    loop_for,
    reason,
    who,
)
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask
from tailrace.domain.times import rfc3339_of
from tailrace.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from tailrace.cli.output import Format
    from tailrace.domain.records import RequestKind
    from tailrace.inspection.asking import Answer
    from tailrace.inspection.branch_rows import BranchRow, Story
    from tailrace.inspection.reading import Reading

# What follows loads River, and is loaded where a command needs it: `tailrace --help` does without.

COLUMNS: Final = ("branch", "serves", "learned", "left_out", "admitted_at", "folds_here", "model")
STORIES: Final = ("position", "time", "what")

Beginning: TypeAlias = Annotated[
    str, Parameter(help="The branch: how its lineage begins, as `branches list` shows it.")
]


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="branches", help="Models of a loop beside each other: what serves, what may, who decided.")
    group.command(show, name="list")
    group.command(promote)
    group.command(retire)
    group.command(history)
    app.command(group)


def show(*, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """Print the admitted branches: which serves, what each learned and leaves out, whether it can be folded here.

    What was learned is as of the newest snapshot. Every branch costs as much
    learning as the one that serves; retire those that nobody goes back to.

    tailrace branches list
    tailrace branches list -o json
    """
    settings = load(config)
    domain = domain_of(settings, loop)

    async def look(reading: Reading) -> list[BranchRow]:
        from tailrace.inspection.branch_rows import branch_rows  # noqa: PLC0415
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415

        known = loop_for(domain)
        lineup = await lineup_of(reading, known)
        here = [lineage for lineage, branch in lineup.branches().items() if known.fold.kit(branch) is not None]
        return branch_rows(lineup, here, domain.branch)

    output.notes(map(_shown, ask(settings, look)), COLUMNS, "note", output_format)


def promote(
    branch: Beginning,
    *,
    by: By = None,
    why: Why = None,
    wait: Wait = WAIT_S,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Let another admitted branch serve, from one position of the log on; going back to an older one is the same.

    The one that serves now stays admitted and goes on learning.

    tailrace branches promote 3f2a91 --why "fewer false alarms on Sunday"
    """
    from tailrace.domain.records import RequestKind  # noqa: PLC0415

    return _ask(RequestKind.PROMOTE, branch, by, why, wait, loop, config, output_format)


def retire(
    branch: Beginning,
    *,
    by: By = None,
    why: Why = None,
    wait: Wait = WAIT_S,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Stop folding a branch that does not serve; it can be built again from the log, and costs nothing until then.

    tailrace branches retire 8c01d7 --why "the new model has been right for a month"
    """
    from tailrace.domain.records import RequestKind  # noqa: PLC0415

    return _ask(RequestKind.RETIRE, branch, by, why, wait, loop, config, output_format)


def history(*, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """Tell the last decisions about branches, refusals included: who asked, when, and why.

    tailrace branches history
    """
    settings = load(config)
    domain = domain_of(settings, loop)

    async def look(reading: Reading) -> list[Story]:
        from tailrace.inspection.branch_rows import stories_of  # noqa: PLC0415
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415

        return await stories_of(reading, await lineup_of(reading, loop_for(domain)))

    output.rows(map(_told, ask(settings, look)), STORIES, output_format)


def _ask(
    kind: RequestKind,
    beginning: str,
    by: str | None,
    why: str | None,
    wait: int,
    loop: str | None,
    config: Path | None,
    output_format: Format | None,
) -> int:
    settings = load(config)
    domain, asked_by = domain_of(settings, loop), who(by)

    async def act(reading: Reading) -> tuple[str, Answer]:
        from tailrace.inspection.asking import Wish  # noqa: PLC0415
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415

        known = loop_for(domain)
        lineup = await lineup_of(reading, known)
        lineage = chosen_branch(lineup.branches(), beginning)
        wish = Wish(kind, lineage, asked_by, reason(why, f"{kind} asked for on the command line"))
        answer = await asking(reading, known).ask(wish, lineup, wait_s=wait, tell=output.talk)
        return lineage, answer

    lineage, answer = ask(settings, act)
    output.record(described(kind.value, lineage, answer), output_format)
    return exit_of_answer(answer)


def _shown(row: BranchRow) -> dict[str, object]:
    from tailrace.domain.positions import show as shown  # noqa: PLC0415

    return {
        "branch": row.lineage[:SHORT],
        "serves": row.is_serving,
        "learned": row.learned,
        "left_out": row.left_out,
        "admitted_at": None if row.admitted_at is None else shown(row.admitted_at),
        "folds_here": row.is_foldable,
        "model": row.model,
        "note": row.note or None,
        "lineage": row.lineage,
    }


def _told(story: Story) -> dict[str, object]:
    from tailrace.domain.positions import show as shown  # noqa: PLC0415

    decision = story.decision
    return {
        "position": shown(decision.position),
        "time": None if story.at_ms is None else rfc3339_of(story.at_ms),
        "what": story.in_words(),
        "kind": decision.kind,
        "branch": decision.branch,
        "by": decision.by,
        "why": decision.why,
        "refusal": decision.refusal or None,
        "epoch": decision.epoch,
    }

"""What `upgrade` and `repair` have in common: build a branch, say what it is worth, and let the learner take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from tailrace.cli import output
from tailrace.cli.deciding import SHORT, Teller, answer_in_words, asking, exit_of_answer
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.session import now_ms

if TYPE_CHECKING:
    from tailrace.domain.branches import Branch
    from tailrace.domain.rehearsal import Comparison
    from tailrace.inspection.building import Builder, Built
    from tailrace.inspection.lineup import Lineup, Loop
    from tailrace.inspection.reading import Reading

COMPARED = 10_000

Compare: TypeAlias = Annotated[int, Parameter(help="How many of the last examples to ask it about; 0: none.")]
"""`compare: Compare = COMPARED`."""

DryRun: TypeAlias = Annotated[
    bool, Parameter(negative="", help="Fold and compare; publish nothing and ask for nothing.")
]
"""`dry_run: DryRun = False`."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built, and what is to become of it.

    Attributes:
        ids: Hashes of the event ids that its filter leaves out.
        why: None: what was found by building it.
        is_new_lineage: No learner of these libraries and features has run.
    """

    branch: Branch
    ids: frozenset[str]
    by: str
    why: str | None
    compare: int
    wait_s: int
    is_dry_run: bool
    promotes: bool
    is_new_lineage: bool = False


async def carried_out(reading: Reading, loop: Loop, lineup: Lineup, order: Order) -> tuple[Exit, dict[str, Any]]:
    """Build, publish, admit and promote, as far as the order says; return the exit code, and what was found."""
    from tailrace.domain.branches import Filter  # noqa: PLC0415 - loads River
    from tailrace.inspection.building import Builder, require_learner_key  # noqa: PLC0415 - the same
    from tailrace.opening import open_keys  # noqa: PLC0415

    if order.compare < 0:
        raise UsageError(f"--compare: found {order.compare}; allowed: a whole number of at least 0")
    builder, lineage = Builder(reading, loop, now_ms), order.branch.lineage
    if lineage in lineup.pointers.admitted:
        output.talk(f"branch {lineage[:SHORT]} is admitted already; nothing has to be built")
        return await _promoted(reading, loop, lineup, order, {"branch": lineage, "built": False})
    if not order.is_dry_run:
        require_learner_key(open_keys(reading.settings))
    built = await builder.build(order.branch, ids=order.ids, compare=order.compare, progress=Teller(loop.name).tell)
    found = _found(loop, builder, built)
    if order.branch.filter != Filter():
        output.talk(_effect(built))
    output.talk(built.comparison.in_words())
    if order.is_dry_run:
        return Exit.OK, found | {"said": "nothing was changed"}
    return await _admitted(reading, loop, lineup, order, builder, built, found)


async def _admitted(
    reading: Reading,
    loop: Loop,
    lineup: Lineup,
    order: Order,
    builder: Builder,
    built: Built,
    found: dict[str, Any],
) -> tuple[Exit, dict[str, Any]]:
    from tailrace.domain.records import RequestKind  # noqa: PLC0415
    from tailrace.inspection.asking import Wish  # noqa: PLC0415

    asks = asking(reading, loop)
    manifest = await builder.publish(built, is_new_lineage=order.is_new_lineage)
    output.talk(f"branch {built.branch.lineage[:SHORT]} is published, as of offset {built.end}")
    await lineup.read_on()
    wish = Wish(
        RequestKind.ADMIT,
        built.branch.lineage,
        order.by,
        _why(order, built.comparison),
        built.branch.text,
        manifest.position,
        builder.body_digest(built),
        tuple(sorted(order.ids)),
        tuple(built.warmed.skips),
    )
    answer = await asks.ask(wish, lineup, wait_s=order.wait_s, tell=output.talk)
    said = answer_in_words("admit", wish.branch, answer)
    if not answer.is_done or not order.promotes:
        return exit_of_answer(answer), found | {"admitted": answer.is_done, "said": said}
    output.talk(said)
    return await _promoted(reading, loop, lineup, order, found | {"admitted": True}, _why(order, built.comparison))


async def _promoted(
    reading: Reading, loop: Loop, lineup: Lineup, order: Order, found: dict[str, Any], why: str | None = None
) -> tuple[Exit, dict[str, Any]]:
    from tailrace.domain.records import RequestKind  # noqa: PLC0415
    from tailrace.inspection.asking import Wish  # noqa: PLC0415

    lineage = order.branch.lineage
    if order.is_dry_run or not order.promotes:
        return Exit.OK, found | {"said": f"`tailrace branches promote {lineage[:SHORT]}` lets it serve"}
    wish = Wish(RequestKind.PROMOTE, lineage, order.by, why or order.why or "asked for on the command line")
    answer = await asking(reading, loop).ask(wish, lineup, wait_s=order.wait_s, tell=output.talk)
    said = answer_in_words("promote", lineage, answer)
    return exit_of_answer(answer), found | {"promoted": answer.is_done, "said": said}


def _why(order: Order, comparison: Comparison) -> str:
    return order.why or comparison.in_words()


def _effect(built: Built) -> str:
    left_out = built.warmed.held.left_out
    if not (left_out or built.corrected or built.withdrawn):
        return "the log holds nothing that this leaves out or corrects; look at the source, ids or positions"
    return f"examples: {left_out:,} left out, {built.corrected:,} corrected, {built.withdrawn:,} withdrawn"


def _found(loop: Loop, builder: Builder, built: Built) -> dict[str, Any]:
    from tailrace.domain.positions import show  # noqa: PLC0415

    held, compared = built.warmed.held, built.comparison
    folded = held.learned + held.left_out + held.skipped + held.foreign
    return {
        "branch": built.branch.lineage,
        "model": built.branch.model,
        "built": True,
        "position": show(held.position),
        "learned": held.learned,
        "left_out": held.left_out,
        "skipped": held.skipped,
        "corrected": built.corrected,
        "withdrawn": built.withdrawn,
        "seconds": round(built.seconds, 3),
        "examples_per_second": round(folded / built.seconds) if built.seconds > 0 else None,
        "compared": compared.examples,
        "quality": dict(compared.branch),
        "quality_served": dict(compared.served),
        "answers_differ": compared.differing,
        "in_words": compared.in_words(),
        "digest": builder.body_digest(built),
        "loop": loop.name,
    }

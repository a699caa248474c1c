"""`tailrace repair`: the model as if some examples had never been, or as if labels had been right from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.building import COMPARED, Compare, DryRun, Order, carried_out
from tailrace.cli.deciding import WAIT_S, By, Wait, Why, domain_of, loop_for, who
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.files import lines_of
from tailrace.cli.options import ConfigFile, OutputFormat, read_position
from tailrace.cli.session import LoopName, ask, now_ms
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.domain.branches import Branch, Filter
    from tailrace.inspection.lineup import Lineup, Loop
    from tailrace.inspection.reading import Reading


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the examples, as a person says it.

    Attributes:
        ids: Event ids.
        start, end: Positions.
    """

    applies_corrections: bool
    sources: tuple[str, ...]
    ids: tuple[str, ...]
    start: int
    end: int | None

    @property
    def drops_everything(self) -> bool:
        """Whether all that lies between the bounds is wrong; without an end, all up to now."""
        return not self.sources and bool(self.start or self.end is not None)


def register(app: App) -> None:
    """Add the command."""
    app.command(repair)


def repair(
    *,
    apply_corrections: Annotated[
        bool, Parameter(negative="", help="Learn corrected labels as corrected, and withdrawn ones not at all.")
    ] = False,
    drop_source: Annotated[
        Sequence[str],
        Parameter(negative="", help="Leave out labels of this source, also those that still come; may be repeated."),
    ] = (),
    drop_ids: Annotated[
        str | None, Parameter(help="Leave out these events: a file with one event id a line; - is stdin.")
    ] = None,
    from_: Annotated[
        str | None, Parameter(name="--from", help="Leave out from this position on: of the source, or everything.")
    ] = None,
    to: Annotated[
        str | None,
        Parameter(help="Leave out up to this position, exclusive; without it: a source for ever, else up to now."),
    ] = None,
    dry_run: DryRun = False,
    promote: Annotated[bool, Parameter(help="Let it serve once the learner holds it.")] = True,
    compare: Compare = COMPARED,
    by: By = None,
    why: Why = None,
    wait: Wait = WAIT_S,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Build the serving model again from the log without what was wrong, and let it take over at one position.

    It is byte for byte what a fold of a log would be in which those examples
    never were. --dry-run says how many there are, how long the fold takes, and
    how quality and answers would change. What an earlier repair left out stays
    left out. The log itself keeps everything.

    tailrace repair --drop-source crowd --dry-run
    tailrace repair --apply-corrections
    tailrace repair --drop-ids erased.txt --why "request of 12 March"
    tailrace repair --from 1200:0 --to 1450:0
    """
    settings = load(config)
    domain, asked_by = domain_of(settings, loop), who(by)
    faults = Faults(
        apply_corrections,
        tuple(drop_source),
        () if drop_ids is None else tuple(line.decode("utf-8", "surrogateescape") for line in lines_of(drop_ids)),
        0 if from_ is None else read_position("--from", from_),
        None if to is None else read_position("--to", to),
    )
    _check(faults, bounds_given=from_ is not None or to is not None, ids_given=drop_ids is not None)

    async def act(reading: Reading) -> tuple[Exit, dict[str, Any]]:
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415

        known = loop_for(domain)
        lineup = await lineup_of(reading, known)
        branch, ids = await _repaired(reading, known, lineup, faults)
        if branch == lineup.champion:
            said = "the branch that serves has been repaired so already"
            return Exit.OK, {"branch": branch.lineage, "built": False, "said": said}
        order = Order(branch, ids, asked_by, why, compare, wait, dry_run, promote)
        return await carried_out(reading, known, lineup, order)

    code, found = ask(settings, act)
    output.record(found, output_format)
    return code


def _check(faults: Faults, *, bounds_given: bool, ids_given: bool) -> None:
    from tailrace.domain.branches import MAX_DROPPED_IDS  # noqa: PLC0415

    if not (faults.applies_corrections or faults.sources or ids_given or bounds_given):
        raise UsageError(
            "found nothing to repair; allowed: --apply-corrections, --drop-source, --drop-ids, --from, --to"
        )
    if not all(faults.sources):
        raise UsageError("--drop-source: found nothing; allowed: a source that labels name")
    if ids_given and bounds_given and not faults.sources:
        raise UsageError("--drop-ids: ids are left out wherever they are; run it once more for --from and --to")
    if faults.end is not None and faults.end <= faults.start:
        raise UsageError("--to: found a position that is not after --from; allowed: a later one")
    if ids_given and not faults.ids:
        raise UsageError("--drop-ids: found no id; allowed: a file with one event id a line")
    if len(faults.ids) > MAX_DROPPED_IDS:
        raise UsageError(
            f"--drop-ids: found {len(faults.ids)} ids; allowed: {MAX_DROPPED_IDS}; use --drop-source or bounds"
        )


async def _repaired(reading: Reading, loop: Loop, lineup: Lineup, faults: Faults) -> tuple[Branch, frozenset[str]]:
    """Return the serving branch with what is wrong left out as well, and the hashes of all ids that it leaves out."""
    from tailrace.domain.branches import MAX_DROPPED_IDS, Filter, digest_of_ids, hash_of_id  # noqa: PLC0415
    from tailrace.domain.positions import position_of, show  # noqa: PLC0415
    from tailrace.inspection.building import Builder  # noqa: PLC0415

    serving = lineup.champion
    if serving is None:
        raise UsageError("found no branch that serves, so there is nothing to repair; `tailrace run` begins the loop")
    if loop.fold.kit(serving) is None:
        raise UsageError(
            "the branch that serves is of other libraries, features or code than this environment; "
            "run this with the learner's, or `tailrace upgrade` first"
        )
    builder = Builder(reading, loop, now_ms)
    before = await builder.known_ids(serving.lineage) if serving.filter.ids else frozenset[str]()
    ids, end = before | {hash_of_id(each) for each in faults.ids}, position_of(await builder.end())
    if len(ids) > MAX_DROPPED_IDS:
        raise UsageError(f"--drop-ids: found {len(ids)} ids with those of earlier repairs; allowed: {MAX_DROPPED_IDS}")
    if faults.drops_everything and faults.start >= end:
        raise UsageError(f"--from: found {show(faults.start)}; allowed: a position before the log's end, {show(end)}")
    more = Filter(
        end if faults.applies_corrections else 0,
        faults.sources,
        digest_of_ids(hash_of_id(each) for each in faults.ids),
        faults.start,
        end if faults.drops_everything and faults.end is None else faults.end,
        end if faults.ids else 0,
    )
    return replace(serving, filter=_joined(serving.filter, more, digest_of_ids(ids))), ids


def _joined(before: Filter, more: Filter, ids: str) -> Filter:
    both = before.joined(more, ids)
    if both is None:
        raise UsageError(
            f"found a branch that serves {before.in_words()}; one repair cannot add {more.in_words()}: allowed are "
            "other sources between the same bounds, ids, and corrections. `tailrace branches promote` an earlier "
            "branch and repair that one"
        )
    return both

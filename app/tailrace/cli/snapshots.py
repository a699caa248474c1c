"""`tailrace snapshots`: what is kept of a model, whether it is good, and moving it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.deciding import WAIT_S, By, Wait, asking, exit_of_answer, loop_for, who
from tailrace.cli.deciding import domain_of as _domain
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.files import read_file, write_new
from tailrace.cli.options import ConfigFile, OutputFormat, Yes
from tailrace.cli.session import LoopName, ask, at_least_one, loop_of, now_ms
from tailrace.domain.errors import CodecError, SnapshotRefused, StoreUnavailable
from tailrace.domain.positions import show
from tailrace.domain.times import rfc3339_of
from tailrace.settings import Settings, load

if TYPE_CHECKING:
    from tailrace.inspection.asking import Answer
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.snapshot_diff import Compared
    from tailrace.inspection.snapshot_moves import Import, Pruning
    from tailrace.inspection.snapshots import Entry, Shelf
    from tailrace.main import LoopDomain

T = TypeVar("T")

_COLUMNS: Final = ("number", "kind", "position", "time", "bytes", "lineage", "key", "chain", "file")
_LINEAGE_CHARS: Final = 12
_CHAIN: Final = {True: "ok", False: "broken", None: None}
_REFERENCE: Final = re.compile(r"\d{1,19}(:\d{1,9})?|newest|published", re.ASCII)

Lineage = Annotated[
    str | None, Parameter(help="Of this lineage, or one that begins so; without it the newest snapshot's.")
]


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="snapshots", help="What is kept of the models: look, check, compare, move, throw away.")
    group.command(list_snapshots, name="list")
    group.command(show_snapshot, name="show")
    group.command(create)
    group.command(verify)
    group.command(diff)
    group.command(export)
    group.command(import_, name="import")
    group.command(prune)
    app.command(group)


def list_snapshots(*, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """List the snapshots that the index names, of every lineage, and whether the store has their files.

    `chain` says whether a snapshot names the one before it; it is empty where
    that one is no longer in the index, which remembers sixteen.

    tailrace snapshots list
    tailrace snapshots list -o json
    """
    settings = load(config)

    async def look(_: Reading, shelf: Shelf) -> Shelf:
        return shelf

    shelf = _with_shelf(settings, loop, look)
    output.rows((_row(entry) for entry in shelf.entries), _COLUMNS, output_format)
    if shelf.files is None:
        output.talk(f"whether the files are there cannot be told: {shelf.store_problem}")
    for reason, count in sorted(shelf.refused.items()):
        output.talk(f"{count} records of the index do not count: {reason}")


def show_snapshot(
    snapshot: str = "newest",
    /,
    *,
    lineage: Lineage = None,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Show the manifest of one snapshot: of what it is, from which parts, written by which versions.

    tailrace snapshots show 7
    tailrace snapshots show published -o json

    Parameters
    ----------
    snapshot
        A number, a position OFFSET:ROW, newest or published.
    """
    settings = load(config)
    reference = _reference(snapshot)

    async def look(_: Reading, shelf: Shelf) -> Entry:
        return shelf.find(reference, lineage)

    output.record(_shown(_with_shelf(settings, loop, look)), output_format)


def create(
    *,
    by: By = None,
    wait: Wait = WAIT_S,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Let the learner keep its state now, as of the present end of the log or later; nothing new, nothing written.

    tailrace snapshots create
    """
    settings, asked_by = load(config), who(by)
    domain = _domain(settings, loop)

    async def act(reading: Reading) -> Answer:
        from tailrace.inspection.lineup import lineup_of  # noqa: PLC0415 - loads River

        known = loop_for(domain)
        lineup = await lineup_of(reading, known)
        return await asking(reading, known).snapshot(lineup, by=asked_by, wait_s=wait, tell=output.talk)

    answer = ask(settings, act)
    if answer.is_waiting:
        lies = f"lies at offset {answer.offset} of the commands and is taken when a learner runs"
        said = f"no snapshot reaches the end of the log yet: the request {lies}"
    else:
        said = "done" if answer.offset >= 0 else "nothing was asked for: a snapshot reaches the end of the log already"
    output.record({"loop": domain.name, "done": answer.is_done, "said": said}, output_format)
    return exit_of_answer(answer)


def verify(
    snapshot: str | None = None,
    /,
    *,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Load every snapshot, or one, as a learner would; ends with 1 when one is refused.

    Each step of the load order is taken, digests included. Of the configured
    model the state is restored too; of other lineages the bytes are checked.
    Whether a state is what the log says is asked with `tailrace verify`.

    tailrace snapshots verify
    tailrace snapshots verify 7 -o json

    Parameters
    ----------
    snapshot
        A number, a position OFFSET:ROW, newest or published; without it all of them.
    """
    settings = load(config)
    domain = _domain(settings, loop)
    reference = None if snapshot is None else _reference(snapshot)

    async def look(_: Reading, shelf: Shelf) -> list[tuple[Entry, str, str]]:
        entries = shelf.entries if reference is None else [shelf.find(reference)]
        return [(entry, *await _checked(shelf, entry, domain)) for entry in entries]

    found = _with_shelf(settings, domain.name, look)
    rows = [_row(entry) | {"verdict": verdict, "why": why or None} for entry, verdict, why in found]
    output.notes(rows, ("number", "kind", "position", "lineage", "verdict"), "why", output_format)
    is_good = all(verdict in {"ok", "ok, bytes only"} for _, verdict, _ in found)
    return Exit.OK if is_good else Exit.CHECK_FAILED


def diff(
    before: str,
    after: str = "newest",
    /,
    *,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Say what two snapshots differ in: examples learned, answers to the newest examples, drift, weights or splits.

    tailrace snapshots diff 3 7
    tailrace snapshots diff 3 newest -o json

    Parameters
    ----------
    before
        A number, a position OFFSET:ROW, newest or published.
    after
        The same.
    """
    settings = load(config)
    domain = _domain(settings, loop)
    pair = _reference(before), _reference(after)

    async def look(reading: Reading, shelf: Shelf) -> Compared:
        from tailrace.inspection.snapshot_diff import compared  # noqa: PLC0415 - loads River

        return await compared(reading, shelf, domain.fold(), domain.topics.training, pair)

    found = _with_shelf(settings, domain.name, look)
    if output.chosen(output_format) == "json":
        output.json_line(_plain(found))
        return
    for sentence in found.sentences():
        print(sentence)


def export(
    snapshot: str,
    file: Path,
    /,
    *,
    lineage: Lineage = None,
    loop: LoopName = None,
    config: ConfigFile = None,
) -> None:
    """Write one snapshot into a file of its own, checked; it never replaces a file.

    tailrace snapshots export newest phishing.tailrace

    Parameters
    ----------
    snapshot
        A number, a position OFFSET:ROW, newest or published.
    file
        Where to; readable by you alone, since a state holds values of features.
    """
    settings = load(config)
    reference = _reference(snapshot)

    async def look(_: Reading, shelf: Shelf) -> tuple[Entry, bytes]:
        entry = shelf.find(reference, lineage)
        content = await shelf.content_of(entry)
        await shelf.check(entry, content)
        return entry, content  # as checked: fetched again they may be others

    entry, content = _with_shelf(settings, loop, look)
    write_new(file, content)
    manifest = entry.manifest
    output.talk(f"{manifest.kind} {manifest.number} at {show(manifest.position)}: {len(content):,} bytes into {file}")


def import_(file: Path, /, *, yes: Yes = False, loop: LoopName = None, config: ConfigFile = None) -> None:
    """Put an exported snapshot into the store and the index; without --yes only say what would be done.

    It must be of the configured model, folded from this training log, and newer
    than what is there: a loop never goes below what exists. A file that the index
    names and the store has lost is put back.

    tailrace snapshots import phishing.tailrace --yes

    Parameters
    ----------
    file
        What `tailrace snapshots export` wrote.
    """
    from tailrace.stores.snapshot_file import MAX_FILE_BYTES  # noqa: PLC0415 - nothing else here needs it

    settings = load(config)
    domain = _domain(settings, loop)
    content = read_file(file, MAX_FILE_BYTES)

    async def look(reading: Reading, shelf: Shelf) -> Import:
        from tailrace.inspection import snapshot_moves as moves  # noqa: PLC0415 - loads the client of Kafka

        planned = await moves.plan_import(
            reading, domain.settings, shelf, content, lineage=domain.lineage, now_ms=now_ms()
        )
        if yes:
            await moves.bring_in(reading, shelf, planned)
        return planned

    planned = _with_shelf(settings, domain.name, look)
    print(planned.words)
    if (planned.stores or planned.indexes) and not yes:
        output.talk("nothing was done; --yes does it")


def prune(
    *,
    keep: Annotated[int, Parameter(help="The newest so many snapshots of each lineage stay.")],
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go, whatever else is given.")] = False,
    yes: Yes = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Throw away old snapshots and files that the index does not name; without --yes only say which.

    The newest snapshot of a lineage that can be loaded always stays, and so does
    a file that a running learner may be about to name. What the index names in a
    record whose signature does not count on this machine stays too.

    tailrace snapshots prune --keep 4
    tailrace snapshots prune --keep 4 --yes
    """
    settings = load(config)
    at_least_one(keep, "--keep")
    does = yes and not dry_run

    async def look(reading: Reading, shelf: Shelf) -> tuple[Pruning, list[str]]:
        from tailrace.inspection import snapshot_moves as moves  # noqa: PLC0415 - loads the client of Kafka

        planned = await moves.plan_pruning(shelf, keep)
        return planned, await moves.prune(reading, shelf, planned) if does else []

    planned, problems = _with_shelf(settings, loop, look)
    goes = "gone" if does else "would go"
    rows = [_row(entry) | {"what": goes} for entry in planned.entries]
    rows += [{"path": path, "what": f"{goes}: the index does not name it"} for path in planned.orphans]
    rows += [_row(entry) | {"what": "stays: the newest that can be loaded"} for entry in planned.spared]
    rows += [{"path": path, "what": "stays: it may be being written"} for path in planned.left]
    rows += [
        _row(entry) | {"what": "stays: a record that does not count here has its place"} for entry in planned.covered
    ]
    rows += [
        {"path": path, "what": f"stays: a record that does not count here names it ({each.reason})"}
        for each in planned.uncounted
        for path in sorted(each.names)
    ]
    output.rows(rows, ("number", "position", "lineage", "path", "what"), output_format)
    for problem in problems:
        output.fail(problem)
    if planned.uncounted:
        reasons = ", ".join(sorted({each.reason for each in planned.uncounted}))
        output.talk(
            f"{len(planned.uncounted)} records of the index do not count here ({reasons}), and what they name stays. "
            "`tailrace keys list` shows whose signatures count; `tailrace keys trust` adds a key, then prune again"
        )
    if not does and (planned.entries or planned.orphans):
        output.talk("nothing was done; --yes does it")
    return Exit.UNREACHABLE if problems else Exit.OK


def _with_shelf(settings: Settings, loop: str | None, look: Callable[[Reading, Shelf], Awaitable[T]]) -> T:
    name, settings_of_loop = loop_of(settings, loop)

    async def question(reading: Reading) -> T:
        from tailrace.inspection.snapshots import shelf_of  # noqa: PLC0415 - loads the client of Kafka

        return await look(reading, await shelf_of(reading, name, settings_of_loop, now_ms()))

    return ask(settings, question)


def _reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise UsageError(f"found {text!r}; allowed: a number, a position OFFSET:ROW, newest or published")
    return text


async def _checked(shelf: Shelf, entry: Entry, domain: LoopDomain) -> tuple[str, str]:
    from tailrace.inspection.snapshot_diff import opened_of  # noqa: PLC0415 - loads River

    manifest = entry.manifest
    try:
        bodies = (await shelf.read(entry)).bodies
        if manifest.lineage == domain.lineage:
            opened_of(domain.fold(), manifest.kind, bodies)
    except SnapshotRefused as refused:
        return refused.reason, str(refused)
    except CodecError as refused:
        return "codec", str(refused)
    except StoreUnavailable as problem:
        return "store", str(problem)
    if entry.follows is False:
        return "chain", "it names another manifest as the one before it than the index holds"
    return ("ok" if manifest.lineage == domain.lineage else "ok, bytes only"), ""


def _row(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "number": manifest.number,
        "kind": manifest.kind.value,
        "position": show(manifest.position),
        "time": rfc3339_of(manifest.created_at_ms),
        "bytes": manifest.stored_bytes,
        "lineage": manifest.lineage[:_LINEAGE_CHARS],
        "key": manifest.key_id,
        "chain": _CHAIN[entry.follows],
        "file": entry.file,
        "path": manifest.store_path,
        "digest": manifest.digest,
    }


def _shown(entry: Entry) -> dict[str, Any]:
    manifest = entry.manifest
    offset = manifest.last_block_offset
    return _row(entry) | {
        "lineage": manifest.lineage,
        "loop": manifest.loop,
        "log_id": manifest.log_id,
        "last_record": None if offset is None else {"offset": offset, "digest": manifest.last_block_digest},
        "state_digest": manifest.state_digest,
        "previous_digest": manifest.previous_digest,
        "counters": dict(manifest.counters),
        "parts": {
            part.name: f"{part.size_bytes:,} bytes"
            + (f", {part.stored_bytes:,} compressed" if part.is_compressed else "")
            + f", {part.digest}"
            for part in manifest.parts
        },
        "versions": dict(manifest.versions),
    }


def _plain(found: Compared) -> dict[str, Any]:
    keys = ("learned", "skipped", "drifts")
    sides = {}
    for side, manifest, opened in zip(("before", "after"), (found.before, found.after), found.opened, strict=True):
        sides[side] = {
            "number": manifest.number,
            "kind": manifest.kind.value,
            "position": show(manifest.position),
            **{key: getattr(opened, key) for key in keys},
            "last_drift": None if opened.last_drift is None else show(opened.last_drift),
        }
    return {
        **sides,
        "effect": None if found.effect is None else asdict(found.effect) | {"failed": found.failed},
        "model": asdict(found.difference),
        "sentences": list(found.sentences()),
    }

"""What must hold of states when everything has come to rest: every branch, pointer and snapshot against the log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from tests.simulation.branch_oracle import Counted, Past, Rule, counting, line_of
from tests.simulation.branching import fold_of
from tests.simulation.keys import TRUSTED
from tests.simulation.world import CHAMPION, SERVES, Seen, World, champion_text

from tailrace.domain.branches import part_name
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.notices import Logged
from tailrace.domain.positions import Position
from tailrace.domain.records import Admit, Command, RequestKind
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.domain.state import BRANCHES, LOOP
from tailrace.stores import snapshot_file
from tailrace.stores.snapshot_file import Expected
from tailrace.wire.avro_codec import decode_manifest

_NEVER = ("codec", "position", "digest", "compression", "log", "lineage")
"""Reasons for which nothing is refused here: whatever is damaged or forged is found out by earlier steps."""


def check_branches(world: World, counts: Counter[str], problems: Counter[str]) -> None:
    """Compare all that any process held, kept, published or served with folds of the log as it was written."""
    counted = list(counting(world.log.entries))
    rule = Rule()
    rule.read(counted)
    _check_commands(world, counted, problems)
    manifests = genuine(world)
    seen = [*world.seen, *_kept(world, manifests, {*map(part_name, rule.definitions)}, problems)]
    problems["refused too late"] += sum(world.refused[reason] for reason in _NEVER)
    problems["skipped again"] += rule.skipped_again
    _check_agreement(seen, problems)
    _check_loop(world, seen, problems)
    problems["fold counts differ"] += world.live_outcomes != +counts
    built = _built_beside(manifests)
    for each in seen:
        if each.part == CHAMPION:
            reign = rule.at(each.position)
            problems["another champion or epoch"] += each.digest != champion_text(reign.champion, reign.epoch)
        elif each.part == SERVES:
            # Where there is nothing else, a server takes what was built for its libraries.
            is_built = (each.position, part_name(each.digest)) in built
            problems["another branch served"] += rule.at(each.position).champion != each.digest and not is_built
    _check_lines(world, rule, Past.of(world.log.entries, counted), seen, problems)
    known = {part_name(lineage) for lineage in rule.definitions} | rule.definitions.keys() | {LOOP, CHAMPION, SERVES}
    known |= {part for _, part in built}
    problems["state of a branch that was never admitted"] += sum(
        each.part not in known and part_name(each.part) not in known for each in seen
    )


def _check_commands(world: World, counted: Iterable[Counted], problems: Counter[str]) -> None:
    answered: Counter[int] = Counter()
    definitions = {request.definition for request in world.asked.values() if request.kind is RequestKind.ADMIT}
    for _, record in counted:
        if isinstance(record, Command) and record.source_offset >= 0:
            asked = world.asked.get(record.source_offset)
            answered[record.source_offset] += 1
            is_same = asked is not None and (
                (asked.id, asked.kind.value, asked.branch, asked.expected_epoch, asked.by)
                == (record.id, record.kind.value, record.branch, record.expected_epoch, record.by)
            )
            problems["command that nobody gave"] += not is_same
        elif isinstance(record, Admit) and record.by != "tailrace":
            problems["admission that nobody asked for"] += record.definition not in definitions
    for offset, request in world.asked.items():
        if request.kind in {RequestKind.PROMOTE, RequestKind.RETIRE}:
            problems["command lost"] += answered[offset] == 0
            problems["command carried out twice"] += answered[offset] > 1


def _kept(world: World, manifests: list[Manifest], admitted: set[str], problems: Counter[str]) -> Iterable[Seen]:
    """Yield what each snapshot and publication holds that a learner wrote; of branches built beside, those admitted."""
    states: dict[tuple[str, Position, tuple[str, ...]], str] = {}
    for manifest in manifests:
        who = f"{manifest.kind} {manifest.number} of {manifest.lineage}"
        names = tuple(part.name for part in manifest.parts)
        first = [name for name in (LOOP, BRANCHES) if name in names]
        problems["parts out of order"] += list(names) != [*first, *sorted(set(names) - {*first})]
        if manifest.kind is Kind.SNAPSHOT:
            same = states.setdefault((manifest.lineage, manifest.position, names), manifest.state_digest)
            problems["two states at one position"] += same != manifest.state_digest
        digests = [(part.name, part.digest) for part in manifest.parts]
        problems["state digest differs from its parts"] += state_digest(digests) != manifest.state_digest
        for part in manifest.parts:
            is_known = manifest.kind is not Kind.BRANCH or part.name in {*admitted, LOOP}
            if part.name != BRANCHES and is_known:
                yield Seen(who, manifest.position, part.name, part.digest)
        bodies = bodies_of(world, manifest)
        if not bodies:
            continue
        plain = json.loads(bodies[BRANCHES])
        yield Seen(who, manifest.position, CHAMPION, champion_text(plain["champion"], plain["epoch"]))


def genuine(world: World) -> list[Manifest]:
    """Return the manifests that learners wrote, in order."""
    values = [(kept.value or b"", kept.timestamp) for kept in world.snapshots.kept if kept.value in world.genuine]
    return [snapshot_file.unseal(decode_manifest(value), TRUSTED, at_ms) for value, at_ms in values]


def _built_beside(manifests: Iterable[Manifest]) -> set[tuple[Position, str]]:
    """Return positions and parts of the branches that were built beside the learner and published."""
    built = (manifest for manifest in manifests if manifest.kind is Kind.BRANCH)
    return {(manifest.position, part.name) for manifest in built for part in manifest.parts}


def bodies_of(world: World, manifest: Manifest) -> dict[str, bytes]:
    """Return the bodies of a manifest as they were written; none where its file never came."""
    expected = Expected(manifest.lineage, TRUSTED, manifest.indexed_at_ms or 0, index=manifest)
    if manifest.inline:
        return dict(snapshot_file.read_inline(manifest, expected).bodies)
    name = snapshot_file.canonical_json(manifest)
    content = next((each for each in world.vault.acknowledged.get(manifest.store_path or "", ()) if name in each), None)
    if content is None:
        return {}
    return dict(snapshot_file.read(content, expected).bodies)


def _check_agreement(seen: Iterable[Seen], problems: Counter[str]) -> None:
    """I5: whoever held a part at a position held the same."""
    known: dict[tuple[Position, str], str] = {}
    for each in seen:
        if known.setdefault((each.position, each.part), each.digest) != each.digest:
            problems["digests differ between processes"] += 1


def _check_loop(world: World, seen: Iterable[Seen], problems: Counter[str]) -> None:
    """The loop's own part equals a bare fold of the log that holds no branch at all."""
    asked = {each.position for each in seen if each.part == LOOP}
    fold = fold_of(world.rules, world.rng, None)
    state, found = fold.begin(), dict[Position, str]()
    for kept in world.training.kept:
        fold.fold(state, [Logged(kept.offset, world.training.decode(kept.value or b""), digest_of(kept.value or b""))])
        if state.position in asked:
            found[state.position] = digest_of(fold.parts(state)[LOOP])
    problems["the loop's part differs"] += sum(
        found.get(each.position) != each.digest for each in seen if each.part == LOOP
    )


def _check_lines(world: World, rule: Rule, past: Past, seen: list[Seen], problems: Counter[str]) -> None:
    for lineage, branch in rule.definitions.items():
        part = part_name(lineage)
        mine = [each for each in seen if each.part in {part, lineage}]
        line = line_of(branch, past, rule, world.rules, {each.position for each in mine})
        for each in mine:
            if line.broken_at is not None and each.position > line.broken_at:
                problems["state beyond an example that raises"] += 1
                continue
            known = line.bodies if each.part == part else line.models
            what = "repaired branch" if branch.filter.drops or branch.filter.corrected_to else "branch"
            problems[f"{what} differs"] += known.get(each.position) != each.digest
        problems["skip without a reason"] += len(line.unexplained)

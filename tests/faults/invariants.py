"""The invariants of a loop under faults, one function each: whatever breaks when, these hold.

    I1   every accepted event is predicted            I7   the log is one, in its writers' order
    I2   every input ends once                        I8   every epoch has one champion
    I3   what is learned is what should be (`checks`) I9   nothing is committed ahead of what is written
    I4   snapshots are what the log comes to (`checks`) I10  memory and files are bounded (`memory`)
    I5   equal positions have equal digests           I11  examples have the features as scored
    I6   only what was signed is in the index         I12  no value and no secret is told (`secrecy`)

Each reads topics and store, never what a process says of itself, and tells `Violations`; none raises.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.audit import Violations
from tests.faults.ledger import Answer, Ledger, Row, Source, show
from tests.faults.topics import Column, Topics
from tests.scenarios.harness import Scenario

from tailrace.domain.blocks import Served, TrainingBlock, XColumns
from tailrace.domain.errors import CodecError, SnapshotRefused, TailraceError
from tailrace.domain.models.digest import state_digest
from tailrace.domain.positions import offset_of, parse, row_of
from tailrace.domain.positions import show as show_position
from tailrace.domain.records import LEARNER, Admit, Claim, Command, CommandKind, Task
from tailrace.domain.snapshots import BRANCH_PART, KEPT, Kind, Manifest
from tailrace.domain.times import NEVER
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.opening import open_store, open_trust
from tailrace.stores import snapshot_file
from tailrace.stores.snapshot_file import Expected
from tailrace.streams.log import Record, TopicPartition
from tailrace.streams.snapshot_index import unsealed

# ── I1 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def every_accepted_event_is_predicted(ledger: Ledger, say: Violations) -> None:
    """I1: in the partition and with the key of its event, again under the same id; what `scored` holds was published.

    Of several predictions of one event any may be the one that `scored` holds: a scorer that dies between the two leaves
    a first one that nobody has recorded, and the next scorer answers anew and records its own.
    """
    answers, rows = ledger.answers, ledger.rows
    for at, event in ledger.events.items():
        mine = answers.get(at, ())
        if not mine:
            if at not in ledger.event_letters:
                say.say("I1", f"event {event.id} ({show(at)}) has no prediction")
            continue
        for answer in mine:
            record, plain = answer.record, answer.plain
            name = f"prediction {record.partition}:{record.offset} of event {event.id} ({show(at)})"
            if record.partition != at[0]:
                say.say("I1", f"{name} is in partition {record.partition}")
            if record.key != event.key:
                say.say("I1", f"{name} has the key {record.key!r}, its event {event.key!r}")
            if plain["event_id"] != event.id:
                say.say("I1", f"{name} is of the event {plain['event_id']}: two events have one prediction id")
        if at in rows and not any(_says(answer, rows[at][0], ledger) for answer in mine):
            say.say("I1", f"what scored holds of event {event.id} ({show(at)}) is none of its {len(mine)} predictions")
    strays = answers.keys() - ledger.events.keys()
    say.say_all("I1", (f"a prediction answers {show(at)}, which is no good event" for at in strays))


def _says(answer: Answer, row: Row, ledger: Ledger) -> bool:
    """Return whether a prediction tells what a row of `scored` records."""
    block, plain, target = row.block, answer.plain, ledger.topics.domain.target
    of_state = block.model, block.version, show_position(block.state_position)
    if of_state != (plain["model"], plain["version"], plain["position"]):
        return False
    y_pred, proba = float(block.served.y_pred[row.row]), block.served.proba[row.row].tolist()
    shown: dict[str, Any] = {"y_pred": target.show(y_pred), "outcome": "abstained" if math.isnan(y_pred) else "served"}
    if shown["y_pred"] is not None and target.task is Task.BINARY:
        shown["proba"] = proba[0]
    elif shown["y_pred"] is not None and not target.task.answers_numbers:
        shown["proba"] = {str(name): p for name, p in zip(target.classes, proba, strict=True) if not math.isnan(p)}
    return all(plain.get(name) == value for name, value in shown.items())


# ── I2 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def every_input_ends_once(ledger: Ledger, say: Violations) -> None:
    """I2: the sums, counted here; what each record comes to is check (a)'s business."""
    _events_add_up(ledger, say)
    _scored_adds_up(ledger, say)
    _labels_add_up(ledger, say)


def _events_add_up(ledger: Ledger, say: Violations) -> None:
    total, scored = len(ledger.events) + len(ledger.bad_events), len(ledger.rows)
    rejected = len(ledger.event_letters.keys() - ledger.rows.keys())
    if total != scored + rejected:
        say.say("I2", f"{total} events are {scored} scored and {rejected} dead-lettered")


def _scored_adds_up(ledger: Ledger, say: Violations) -> None:
    """See that the source positions of `scored` are those of accepted identities, or repeated or stale."""
    accepted, total = accepted_rows(ledger), len(ledger.rows)
    taken = {_source_of(row) for row in accepted.values()}
    settled: set[Source] = set()
    for block in ledger.blocks:
        for rows in (block.examples, block.dropped):
            settled |= set(zip(rows.source_partitions.tolist(), rows.source_offsets.tolist(), strict=True))
    waiting = ledger.expected.counts["waiting"]
    refused = len(ledger.rows.keys() - taken)
    if total != len(settled) + waiting + refused:
        say.say(
            "I2", f"{total} events in scored are {len(settled)} settled, {waiting} waiting, {refused} repeated or stale"
        )


def _labels_add_up(ledger: Ledger, say: Violations) -> None:
    of_two = ledger.labels_of_two
    total = sum(len(topic.entries) for topic in ledger.labels) - len(of_two)
    rows = {each.label for each in ledger.outcomes if each.label is not None} - of_two
    letters = ledger.label_letters.keys() - of_two
    traceless = ("early", "duplicate")
    silent = {at for at, outcome in ledger.expected.labels.items() if outcome in traceless} - of_two
    expected_rows = {each.label for each in ledger.expected.outcomes}
    silent |= {
        at for at, outcome in ledger.expected.labels.items() if outcome == "withdrawn" and at not in expected_rows
    } - of_two
    if total != len(rows) + len(letters) + len(silent):
        words = f"{len(rows)} in rows, {len(letters)} dead-lettered, {len(silent)} waiting or said before"
        say.say("I2", f"{total} labels are {words}")


async def the_books_balance(topics: Topics, scenario: Scenario, say: Violations) -> None:
    """I2: the product's own books, which are made from topics too."""
    reading = Reading(scenario.settings, scenario.log, topics.reader)
    try:
        account = await account_of(reading, scenario.domain.name, scenario.domain.settings)
    except TailraceError as problem:
        say.say("I2", f"the books cannot be made: {problem}")
        return
    say.say_all("I2", (f"the books do not balance: {each}" for each in account.books.balances if not each.holds))
    say.say_all("I3", (f"the books say that {each.id} was learned twice" for each in account.books.learned_twice))


# ── I5, I6 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def snapshots_of(topics: Topics) -> list[Manifest]:
    """Return every snapshot that the index held at some time, of the log as it is."""
    return [each for _, each in topics.manifests() if each.kind is Kind.SNAPSHOT]


def equal_positions_have_equal_digests(ledger: Ledger, say: Violations) -> None:
    """I5: of any two manifests of one lineage and position, whoever wrote them, whatever the index holds now."""
    states: dict[tuple[Any, ...], Manifest] = {}
    parts: dict[tuple[Any, ...], tuple[str, Manifest]] = {}
    for _, each in ledger.topics.manifests():
        place = each.lineage, each.log_id, each.position
        name = f"{each.kind} {each.number} at {show_position(each.position)}"
        first = states.setdefault((*place, each.kind, len(each.parts)), each)
        if first.state_digest != each.state_digest and each.kind is not Kind.BRANCH:
            say.say("I5", f"{name} has another state digest than {first.kind} {first.number}")
        for part in each.parts:
            if not part.name.startswith(BRANCH_PART):
                continue
            digest, first = parts.setdefault((*place, part.name), (part.digest, each))
            if digest != part.digest:
                say.say("I5", f"{part.name[:20]} in {name} is another than in {first.kind} {first.number}")


async def the_index_holds_what_was_signed(topics: Topics, scenario: Scenario, say: Violations) -> None:
    """I6: of whatever stands in the index the signature is good; a file that is there passes every check of a load."""
    trusted, store = open_trust(scenario.settings), open_store(scenario.settings)
    (column,) = topics.all_of(topics.domain.topics.snapshots)
    held: dict[bytes, Manifest] = {}
    for record in column.records:
        if record.value is None:
            held.pop(record.key or b"", None)
            continue
        is_planted, name = record.offset in topics.planted, f"record {record.offset} of the index"
        try:
            manifest = unsealed(record, trusted)
        except (CodecError, SnapshotRefused) as refusal:
            if not is_planted:
                say.say("I6", f"{name} is refused: {refusal}")
            continue
        if is_planted:
            say.say("I6", f"{name} is a forgery and counts")
        if manifest.state_digest != state_digest((part.name, part.digest) for part in manifest.parts):
            say.say("I6", f"{name} has a state digest that is not that of its parts")
        held[record.key or b""] = manifest
    for manifest in held.values():
        expected = Expected(
            manifest.lineage,
            trusted.current(),
            manifest.indexed_at_ms or 0,
            manifest.log_id,
            manifest.kind,
            index=manifest,
            max_file_bytes=snapshot_file.file_bytes(manifest),
        )
        name = f"{manifest.kind} {manifest.number}"
        try:
            if manifest.inline:
                snapshot_file.read_inline(manifest, expected)
            if manifest.store_path is not None:
                file = await asyncio.to_thread(store.get, manifest.store_path, snapshot_file.MAX_FILE_BYTES)
                snapshot_file.read(file, expected)
        except SnapshotRefused as refusal:
            # Workers write on while this looks: what stands in the index by now may have replaced it.
            await topics.read(topics.domain.topics.snapshots)
            if refusal.reason != "missing" or is_kept(manifest, [*held.values(), *snapshots_of(topics)]):
                say.say("I6", f"{name} in the index cannot be loaded: {refusal}")


def is_kept(manifest: Manifest, held: Iterable[Manifest]) -> bool:
    """Return whether the file of a manifest that stands in the index must be there.

    Only that of a snapshot so old that its place was given to a newer one may be gone: a learner that had stood still
    may have put its manifest there again.
    """
    lines = (each for each in held if (each.lineage, each.kind) == (manifest.lineage, manifest.kind))
    return manifest.kind is not Kind.SNAPSHOT or manifest.number > max(each.number for each in lines) - KEPT


def predictions_name_states_of_the_log(ledger: Ledger, say: Violations) -> None:
    """I6: the state of every prediction is one of the log: after a record, or after an example of a block that counts.

    Learning gives way to scoring within a block, so that a state may end between two of its examples.
    """
    column = ledger.topics.training
    blocks = {id(block) for block in ledger.blocks}
    rows_at = {
        record.offset: len(content.examples) if id(content) in blocks else 0
        for record, content in zip(column.records, column.decoded, strict=True)
    }
    for text, answer in _distinct(ledger, lambda plain: plain["position"]).items():
        name = f"prediction {answer.record.partition}:{answer.record.offset} names the state {text}, which"
        try:
            position = parse(text)
        except ValueError:
            say.say("I6", f"{name} is no position")
            continue
        offset, row = offset_of(position), row_of(position)
        if offset > column.next_offset or (row and offset == column.next_offset):
            say.say("I6", f"{name} is beyond the end of the log at {column.next_offset}")
        elif row and row > rows_at.get(offset, 0):
            say.say("I6", f"{name} is no end of a block, nor between two examples of one that counts")


def _distinct(ledger: Ledger, key: Any) -> dict[Any, Answer]:
    """Return one prediction of each kind."""
    found: dict[Any, Answer] = {}
    for answers in ledger.answers.values():
        for answer in answers:
            found.setdefault(key(answer.plain), answer)
    return found


# ── I7 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Owned:
    """Who owns which part of the log, by the rule of claims written a second time.

    Attributes:
        log_id: As the first claim names the log; of several that begin it at once, the others do not count.
    """

    owners: dict[int, str] = field(default_factory=dict)
    log_id: str | None = None

    def claim(self, claim: Claim) -> bool:
        """Take a claim into account; return whether it counts."""
        counts = self.owners.get(claim.partition) == claim.after and self.log_id in (None, claim.log_id)
        if counts:
            self.log_id, self.owners[claim.partition] = claim.log_id, claim.owner
        return counts


def the_log_keeps_its_writers_order(ledger: Ledger, say: Violations) -> None:
    """I7: the blocks of an owner, and the learner's records, have rising numbers without gaps; vectors never go back."""
    owned, numbers = Owned(), dict[int, int]()
    column = ledger.topics.training
    for record, content in zip(column.records, column.decoded, strict=True):
        if isinstance(content, Claim):
            if owned.claim(content):
                numbers[content.partition] = 0
            continue
        part = content.partition if isinstance(content, TrainingBlock) else LEARNER
        if owned.owners.get(part) != content.owner:
            continue
        if content.number > numbers[part] + 1:
            was = f"{numbers[part]} of partition {part}"
            say.say("I7", f"offset {record.offset} of the log has number {content.number} after number {was}")
        numbers[part] = max(numbers[part], content.number)
    reached: dict[int, tuple[int, int, int]] = {}
    for block in ledger.blocks:
        vector = block.vector
        now = vector.scored_next, vector.labels_next, vector.relabelled_next
        before = reached.get(block.partition, (0, 0, 0))
        if any(n < b for n, b in zip(now, before, strict=True)):
            say.say("I7", f"block {block.number} of {block.owner} goes back from {before} to {now}")
        reached[block.partition] = now


async def another_reader_reads_the_same(topics: Topics, scenario: Scenario, say: Violations) -> None:
    """I7: one value at each offset for all readers, and no offset left out where nothing is compacted."""
    names = topics.domain.topics
    compacted = {names.snapshots, names.status}
    lasting = (names.predictions, names.scored, names.relabelled, names.training, names.dead_events, names.dead_labels)
    reader = scenario.form.open().reader()
    await reader.start()
    try:
        for topic in (*lasting, names.commands, names.model_events, *compacted):
            for partition, column in enumerate(topics.all_of(topic)):
                at = TopicPartition(topic, partition)
                held = await reader.range_of(at)
                again: list[Record] = []
                if held.start < min(held.end, column.next_offset):
                    end = min(held.end, column.next_offset)
                    again = [record async for batch in reader.read(at, held.start, end) for record in batch]
                ends = held.end, column.next_offset
                if ends[0] < ends[1]:
                    say.say("I7", f"{topic}/{partition} ends at {ends[0]} now and ended at {ends[1]} before")
                _compare(column, again, f"{topic}/{partition}", held.start, say, is_compacted=topic in compacted)
    finally:
        await reader.stop()


def _compare(
    column: Column, again: list[Record], name: str, start: int, say: Violations, *, is_compacted: bool
) -> None:
    first = {record.offset: record for record in column.records if record.offset >= start}
    second = {record.offset: record for record in again}
    for offset in second.keys() - first.keys():
        say.say("I7", f"{name} holds offset {offset} for one reader and not for another")
    for offset, record in first.items():
        other = second.get(offset)
        if other is None:
            if not is_compacted:
                say.say("I7", f"{name} does not hold offset {offset} any more")
        elif _bytes_of(record) != _bytes_of(other):
            say.say("I7", f"{name} holds two values at offset {offset}")
    offsets = sorted(first)
    if not is_compacted and offsets and offsets != list(range(offsets[0], offsets[-1] + 1)):
        missing = sorted(set(range(offsets[0], offsets[-1] + 1)) - set(offsets))
        say.say("I7", f"{name} leaves out the offsets {missing[:6]}")


def _bytes_of(record: Record) -> tuple[Any, ...]:
    return record.key, record.value, record.timestamp, [tuple(header) for header in record.headers]


# ── I8 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Epoch(NamedTuple):
    """Who serves from a record of the log on."""

    offset: int
    epoch: int
    champion: str


def epochs_of(topics: Topics) -> list[Epoch]:
    """Return the history of the champion as the log says it, by the rules of the log written a second time."""
    owned, number, epoch, champion = Owned(), 0, 0, ""
    admitted: set[str] = set()
    found: list[Epoch] = []
    for record, content in zip(topics.training.records, topics.training.decoded, strict=True):
        if isinstance(content, Claim):
            if owned.claim(content) and content.partition == LEARNER:
                number = 0
            continue
        owner = owned.owners.get(LEARNER)
        if isinstance(content, TrainingBlock) or content.owner != owner or content.number != number + 1:
            continue
        number = content.number
        if isinstance(content, Admit):
            admitted.add(content.branch)
            champion = champion or content.branch
        elif isinstance(content, Command):
            counts = content.expected_epoch == epoch and content.branch in admitted and content.branch != champion
            if counts:
                epoch += 1
                if content.kind is CommandKind.PROMOTE:
                    champion = content.branch
                else:
                    admitted.discard(content.branch)
        if (epoch, champion) != (found[-1][1:] if found else (0, "")):
            found.append(Epoch(record.offset, epoch, champion))
    return found


def every_epoch_has_one_champion(ledger: Ledger, say: Violations, folded: Mapping[str, Any] | None = None) -> None:
    """I8: for the log, for the fold in another process, for snapshots, and for every prediction at its position.

    Args:
        folded: What `Refolder.fold` came to; None: there is no snapshot yet.
    """
    topics = ledger.topics
    history = epochs_of(topics)
    if folded is not None:
        end = offset_of(folded["position"])
        mine, theirs = [tuple(each) for each in history if each.offset < end], [tuple(e) for e in folded["epochs"]]
        if mine != theirs:
            say.say("I8", f"the log says {mine[-3:]} (offset, epoch, champion), the fold {theirs[-3:]}")
    _predictions_are_of_the_champion(ledger, history, say)
    champions: dict[int, set[str]] = {}
    for _, manifest in topics.manifests():
        directory = directory_of(manifest)
        if directory is None or manifest.kind is Kind.BRANCH:
            continue
        now = _at(history, offset_of(manifest.position))
        name = f"{manifest.kind} {manifest.number} at {show_position(manifest.position)}"
        champions.setdefault(int(directory["epoch"]), set()).add(directory["champion"])
        if (directory["epoch"], directory["champion"]) != (now.epoch, now.champion):
            said = f"epoch {directory['epoch']} and the champion {directory['champion'][:12]}"
            say.say("I8", f"{name} names {said}; in the log it is epoch {now.epoch} and {now.champion[:12]}")
    for epoch, names in champions.items():
        if len(names - {""}) > 1:
            say.say("I8", f"epoch {epoch} has {len(names)} champions in the index")


def _predictions_are_of_the_champion(ledger: Ledger, history: list[Epoch], say: Violations) -> None:
    # Before the first branch is admitted, the one that will be serves, and has learned nothing.
    first = history[0].champion if history else ledger.topics.domain.branch.lineage
    kinds = _distinct(ledger, lambda plain: (plain["position"], plain["model"], plain["version"]))
    for (text, model, version), answer in kinds.items():
        try:
            offset = offset_of(parse(text))
        except ValueError:
            continue  # I6 tells it
        champion = _at(history, offset).champion or first
        if (model, version) != ("champion", champion[:12]):
            name = f"prediction {answer.record.partition}:{answer.record.offset} at {text}"
            say.say("I8", f"{name} is of {model} {version}; the champion was {champion[:12]}")


def announcements_tell_the_epochs(ledger: Ledger, say: Violations) -> None:
    """I8: a decision that was announced stands in the log, with the epoch that was announced."""
    topics = ledger.topics
    history = epochs_of(topics)
    for column in topics.all_of(topics.domain.topics.model_events):
        for event in column.decoded:
            if event.kind not in {"promote", "retire"}:
                continue
            now = _at(history, offset_of(event.position) + 1)
            if int(event.numbers["epoch"]) != now.epoch:
                told = f"epoch {event.numbers['epoch']:.0f} at {show_position(event.position)}"
                say.say("I8", f"{event.kind} was announced with {told}; in the log it is epoch {now.epoch}")


def _at(history: list[Epoch], offset: int) -> Epoch:
    """Return the epoch of a state that holds every record below an offset."""
    return next((each for each in reversed(history) if each.offset < offset), Epoch(-1, 0, ""))


def directory_of(manifest: Manifest) -> Mapping[str, Any] | None:
    """Return what a snapshot says of its branches, where it travels in the index as it is."""
    part = next((each for each in manifest.parts if each.name == "branches"), None)
    body = manifest.inline.get("branches")
    return None if part is None or body is None or part.is_compressed else json.loads(body)


# ── I9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def nothing_is_committed_ahead(ledger: Ledger, say: Violations, *, is_quiet: bool = True) -> None:
    """I9: what a group has committed is durably done. The committed offsets were read before the topics.

    Args:
        is_quiet: The learner's commit is looked at too. It promises nothing, its position comes from a snapshot: at a
            quiet moment the newest snapshot has come to it.
    """
    topics = ledger.topics
    names = topics.domain.topics
    score, join, learn = (topics.committed.get(role, {}) for role in ("score", "join", "learn"))
    for at in sorted(ledger.events.keys() | ledger.bad_events.keys()):
        is_done = (at in ledger.rows and at in ledger.answers) or at in ledger.event_letters
        done = score.get(TopicPartition(names.events, at[0]), 0)
        if at[1] < done and not is_done:
            say.say("I9", f"events {at[0]} is committed to {done}, and event {show(at)} is not scored and predicted")
    vectors = topics.vectors()
    for at, offset in join.items():
        vector = vectors.get(at.partition)
        reached = {names.scored: 0, names.labels: 0, names.relabelled: 0}
        if vector is not None:
            reached[names.scored] = offset_of(vector.scored_next)
            reached |= {names.labels: vector.labels_next, names.relabelled: vector.relabelled_next}
        if offset > reached.get(at.topic, offset):
            say.say("I9", f"{at.topic}/{at.partition} is committed to {offset}, the log says {reached[at.topic]}")
    newest = topics.newest_snapshot()
    position = 0 if newest is None else offset_of(newest.position)
    for at, offset in learn.items() if is_quiet else ():
        if offset > position:
            say.say("I9", f"{at.topic} is committed to {offset}, the newest snapshot is at {position}")


# ── I11 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def examples_have_the_features_as_scored(ledger: Ledger, say: Violations) -> None:
    """I11: features, prediction and source of every example are those of the scored row that counts, bit for bit."""
    accepted = accepted_rows(ledger)
    for block in ledger.blocks:
        examples = block.examples
        for row, event_id in enumerate(examples.ids):
            first = accepted.get((block.partition, event_id, int(examples.times_ms[row])))
            name = f"the example of {event_id} in block {block.number} of {block.owner}"
            if first is None:
                say.say("I11", f"{name} has no scored row that counts")
            elif _bits(examples.x, row) != _bits(first.block.x, first.row):
                say.say("I11", f"{name} has other features than were scored")
            elif _answer_bits(examples.served, row) != _answer_bits(first.block.served, first.row):
                say.say("I11", f"{name} has another prediction than was scored")
            elif _source_of(first) != (int(examples.source_partitions[row]), int(examples.source_offsets[row])):
                say.say("I11", f"{name} names another event than {show(_source_of(first))}")
            elif first.block.state_position != examples.state_positions[row]:
                say.say("I11", f"{name} names another state than was scored by")


def accepted_rows(ledger: Ledger) -> dict[tuple[int, str, int], Row]:
    """Return the scored row of each identity that counts, by partition, id and time: neither stale nor repeated."""
    times = ledger.topics.domain.settings.times
    watermarks = [NEVER] * len(ledger.topics.scored)
    known: dict[tuple[int, str], list[int]] = {}
    found: dict[tuple[int, str, int], Row] = {}
    for row in ledger.each_row():
        before, event_id = watermarks[row.partition], row.block.ids[row.row]
        time_ms = int(row.block.times_ms[row.row])
        watermarks[row.partition] = max(before, time_ms)
        if before > time_ms + times.disorder_ms:
            continue
        same = known.setdefault((row.partition, event_id), [])
        if not any(each == time_ms or before <= each + times.reuse_ms for each in same):
            same.append(time_ms)
            found[row.partition, event_id, time_ms] = row
    return found


def _source_of(row: Row) -> Source:
    return row.block.source_partition, int(row.block.source_offsets[row.row])


def _bits(x: XColumns, row: int) -> tuple[Any, ...]:
    absent = None if x.absent is None or not x.absent[row].any() else x.absent[row].tobytes()
    return x.numbers[row].tobytes(), x.integers[row].tobytes(), x.strings[row], absent


def _answer_bits(served: Served, row: int) -> tuple[bytes, bytes]:
    return served.y_pred[row].tobytes(), served.proba[row].tobytes()

"""The checks, from topics and store alone, on topics as of a quiet moment.

(a) What stands in the blocks that count, and in the dead letters, is what the oracle computes from labels and scored
    events; nothing is there twice, and every event is answered or dead-lettered.
(b) The digest of the newest snapshot is that of a bare fold of the log as it was written, made by another process.

`check_all` makes both and every invariant that costs little: after each fault. `check_at_end` makes all of them. Both
count and tell; `check` raises.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import invariants, secrecy
from tests.faults.audit import Audit, Found, Violations
from tests.faults.ledger import SETTLED, Codes, Ledger, Source, show
from tests.faults.processes import Refolder
from tests.faults.topics import Topics
from tests.faults.workload import CODES
from tests.scenarios.harness import Scenario

from tailrace.domain.positions import offset_of

__all__ = ["Audit", "Found", "check", "check_a", "check_all", "check_at_end", "check_b"]

_EITHER = frozenset({"conflicting", "late", "orphaned"})
"""What may become of the second label of an id whose labels came on two partitions."""


async def check_all(
    topics: Topics,
    refolder: Refolder,
    scenario: Scenario,
    on_two: Mapping[str, set[bool]],
    *,
    logs: Collection[Path] = (),
    texts: Mapping[str, str] | None = None,
    codes: Codes = CODES,
) -> Audit:
    """Audit what may be asked after every fault.

    Args:
        topics: As of a quiet moment.
        on_two: Ids whose labels came on two partitions → their targets; either may have been the first.
        logs: What the processes wrote to standard error.
        texts: What else nobody's values may stand in, by name: pages of /metrics.
        codes: Of the bad records that were sent.
    """
    desk = _Desk(Ledger(topics, on_two, codes))
    audit, ledger, say = desk.audit, desk.ledger, desk.audit.violations
    with desk.timed("I1"):
        invariants.every_accepted_event_is_predicted(ledger, say)
    with desk.timed("I2 I3"):
        audit.found = _audit_a(ledger, say)
        invariants.every_input_ends_once(ledger, say)
    with desk.timed("I4"):
        folded = await _audit_b(topics, refolder, say)
    with desk.timed("I6"):
        invariants.predictions_name_states_of_the_log(ledger, say)
    with desk.timed("I7"):
        invariants.the_log_keeps_its_writers_order(ledger, say)
    with desk.timed("I8"):
        invariants.every_epoch_has_one_champion(ledger, say, folded)
    with desk.timed("I9"):
        invariants.nothing_is_committed_ahead(ledger, say)
    with desk.timed("I12"):
        needles = secrecy.Needles.of(ledger, scenario.settings)
        secrecy.no_value_is_told(needles, say, logs, texts or {})
    return audit


async def check_at_end(
    topics: Topics,
    refolder: Refolder,
    scenario: Scenario,
    on_two: Mapping[str, set[bool]],
    *,
    logs: Collection[Path] = (),
    texts: Mapping[str, str] | None = None,
    codes: Codes = CODES,
) -> Audit:
    """Audit everything: what `check_all` does, and what is read or folded anew for it."""
    audit = await check_all(topics, refolder, scenario, on_two, logs=logs, texts=texts, codes=codes)
    desk = _Desk(Ledger(topics, on_two, codes), audit)
    ledger, say = desk.ledger, audit.violations
    await topics.refresh_rest()
    with desk.timed("I2 books"):
        await invariants.the_books_balance(topics, scenario, say)
    with desk.timed("I5"):
        invariants.equal_positions_have_equal_digests(ledger, say)
    with desk.timed("I4 of all"):
        await _audit_every_snapshot(topics, refolder, say)
    with desk.timed("I6 files"):
        await invariants.the_index_holds_what_was_signed(topics, scenario, say)
    with desk.timed("I7 again"):
        await invariants.another_reader_reads_the_same(topics, scenario, say)
    with desk.timed("I8 told"):
        invariants.announcements_tell_the_epochs(ledger, say)
    with desk.timed("I11"):
        invariants.examples_have_the_features_as_scored(ledger, say)
    with desk.timed("I12 topics"):
        needles = secrecy.Needles.of(ledger, scenario.settings)
        secrecy.no_value_is_told_in_topics(needles, topics, say)
    return audit


async def check(
    topics: Topics,
    refolder: Refolder,
    scenario: Scenario,
    on_two: Mapping[str, set[bool]],
    *,
    at_end: bool = False,
    **more: Any,
) -> Found:
    """Make the checks of `check_all`, or of `check_at_end`, whose arguments it takes; return what was counted.

    Raises:
        AssertionError: Something is wrong; it says all that is.
    """
    audit = await (check_at_end if at_end else check_all)(topics, refolder, scenario, on_two, **more)
    return audit.complain()


def check_a(topics: Topics, on_two: Mapping[str, set[bool]], codes: Codes = CODES) -> Found:
    """Check (a); return what was counted.

    Raises:
        AssertionError: Something is wrong; it says all that is.
    """
    ledger, audit = Ledger(topics, on_two, codes), Audit()
    invariants.every_accepted_event_is_predicted(ledger, audit.violations)
    audit.found = _audit_a(ledger, audit.violations)
    return audit.complain()


async def check_b(topics: Topics, refolder: Refolder) -> int:
    """Check (b); return how many examples the snapshot has learned.

    Raises:
        AssertionError: The snapshot is not what the log comes to.
    """
    audit = Audit()
    folded = await _audit_b(topics, refolder, audit.violations)
    audit.complain()
    return 0 if folded is None else int(folded["learned"])


@dataclass
class _Desk:
    ledger: Ledger
    audit: Audit = field(default_factory=Audit)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        begun_s, collects = time.perf_counter(), gc.isenabled()
        # A hundred thousand small objects are made, none of them in a cycle: looking for one takes as long as the check.
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
        self.audit.seconds[part] = time.perf_counter() - begun_s


# ── (a) ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _audit_a(ledger: Ledger, say: Violations) -> Found:
    lost_events, lost_labels = _lost_events(ledger, say), _lost_labels(ledger, say)
    twice = _settled_twice(ledger, say)
    missing = _audit_outcomes(ledger, say)
    _audit_letters(ledger, say)
    for invariant, words in ledger.strays:
        say.say(invariant, words)
    outcomes = Counter(each.kind for each in ledger.outcomes)
    dead = Counter(letter.rejection.code.value for letters in ledger.label_letters.values() for letter in letters[:1])
    return Found(
        events=len(ledger.events),
        outcomes=outcomes,
        dead=dead,
        forwarded=len(ledger.forwards),
        learned=outcomes["joined"] + outcomes["implicit"],
        labels=sum(len(topic.entries) for topic in ledger.labels),
        lost_events=len(lost_events) + missing,
        lost_labels=len(lost_labels),
        twice=twice,
    )


def _lost_events(ledger: Ledger, say: Violations) -> list[Source]:
    lost = []
    for at, event in ledger.events.items():
        rows = ledger.rows.get(at, ())
        for row in rows:
            scored = row.block.ids[row.row], int(row.block.times_ms[row.row])
            if scored != (event.id, event.time_ms):
                say.say(
                    "I2", f"event {show(at)} is {event.id} of {event.time_ms}, scored as {scored[0]} of {scored[1]}"
                )
        if not rows and at not in ledger.event_letters:
            say.say("I2", f"event {event.id} ({show(at)}) is lost: neither a scored row nor a dead letter")
        if at not in ledger.event_letters and not (rows and at in ledger.answers):
            lost.append(at)
    for at, code in ledger.bad_events.items():
        if at not in ledger.event_letters:
            say.say("I2", f"event {show(at)} is lost: it is bad ({code}) and has no dead letter")
            lost.append(at)
    say.say_all("I2", (f"scored holds {show(at)}, which is no good event" for at in ledger.rows.keys() - ledger.events))
    return lost


def _lost_labels(ledger: Ledger, say: Violations) -> list[Source]:
    """Return the labels that must have left a trace in log or dead letters and have left none."""
    has_row = {outcome.label for outcome in ledger.outcomes if outcome.label is not None}
    lost = []
    # A withdrawal before any other word has no row: the oracle counts it as withdrawn, the log need not know it.
    rows = {each.label for each in ledger.expected.outcomes}
    for at, outcome in ledger.expected.labels.items():
        must_show = at in rows or outcome in _EITHER
        if must_show and at not in ledger.labels_of_two and at not in has_row and at not in ledger.label_letters:
            say.say("I2", f"label {show(at)} is lost: it is {outcome}, and has neither a row nor a dead letter")
            lost.append(at)
    for at, code in ledger.bad_labels.items():
        if at not in ledger.label_letters:
            say.say("I2", f"label {show(at)} is lost: it is bad ({code}) and has no dead letter")
            lost.append(at)
    return lost + _lost_of_two(ledger, say, has_row)


def _lost_of_two(ledger: Ledger, say: Violations, has_row: set[Source]) -> list[Source]:
    """Return one label of each id that was labelled on two partitions, should have been joined, and was not."""
    theirs: dict[str, list[Source]] = {}
    for at in ledger.labels_of_two:
        theirs.setdefault(ledger.label_of(at).id, []).append(at)
    lost = []
    for event_id, places in theirs.items():
        joins = any(ledger.expected.labels.get(at) == "joined" for at in places)
        if joins and has_row.isdisjoint(places):
            say.say("I2", f"the labels of {event_id} on two partitions are lost: none of them was joined")
            lost.append(min(places))
    return lost


def _settled_twice(ledger: Ledger, say: Violations) -> int:
    settled = Counter((each.id, each.time_ms) for each in ledger.outcomes if each.kind in SETTLED)
    twice = {identity: times for identity, times in settled.items() if times > 1}
    say.say_all("I3", (f"{name} of {at} is settled {times} times" for (name, at), times in twice.items()))
    rows: dict[Source, list[str]] = {}
    for each in ledger.outcomes:
        if each.label is not None and (each.id, each.time_ms) not in twice:
            rows.setdefault(each.label, []).append(each.kind)
    again = {label: kinds for label, kinds in rows.items() if len(kinds) > 1}
    say.say_all(
        "I3", (f"label {show(label)} has {len(kinds)} rows: {', '.join(kinds)}" for label, kinds in again.items())
    )
    return len(twice) + len(again)


def _audit_outcomes(ledger: Ledger, say: Violations) -> int:
    """Compare the rows of the log with those of the oracle; return how many events have no row and must have one."""
    on_two = ledger.on_two
    found = {(o.kind, o.id, o.time_ms, None if o.id in on_two else o.y) for o in ledger.outcomes}
    expected = {(o.kind, o.id, o.time_ms, None if o.id in on_two else o.y) for o in ledger.expected.outcomes}
    say.say_all("I3", (f"{_words(each)} is in the log and should not be" for each in _ordered(found - expected)))
    say.say_all("I3", (f"{_words(each)} should be in the log and is not" for each in _ordered(expected - found)))
    for each in ledger.outcomes:
        if each.id in on_two and each.kind == "joined" and each.y not in on_two[each.id]:
            say.say("I3", f"{each.id} was joined with a target that nobody gave")
    settled = {(o.id, o.time_ms) for o in ledger.outcomes if o.kind in SETTLED}
    return sum(
        kind in ("dropped", "implicit") and (name, time_ms) not in settled for kind, name, time_ms, _ in expected
    )


def _audit_letters(ledger: Ledger, say: Violations) -> None:
    letters = {at: {each.rejection.code.value for each in found} for at, found in ledger.event_letters.items()}
    for at in _ordered(letters.keys() | ledger.bad_events.keys()):
        must = {ledger.bad_events[at]} if at in ledger.bad_events else set()
        if letters.get(at, must) != must:
            say.say(
                "I2", f"event {show(at)} is dead-lettered as {sorted(letters[at])}, expected {sorted(must) or 'not'}"
            )
    expected = {at: code for at, code in ledger.expected.dead if at not in ledger.labels_of_two} | ledger.bad_labels
    for at in _ordered(ledger.label_letters.keys() | expected.keys()):
        mine = ledger.label_letters.get(at, [])
        # A record may be sent twice; the letter of another block would be another decision.
        blocks = {letter.block for letter in mine}
        if len(blocks) > 1:
            say.say("I2", f"label {show(at)} is dead-lettered by {len(blocks)} blocks that count")
        if not mine:
            continue  # told as lost
        code = mine[0].rejection.code.value
        if at in ledger.labels_of_two:
            targets = ledger.on_two[ledger.label_of(at).id]
            if code not in _EITHER or (code == "conflicting" and len(targets) == 1):
                say.say("I2", f"label {show(at)}, one of two, is dead-lettered as {code}")
        elif expected.get(at) != code:
            say.say("I2", f"label {show(at)} is dead-lettered as {code}, expected {expected.get(at, 'not')}")


def _words(outcome: tuple[str, str, int, float | None]) -> str:
    kind, name, time_ms, y = outcome
    return f"{name} of {time_ms}, {kind}{'' if y is None else f' with {y}'},"


def _ordered(found: Collection[Any]) -> Sequence[Any]:
    return sorted(found, key=str)


# ── (b) ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _audit_b(topics: Topics, refolder: Refolder, say: Violations) -> dict[str, Any] | None:
    newest = topics.newest_snapshot()
    if newest is None:
        return None
    folded = await refolder.fold(offset_of(newest.position))
    if folded["position"] != newest.position:
        say.say("I4", f"the fold ends at {folded['position']}, snapshot {newest.number} at {newest.position}")
    if folded["digest"] != newest.state_digest:
        say.say("I4", f"snapshot {newest.number} is not what the log comes to")
    if folded["learned"] != newest.counters["learned"]:
        learned = newest.counters["learned"]
        say.say("I4", f"snapshot {newest.number} says {learned} were learned, the fold learned {folded['learned']}")
    return folded


async def _audit_every_snapshot(topics: Topics, refolder: Refolder, say: Violations) -> None:
    snapshots = invariants.snapshots_of(topics)
    if not snapshots:
        return
    at = {offset_of(each.position) for each in snapshots}
    digests = (await refolder.fold(max(at), at))["digests"]
    for each in snapshots:
        if digests.get(str(offset_of(each.position))) != each.state_digest:
            say.say("I4", f"snapshot {each.number} at {each.position} is not what the log comes to there")

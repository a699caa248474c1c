"""Input that cannot be used: of every kind, on every topic that somebody else may write; and input that is too large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.faults.catalog import Result, Trial, fault
from tests.faults.checks import check_b
from tests.faults.ground import TOGETHER, Ground, ground, now_ms
from tests.scenarios.api_ground import free_address
from tests.scenarios.bad_records import (
    BAD,
    FEATURES,
    JSON,
    KINDS,
    MODEL,
    TARGETS,
    Bad,
    good_event,
    good_label,
    open_wide,
)
from tests.simulation.oracle import outcomes_of
from tests.wire.poison import TIMESTAMP_MS, Kind, event, label

from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim, Code, Request, RequestKind
from tailrace.domain.status import Role, RoleState
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import picture_of
from tailrace.stores.signing import Purpose, SigningKey
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.wire.avro_codec import Signed, encode_request, encode_signed
from tailrace.wire.dead_letter import COPY_BYTES, SHA256, SIZE, DeadLetter, parse
from tailrace.wire.json_codec import MAX_VALUE_BYTES
from tailrace.wire.topics import DEAD_LETTER_BYTES, LARGEST_MESSAGE_BYTES

WARM = 60
LAST = 50
BATCH = 100
FEWEST_KINDS = 60
TOLD_S = 60.0
THROUGH_S = 180.0
COMMAND_BYTES = 500_000
OF_PREDICTION = ("event_id", "event_time", "y_pred", "proba", "outcome", "model", "version")


# ── F15 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

MARK = "zq7planted"
"""Begins every planted word; it stands in nothing that anybody else writes."""


def planted(number: int) -> str:
    """Return a word that only one record holds."""
    return f"{MARK}{number:03d}x"


def marked() -> tuple[Bad, ...]:
    """Return bad records that hold a planted word each: as value, id, time, key or header, wherever a user may put one."""
    both: list[tuple[str, Callable[[str], bytes], Code]] = [
        ("not-json", lambda word: word.encode(), Code.NOT_JSON),
        ("text", lambda word: orjson.dumps(word), Code.NOT_AN_OBJECT),
        ("array", lambda word: orjson.dumps([word]), Code.NOT_AN_OBJECT),
    ]
    found: list[Bad] = []

    def add(kind: Kind, name: str, value: bytes, code: Code, **envelope: Any) -> None:
        record = Outgoing(b"e-1", value, (), TIMESTAMP_MS)._replace(**envelope)
        found.append(Bad(f"marked-{name}", kind, record, code))

    def word() -> str:
        return planted(len(found))

    for kind, make in (("events", event), ("labels", label)):
        for name, written, code in both:
            add(kind, name, written(word()), code)
        add(kind, "cut-short", make(extra=word())[:-1], Code.NOT_JSON)
        add(kind, "id-array", make(id=[word()]), Code.ID_INVALID)
        add(kind, "id-too-long", make(id=word() * 20), Code.ID_INVALID)
        add(kind, "id-with-nul", make(id=f"{word()}\0"), Code.ID_INVALID)
        add(kind, "time-in-words", make(at=word()), Code.TIME_INVALID)
        add(kind, "key", b"hello", Code.NOT_JSON, key=word().encode())
        add(kind, "header", b"hello", Code.NOT_JSON, headers=(("x", word().encode()), (word(), b"1")))
    add("events", "path-ends-early", event(user=word()), Code.FEATURE_MISSING)
    add("events", "number-as-text", event(amount=word()), Code.FEATURE_TYPE)
    add("events", "number-as-array", event(score=[word()]), Code.FEATURE_TYPE)
    add("events", "integer-as-text", event(user={"age": word()}), Code.FEATURE_TYPE)
    add("events", "boolean-as-text", event(vip=word()), Code.FEATURE_TYPE)
    add("events", "text-as-object", event(note={word(): word()}), Code.FEATURE_TYPE)
    add("events", "category-unlisted", event(country=word()), Code.CATEGORY_UNKNOWN)
    add("events", "text-too-long", event(note=word() * 3), Code.TEXT_TOO_LONG)
    add("labels", "target-unlisted", label(verdict=word()), Code.TARGET_INVALID)
    add("labels", "target-array", label(verdict=[word()]), Code.TARGET_INVALID)
    add("labels", "target-object", label(verdict={word(): word()}), Code.TARGET_INVALID)
    add("labels", "revision-as-text", label(version=word()), Code.REVISION_INVALID)
    add("labels", "source-too-long", label(by=word() * 10), Code.SOURCE_INVALID)
    add("labels", "source-with-nul", label(by=f"{word()}\0"), Code.SOURCE_INVALID)
    return tuple(found)


MARKED = marked()


@fault("F15", "bad input of every kind, alone and among good", ci=270, full=2_700, limit_s=400)
async def poison(trial: Trial) -> Result:
    """A loop that is sent every kind of bad record, and one that is sent none: the same predictions to the bit."""
    result = Result()
    rounds = max(1, trial.times // (2 * len(BAD)))
    # Last, so that a batch of good ones gets one of the others.
    kinds = {kind: [each for each in (*BAD, *MARKED) if each.kind == kind] for kind in KINDS}
    assert all(len({each.name for each in BAD if each.kind == kind}) >= FEWEST_KINDS for kind in KINDS)
    async with loop_of(trial.folder / "poisoned", trial.seed, http=free_address()) as at:
        poisoned = await live(at, kinds, rounds, result)
        result.times += await strangers(at)
        await nobody_noticed(at)
        await nobody_tells_what_was_planted(at)
        await the_log_is_garbage(at, "scored", Role.JOIN)
        await the_log_is_garbage(at, "training", Role.LEARN)
    async with loop_of(trial.folder / "clean", trial.seed) as at:
        clean = await live(at, {kind: [] for kind in KINDS}, rounds, Result())
        await nobody_noticed(at)
        result.times += await relabelled_is_garbage(at)
    assert len({each["proba"] for each in clean.values()}) > WARM
    different = [name for name, each in clean.items() if told(each) != told(poisoned[name])]
    assert not different, f"{len(different)} of {len(clean)} predictions differ: {different[:5]}"
    assert clean.keys() == poisoned.keys()
    result.events += len(poisoned)
    result.notes.append(
        f"{len(kinds['events'])} kinds of events, {len(kinds['labels'])} of labels; "
        f"{len(clean)} predictions equal to the bit with and without them; {len(MARKED)} planted words stand in the "
        "dead letters, and in no log, page of metrics, reason, heartbeat or announcement"
    )
    return result


@asynccontextmanager
async def loop_of(folder: Path, seed: int, **changes: Any) -> AsyncIterator[Ground]:
    """Start a loop of one partition that can be sent every record of the table."""
    settings: dict[str, Any] = {
        "features": FEATURES,
        "events": {"id": "id", "time": "at"},
        "labels": {"id": "id", "time": "at", **TARGETS},
        "corrections_within": "0s",
        "champion": {"model": MODEL},
        "horizon": "1h",
        "disorder": "1h",
    }
    # Nobody may be put out of a group because the machine is busy: a role that begins again counts as a restart.
    async with ground(folder, seed, partitions=1, teams=TOGETHER, session_timeout="10s", **settings | changes) as at:
        await open_wide(at.scenario)
        await at.fleet.start_all()
        yield at


async def send(at: Ground, kind: Kind, records: Sequence[Outgoing]) -> list[int]:
    """Send records to partition 0; return their offsets."""
    names = at.scenario.domain.topics
    partition = TopicPartition(names.events if kind == "events" else names.labels, 0)
    offsets = await at.scenario.user.raw(partition.topic, 0, *records)
    at.load.ends[partition] = offsets[-1] + 1
    return offsets


async def live(at: Ground, bad: dict[Kind, list[Bad]], rounds: int, result: Result) -> dict[str, dict[str, Any]]:
    """Send good records, among them bad ones; check the dead letters; return the predictions by event id."""
    makers = {"events": good_event, "labels": good_label}
    sent: dict[tuple[Kind, int], Bad] = {}
    made = 0
    batches = rounds * max(sum(each.kind == kind for each in BAD) for kind in KINDS)
    for count in (WARM, batches * BATCH, LAST):
        for kind in KINDS:
            good = [makers[kind](number, JSON) for number in range(made, made + count)]
            if count == batches * BATCH:
                for each in bad[kind]:  # alone
                    sent[kind, (await send(at, kind, [each.record]))[0]] = each
            for begin in range(0, count, BATCH):
                batch = good[begin : begin + BATCH]
                one = bad[kind][(begin // BATCH) % len(bad[kind])] if bad[kind] and count == batches * BATCH else None
                place = at.rng.randrange(len(batch) + 1)
                mixed = batch if one is None else [*batch[:place], one.record, *batch[place:]]
                offsets = await send(at, kind, mixed)
                if one is not None:
                    sent[kind, offsets[place]] = one
            await at.quiet(THROUGH_S)
        made += count
    result.times += len(sent)
    await letters_are_right(at, sent)
    predictions = await at.scenario.user.predictions()
    found = {each["event_id"]: each for each in predictions}
    assert len(predictions) == len(found) == made, f"{len(predictions)} predictions of {made} good events"
    return found


async def letters_are_right(at: Ground, sent: dict[tuple[Kind, int], Bad]) -> None:
    """Each bad record has one dead letter with its code, the record as it was; nothing else has one."""
    names = at.scenario.domain.topics
    found: dict[tuple[Kind, int], DeadLetter] = {}
    for kind, topic in zip(KINDS, (names.dead_events, names.dead_labels), strict=True):
        for record in await at.scenario.user.read(topic):
            letter = parse(record.headers)
            place = kind, letter.offset
            assert place in sent, f"a good record became a dead letter: {letter}"
            assert place not in found, f"two dead letters of {sent[place].name}"
            bad = sent[place].record
            found[place] = letter
            assert letter.rejection.code is sent[place].code, f"{sent[place].name}: {letter.rejection}"
            assert (record.key, record.value, record.timestamp) == (bad.key, bad.value, bad.timestamp_ms)
            assert list(letter.headers) == list(bad.headers)
    missing = [each.name for place, each in sent.items() if place not in found]
    assert not missing, f"{len(missing)} bad records have no dead letter: {missing[:5]}"


async def nobody_tells_what_was_planted(at: Ground) -> None:
    """I12: of bad records nothing stands in logs, in /metrics, in reasons, in heartbeats or announcements."""
    names = at.scenario.domain.topics
    texts = {path.name: path.read_text() for path in at.fleet.logs} | await at.pages()
    held: set[str] = set()
    for topic in (names.dead_events, names.dead_labels):
        letters = await at.scenario.user.read(topic)
        texts[f"the reasons in {topic}"] = "\n".join(parse(each.headers).rejection.detail for each in letters)
        copies = b"\n".join(b"%r %r %r" % (each.key, each.value, tuple(each.headers)) for each in letters).decode()
        held |= {planted(number) for number in range(len(MARKED)) if planted(number) in copies}
    for topic in (names.status, names.model_events):
        records = await at.scenario.user.read(topic)
        texts[topic] = "\n".join(repr(record.value) for record in records)
    assert len(held) == len(MARKED), f"of {len(MARKED)} planted words {len(held)} stand in the dead letters"
    told = {name: text[max(0, at_ - 200) : at_ + 60] for name, text in texts.items() if (at_ := text.find(MARK)) >= 0}
    assert not told, f"what stood in bad records is told: {told}"


def told(prediction: dict[str, Any]) -> bytes:
    """Return what a prediction says of its event, to the bit."""
    return orjson.dumps([prediction.get(name) for name in OF_PREDICTION])


def garbage_of_any_kind() -> list[Outgoing]:
    """Return the bad records, as far as a topic of the loop's own takes them."""
    small = [each.record for each in BAD if len(each.record.value or b"") < COMMAND_BYTES]
    return [each._replace(headers=(), timestamp_ms=None, key=each.key or b"k") for each in small]


async def relabelled_is_garbage(at: Ground) -> int:
    """The join passes over what no other join has sent, and goes on; return how many records that were."""
    garbage, topic = garbage_of_any_kind(), at.scenario.domain.topics.relabelled
    end = (await at.scenario.user.raw(topic, 0, *garbage))[-1] + 1
    end_s = time.monotonic() + TOLD_S
    while (done := at.topics.committed["join"].get(TopicPartition(topic, 0), 0)) < end:
        at.fleet.complain_of_the_dead()
        if time.monotonic() >= end_s:
            raise at.in_vain(f"relabelled is read to {done} of {end}")
        await asyncio.sleep(0.2)
        await at.topics.refresh_committed()
    assert set((await role_states(at)).values()) == {RoleState.RUNNING}
    return len(garbage)


async def strangers(at: Ground) -> int:
    """Write garbage and forgeries to commands, status and the index of snapshots; return how many."""
    names, garbage = at.scenario.domain.topics, garbage_of_any_kind()
    commands = [*garbage, *forgeries(at)]
    await at.scenario.user.raw(names.commands, 0, *commands)
    await at.scenario.user.raw(names.status, 0, *garbage)
    await at.scenario.user.raw(names.snapshots, 0, *garbage)
    end_s = time.monotonic() + TOLD_S

    async def refused() -> int:
        return sum(
            b"command_refused" in (each.value or b"") for each in await at.scenario.user.read(names.model_events)
        )

    while (count := await refused()) < len(commands):
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{count} of {len(commands)} bad commands are refused")
        await asyncio.sleep(0.2)
    assert count == len(commands), f"{count} refusals of {len(commands)} bad commands"
    return len(commands) + 2 * len(garbage)


def forgeries(at: Ground) -> list[Outgoing]:
    """Return requests that look genuine, signed by nobody who may ask, or damaged afterwards."""
    domain = at.scenario.domain
    stranger = SigningKey(Purpose.COMMANDS, Ed25519PrivateKey.generate())
    found: list[Outgoing] = []
    for kind in RequestKind:
        request = Request("forged", domain.name, "log", kind, domain.branch.lineage, 1, "ann", "why not", now_ms())
        payload = encode_request(request)
        genuine = Signed(payload, stranger.key_id, stranger.sign(payload))
        damaged = [
            {"signature": b""},
            {"signature": bytes(64)},
            {"key_id": ""},
            {"payload": payload[:-1]},
        ]
        values = [encode_signed(each) for each in (genuine, *(genuine._replace(**each) for each in damaged))]
        found += [Outgoing(b"forged", value) for value in (*values, values[0][:-3])]
    return found


async def nobody_noticed(at: Ground) -> None:
    """Nobody crashed or restarted, every role runs, the books balance, the snapshot is what the log comes to."""
    at.fleet.complain_of_the_dead()
    await at.quiet()
    await check_b(at.topics, at.refolder)
    ownership = OwnershipState()
    claims = sum(ownership.claim(each) for each in at.topics.training.decoded if isinstance(each, Claim))
    assert claims == 2, f"{claims} claims of a part of the log: a role began again"
    reading = Reading(at.scenario.settings, at.scenario.log, at.topics.reader)
    account = await account_of(reading, at.scenario.domain.name, at.scenario.domain.settings)
    assert account.books.holds, f"the books do not balance: {account.books}"
    states = await role_states(at)
    assert states == dict.fromkeys((Role.SCORE, Role.JOIN, Role.LEARN), RoleState.RUNNING), states


async def role_states(at: Ground) -> dict[Role, RoleState]:
    """Return the states of the roles, as the status has it."""
    reading = Reading(at.scenario.settings, at.scenario.log, at.topics.reader)
    found = await picture_of(reading, at.scenario.domain.name, at.scenario.domain.settings, now_ms())
    newest = max(found.status.members, key=lambda each: each.time_ms)
    return {each.role: each.state for each in newest.roles}


async def the_log_is_garbage(at: Ground, topic: str, role: Role) -> None:
    """Who reads what only the loop may write stays down and says so; scoring goes on, after a restart as well."""
    await at.scenario.user.raw(getattr(at.scenario.domain.topics, topic), 0, Outgoing(b"k", b"not one of ours"))
    for restarts in (False, True):
        if restarts:
            (name,) = at.fleet.running
            await at.fleet.kill(name)
            await at.fleet.start(name)
        end_s = time.monotonic() + TOLD_S
        while (await role_states(at)).get(role) is not RoleState.FAILED:
            at.fleet.complain_of_the_dead()
            if time.monotonic() >= end_s:
                raise at.in_vain(f"garbage in {topic}: {await role_states(at)}")
            await asyncio.sleep(0.2)
        since_ms = now_ms()
        names = at.scenario.domain.topics
        await at.scenario.user.raw(names.events, 0, good_event(200_000 + at.rng.randrange(50_000), JSON))
        assert await at.appended(names.predictions, since_ms - 1, TOLD_S) < TOLD_S
        at.fleet.complain_of_the_dead()


# ── F17 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

HUGE_BYTES = 20 << 20
BROKER_BYTES = 32 << 20
ROW_BYTES = LARGEST_MESSAGE_BYTES // 2
TEXTS = {"a": "number", "note": {"type": "text", "missing": "absent", "max_length": 1_000_000}}


@dataclass(frozen=True)
class Large:
    """An event or a label of some size, and its code; "" where it must be accepted.

    Attributes:
        is_copied: Whether its dead letter is the whole record.
    """

    kind: Kind
    name: str
    record: Outgoing
    code: str = ""
    is_copied: bool = True


@fault("F17", "events, labels, dead letters and rows that are too large", ci=60, full=600, limit_s=300)
async def oversized(trial: Trial) -> Result:
    """To the byte around each limit, and far beyond it; whatever comes behind it is answered and learned."""
    result = Result()
    changes: dict[str, Any] = {
        "features": TEXTS,
        "labels": {"id": "id", "time": "at", "target": "y"},
        "champion": {"model": "SelectType(float) | StandardScaler() | LogisticRegression()"},
    }
    async with loop_of(trial.folder, trial.seed, **changes) as at:
        await raise_limits(at)
        sent: dict[tuple[Kind, int], Large] = {}
        good: list[str] = []
        while result.times < trial.times:
            for large in larges(at, len(sent)):
                sent[large.kind, (await send(at, large.kind, [large.record]))[0]] = large
                behind = f"behind-{len(sent)}"
                good.append(behind)
                await send(at, "events", [plain("events", behind)])
                await send(at, "labels", [plain("labels", behind)])
                result.times += 1
            await at.quiet()
        good += [each.name for each in sent.values() if each.kind == "events" and not each.code]
        await letters_hold_what_fits(at, sent)
        answered = [each["event_id"] for each in await at.scenario.user.predictions()]
        assert sorted(answered) == sorted(good), "what came behind is not answered, or not once"
        joined = {each.id for each in outcomes_of(at.topics.blocks()) if each.kind == "joined"}
        assert joined == set(good), f"not learned: {sorted(set(good) - joined)[:5]}"
        await nobody_noticed(at)
        cut = sum(not each.is_copied for each in sent.values())
        rows = sum(each.code == "row_too_large" for each in sent.values())
        result.events = len(good)
        result.notes.append(f"{cut} dead letters cut and told by SHA-256, {rows} rows too large for the log")
    return result


async def raise_limits(at: Ground) -> None:
    """Let the inputs take far larger records than the loop does."""
    names, admin = at.scenario.domain.topics, at.scenario.log.admin()
    for topic in (names.events, names.labels):
        await admin.alter(topic, {"max.message.bytes": str(BROKER_BYTES)})
    await admin.close()


def larges(at: Ground, number: int) -> Iterator[Large]:
    """Yield events and labels around each limit."""
    for kind in KINDS:
        for size, code in ((MAX_VALUE_BYTES - 1, ""), (MAX_VALUE_BYTES, ""), (MAX_VALUE_BYTES + 1, "too_large")):
            if kind == "events" or code:
                name = f"{kind}-{size}-{number}"
                yield Large(kind, name, plain(kind, name, size), code)
                if not code:
                    yield Large("labels", name, plain("labels", name, size))
        for size in (DEAD_LETTER_BYTES, HUGE_BYTES + at.rng.randrange(1_000)):
            yield Large(kind, "huge", plain(kind, "huge", size), "too_large", is_copied=False)
    # A row is the text and a few bytes more; a text of fewer bytes than this fits whatever they are.
    for text, code in ((ROW_BYTES - 1_000, ""), (ROW_BYTES, "row_too_large"), (700_000, "row_too_large")):
        name = f"text-{text}-{number}"
        yield Large("events", name, plain("events", name, note="n" * text), code)
        if not code:
            yield Large("labels", name, plain("labels", name))
    key = plain("events", "key")._replace(key=b"k" * (ROW_BYTES + 1))
    yield Large("events", "key", key, "row_too_large")


def plain(kind: Kind, name: str, size: int = 0, **more: str) -> Outgoing:
    """Return an event or a label, its value made as large as asked for."""
    fields = {"id": name, "at": TIMESTAMP_MS} | ({"a": len(name)} if kind == "events" else {"y": True}) | more
    value = orjson.dumps(fields)
    if size:
        value = orjson.dumps(fields | {"extra": ""})
        value = orjson.dumps(fields | {"extra": "x" * (size - len(value))})
        assert len(value) == size
    return Outgoing(name.encode(), value, (), TIMESTAMP_MS)


async def letters_hold_what_fits(at: Ground, sent: dict[tuple[Kind, int], Large]) -> None:
    """Each large record has its one dead letter: whole, or the beginning with size and SHA-256 of all of it."""
    names = at.scenario.domain.topics
    found: set[tuple[Kind, int]] = set()
    for kind, topic in zip(KINDS, (names.dead_events, names.dead_labels), strict=True):
        for record in await at.scenario.user.read(topic):
            letter = parse(record.headers)
            place, large = (kind, letter.offset), sent[kind, letter.offset]
            assert place not in found, f"two dead letters of {large.name}"
            found.add(place)
            assert letter.rejection.code.value == large.code, f"{large.name}: {letter.rejection}"
            assert letter.is_whole is large.is_copied, f"{large.name} of {len(large.record.value or b'')} bytes"
            value, headers = large.record.value or b"", dict(record.headers)
            if large.is_copied:
                assert (record.key, record.value) == (large.record.key, value)
            else:
                assert record.value == value[:COPY_BYTES]
                assert headers[SIZE] == str(len(value)).encode()
                assert headers[SHA256] == sha256(value).hexdigest().encode()
    assert found == {place for place, each in sent.items() if each.code}

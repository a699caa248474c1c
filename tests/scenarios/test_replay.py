"""Dead letters sent back on both forms of the log: once each, byte for byte, counted, and the books balance."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from tests.log_forms import LogForm
from tests.scenarios.harness import Scenario, now_ms, pairs, running, until

from tailrace.domain.errors import LogError
from tailrace.domain.records import Code
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.inspection.replay import Choice, Plan, discard, group_of, plan, progress_of, replay
from tailrace.streams.log import Commit, Outgoing, Record, TopicPartition
from tailrace.wire.dead_letter import ATTEMPT, parse
from tailrace.wire.letter_progress import MAX_TEXT_CHARS, LetterProgress

FAST = 1e6
BAD = 4
"""Of each kind: events without the feature b, and values that are no JSON."""


@pytest.fixture
async def scenario(log_form: LogForm, tmp_path) -> AsyncIterator[Scenario]:
    made = await Scenario.make(log_form, tmp_path)
    yield made
    await made.close()


def bad_records() -> list[Outgoing]:
    key, headers, at_ms = b"k", (("traceparent", b"00-a"), ("x", b"")), now_ms()
    missing = [orjson.dumps({"id": f"m{number}", "at": at_ms, "a": 1.0}) for number in range(BAD)]
    return [
        Outgoing(key, value, headers, at_ms) for pair in zip(missing, [b"no JSON"] * BAD, strict=True) for value in pair
    ]


async def letters(scenario: Scenario) -> list[Record]:
    return await scenario.user.read(scenario.domain.topics.dead_events)


async def dead(scenario: Scenario, count: int) -> list[Record]:
    async def are_there() -> bool:
        return len(await letters(scenario)) >= count

    await until(are_there, f"{count} dead letters are there")
    return await letters(scenario)


async def after_bad_events(scenario: Scenario) -> list[Outgoing]:
    """Run the loop on bad and good events, and stop it; return the bad ones."""
    process = await scenario.start()
    events, labels = pairs(20, now_ms() - 1_000)
    sent = bad_records()
    await scenario.user.events(*events)
    await scenario.user.raw(scenario.domain.topics.events, 1, *sent)
    await scenario.user.labels(*labels)
    await dead(scenario, len(sent))
    await until(lambda: scenario.learned(process) == len(events), "the good ones are learned")
    await scenario.stop(process)
    return sent


async def planned(scenario: Scenario, reading: Reading, **choice) -> Plan:
    topics = [scenario.domain.topics.dead_events, scenario.domain.topics.dead_labels]
    return await plan(reading, scenario.domain.name, topics, Choice(**{"limit": 100, "attempts": 3} | choice))


async def looking(scenario: Scenario) -> AsyncIterator[Reading]:
    async with running(scenario.log.reader()) as reader:
        reading = Reading(scenario.settings, scenario.log, reader)
        yield reading
        await reading.let_go()


async def test_letters_go_back_once_as_they_were_and_the_books_balance(scenario: Scenario):
    """Without the committed position a second replay would send everything again."""
    sent = await after_bad_events(scenario)
    topic = scenario.domain.topics.events
    before = len(await scenario.user.read(topic))

    async for reading in looking(scenario):
        assert len(sent) == await replay(reading, await planned(scenario, reading), FAST)
        assert 0 == await replay(reading, await planned(scenario, reading), FAST)

    back = (await scenario.user.read(topic))[-len(sent) :]
    assert before + len(sent) == len(await scenario.user.read(topic))
    for record, original in zip(back, sent, strict=True):
        assert (1, original.key, original.value) == (record.partition, record.key, record.value)
        assert (original.timestamp_ms, [*original.headers, (ATTEMPT, b"1")]) == (record.timestamp, list(record.headers))

    await scenario.start()
    again = [parse(each.headers) for each in await dead(scenario, 2 * len(sent))]
    assert [0] * len(sent) + [1] * len(sent) == sorted(each.attempt for each in again)

    async def are_all_in_the_books() -> bool:
        async for reading in looking(scenario):
            books = (await account_of(reading, scenario.domain.name, scenario.domain.settings)).books
        lines = {balance.line: balance for balance in books.balances}
        assert books.holds, [str(balance) for balance in books.balances]
        return lines["events"].parts["rejected"] == 2 * len(sent)

    await until(are_all_in_the_books, "what came back is in the books")


async def test_a_record_that_fails_again_and_again_stays_after_the_last_attempt(scenario: Scenario):
    """Without the cap a replay in a loop would go round for ever."""
    sent = await after_bad_events(scenario)
    process = await scenario.start()

    async for reading in looking(scenario):
        for attempt in (1, 2):
            assert len(sent) == await replay(reading, await planned(scenario, reading, attempts=2), FAST)
            await dead(scenario, (attempt + 1) * len(sent))
        stuck = await planned(scenario, reading, attempts=2)
        assert 0 == await replay(reading, stuck, FAST)
        assert {"it was sent back 2 times; allowed are 2, see --attempts"} == {each.why_not for each in stuck.chosen}
        assert len(sent) == len(stuck.chosen)
    await scenario.stop(process)


async def test_letters_are_chosen_by_code_age_and_number_and_the_others_wait(scenario: Scenario):
    sent = await after_bad_events(scenario)

    async for reading in looking(scenario):
        assert 1 == await replay(reading, await planned(scenario, reading, code=Code.NOT_JSON, limit=1), FAST)
        rest = await planned(scenario, reading, code=Code.NOT_JSON, limit=1)
        assert rest.more
        assert BAD - 1 == await replay(reading, await planned(scenario, reading, code=Code.NOT_JSON), FAST)
        assert [] == (await planned(scenario, reading, since_ms=now_ms() + 60_000)).chosen
        waiting = (await planned(scenario, reading)).chosen
        assert {Code.FEATURE_MISSING} == {each.found.letter.rejection.code for each in waiting if each.found.letter}
        assert len(sent) - BAD == len(waiting)


async def test_what_was_given_up_is_never_sent_and_leaves_no_gaps(scenario: Scenario):
    sent = await after_bad_events(scenario)
    topic = scenario.domain.topics.events
    before = len(await scenario.user.read(topic))

    async for reading in looking(scenario):
        given_up = await planned(scenario, reading, code=Code.NOT_JSON, attempts=None)
        assert BAD == await discard(reading, given_up)
        assert len(sent) - BAD == await replay(reading, await planned(scenario, reading), FAST)
        progress = await progress_of(reading, scenario.domain.name)

    assert before + len(sent) - BAD == len(await scenario.user.read(topic))
    assert [""] * len(progress) == [each.text for each in progress.values()]
    assert len(sent) == sum(each.position for each in progress.values())


async def test_two_that_replay_at_once_do_not_both_send(scenario: Scenario):
    """Without the second look at the position both would send every letter."""
    await after_bad_events(scenario)

    async for reading in looking(scenario):
        mine, theirs = await planned(scenario, reading), await planned(scenario, reading)
        await replay(reading, theirs, FAST)
        with pytest.raises(LogError, match="another replay or discard is at work"):
            await replay(reading, mine, FAST)


async def test_nothing_is_sent_that_cannot_be_noted_as_sent(scenario: Scenario):
    """
    Every second letter is meant, so each is a stretch of its own in a text that is bounded. Defence: what the whole
    portion comes to is looked at before it is sent; else it would be sent again at every try.
    """
    await after_bad_events(scenario)
    topics, name = scenario.domain.topics, scenario.domain.name
    two = (await letters(scenario))[:2]
    for letter in two * 20:
        await scenario.user.raw(
            topics.dead_events, letter.partition, Outgoing(letter.key, letter.value, letter.headers)
        )
    place = TopicPartition(topics.dead_events, two[0].partition)
    nearly_full = LetterProgress(0, tuple((at, at + 1) for at in range(10_000, 11_970, 2)))
    before = len(await scenario.user.read(topics.events))

    async for reading in looking(scenario):
        await reading.admin.commit(group_of(name), {place: Commit(0, nearly_full.text)})
        with pytest.raises(LogError, match="cannot name more single letters"):
            await replay(reading, await planned(scenario, reading, code=Code.NOT_JSON), FAST)
        with pytest.raises(LogError, match="cannot name more single letters"):
            await discard(reading, await planned(scenario, reading, code=Code.NOT_JSON))
        assert nearly_full == (await progress_of(reading, name))[place]

    assert MAX_TEXT_CHARS - 80 < len(nearly_full.text) < MAX_TEXT_CHARS - 40
    assert before == len(await scenario.user.read(topics.events))


async def test_what_cannot_go_back_says_why(scenario: Scenario):
    """A letter without its record, of another topic or of another loop is never sent anywhere."""
    await after_bad_events(scenario)
    topics = scenario.domain.topics
    (letter, *_) = await letters(scenario)
    bare = [(name, value) for name, value in letter.headers if name != "traceparent"]
    elsewhere = [(name, b"other" if name.endswith("errors.topic") else value) for name, value in letter.headers]
    past = [(name, b"77" if name.endswith("errors.partition") else value) for name, value in letter.headers]
    foreign = [(name, b"tailrace.x" if name.endswith("connector.name") else value) for name, value in letter.headers]
    for headers in ([*bare, ("tailrace.dlq.left_out", b"too large")], elsewhere, past, foreign, []):
        await scenario.user.raw(topics.dead_events, 0, Outgoing(b"k", b"v", headers))

    async for reading in looking(scenario):
        chosen = (await planned(scenario, reading)).chosen

    reasons = [each.why_not for each in chosen if each.why_not]
    assert 3 == len(reasons)
    assert "too large" in reasons[0]
    assert "its headers name the topic other" in reasons[1]
    assert "has no partition 77 any more" in reasons[2]

"""What goes wrong inside: models that raise, records that are not ours, logs that were cut, keys that are too large."""

import asyncio
import gc
import sqlite3
import time
import weakref
from dataclasses import replace
from hashlib import sha256

import pytest
from river.naive_bayes import GaussianNB
from tests.scenarios.harness import now_ms, pairs, until

from tailrace.domain.positions import parse
from tailrace.domain.records import Code
from tailrace.domain.snapshots import index_key
from tailrace.domain.status import Role, RoleState
from tailrace.streams.followers import Models
from tailrace.streams.log import Outgoing
from tailrace.wire import dead_letter

TREE = {"champion": {"model": "HoeffdingTreeClassifier(grace_period=10)"}}


async def learn(scenario, process, count, first=0):
    """Send events and labels, and wait until all of them are learned."""
    before = scenario.learned(process)
    events, labels = pairs(count, now_ms(), first=first)
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == before + count, f"{count} more are learned")


async def test_an_example_at_which_the_model_raises_is_skipped_and_everything_else_learned(made):
    """A tree that has seen numbers around 1 overflows at 1e308; one that has seen nothing answers it."""
    scenario = await made(**TREE)
    process = await scenario.start()
    huge = {"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308}
    await scenario.user.events(huge)
    await learn(scenario, process, 60)

    await scenario.user.labels({"id": "huge", "at": now_ms(), "y": True})
    loop = scenario.loop_of(process)
    await until(lambda: loop.models.live is not None and loop.models.live.champion.skipped == 1, "it is skipped")
    await learn(scenario, process, 20, first=100)

    assert 80 == scenario.learned(process)
    assert RoleState.RUNNING is loop.reports[Role.LEARN].state


async def test_a_restore_from_further_back_knows_the_skips_that_lie_there(made):
    """
    A learner that began at a snapshot has read what the log says behind it. When that snapshot cannot be used any more
    it begins earlier; without reading again it would meet every old skip anew, and give up at the fourth.
    """
    scenario = await made(**TREE, snapshots={"every": "1h", "publish": "1h"})
    process = await scenario.start()
    await scenario.user.events(*({"id": f"huge{n}", "at": now_ms(), "a": 1e308, "b": -1e308} for n in range(4)))
    await learn(scenario, process, 60)

    async def skip(number):
        await scenario.user.labels({"id": f"huge{number}", "at": now_ms(), "y": True})
        loop = scenario.loop_of(process)
        await until(lambda: loop.models.live is not None and loop.models.live.champion.skipped == number + 1, "skipped")

    await scenario.stop(process)
    process = await scenario.start()
    for number in range(3):
        await skip(number)
    await scenario.stop(process)
    process = await scenario.start()
    index = scenario.loop_of(process).learn._parts.index
    (newest, _) = index.newest()
    written = await scenario.user.read(scenario.domain.topics.snapshots)
    (record,) = [record for record in written if record.key == index_key(newest).encode()][-1:]
    index.note(record._replace(value=None))
    await skip(3)

    await learn(scenario, process, 10, first=100)
    live = scenario.loop_of(process).models.live
    assert 4 == len(live.skipped_positions), "none was skipped twice"


async def test_an_event_at_which_the_model_raises_is_a_dead_letter_and_its_neighbours_are_answered(made):
    scenario = await made(**TREE)
    process = await scenario.start()
    await learn(scenario, process, 60)
    before, behind = pairs(2, now_ms(), first=700)[0]

    await scenario.user.events(before, {"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308}, behind)

    async def answered():
        return {"e700", "e701"} <= {each["event_id"] for each in await scenario.user.predictions()}

    await until(answered, "the neighbours are answered")
    (letter,) = await scenario.user.read(scenario.domain.topics.dead_events)
    assert Code.MODEL_FAILED is dead_letter.parse(letter.headers).rejection.code


ENDS_TASKS = 5.0
"""No feature of the other events is as large."""
BAYES = {"champion": {"model": "GaussianNB()"}}
"""Its methods are called one by one, without a shortcut."""


@pytest.fixture
def cancelling(monkeypatch):
    """Have a method of the model raise CancelledError, which looks like the end of whoever asked it."""

    def cancel(method):
        genuine = getattr(GaussianNB, method)

        def raising(self, x, *more):
            found = genuine(self, x, *more)
            if x["a"] > ENDS_TASKS:
                raise asyncio.CancelledError
            return found

        monkeypatch.setattr(GaussianNB, method, raising)

    return cancel


async def test_a_model_that_cancels_when_it_learns_is_skipped_and_learning_goes_on(made, cancelling):
    scenario = await made(**BAYES)
    process = await scenario.start()
    await learn(scenario, process, 60)
    cancelling("learn_one")
    far = {"id": "far", "at": now_ms(), "a": 1e9, "b": 0.0}

    await scenario.user.events(far)
    await scenario.user.labels({"id": "far", "at": now_ms(), "y": True})

    loop = scenario.loop_of(process)
    await until(lambda: loop.models.live is not None and loop.models.live.champion.skipped == 1, "it is skipped")
    await learn(scenario, process, 20, first=100)
    assert RoleState.RUNNING is loop.reports[Role.LEARN].state


async def test_an_event_at_which_a_model_cancels_is_a_dead_letter_and_answering_goes_on(made, cancelling):
    scenario = await made(**BAYES)
    process = await scenario.start()
    await learn(scenario, process, 60)
    cancelling("predict_proba_one")

    await scenario.user.events({"id": "far", "at": now_ms(), "a": 1e9, "b": 0.0}, *pairs(1, now_ms(), first=700)[0])

    async def answered():
        return "e700" in {each["event_id"] for each in await scenario.user.predictions()}

    await until(answered, "the next one is answered")
    (letter,) = await scenario.user.read(scenario.domain.topics.dead_events)
    assert Code.MODEL_FAILED is dead_letter.parse(letter.headers).rejection.code
    assert RoleState.RUNNING is scenario.loop_of(process).reports[Role.SCORE].state


async def test_a_bad_event_that_no_dead_letter_can_hold_whole_is_kept_as_its_beginning_and_digest(made):
    scenario = await made()
    process = await scenario.start()
    admin = scenario.log.admin()
    await admin.alter(scenario.domain.topics.events, {"max.message.bytes": str(8 << 20)})
    await admin.close()
    value = b"{" + b"x" * (4 << 20)

    await scenario.user.raw(scenario.domain.topics.events, 0, Outgoing(None, value))
    await scenario.user.events(*pairs(1, now_ms())[0])

    async def answered():
        return bool(await scenario.user.predictions())

    await until(answered, "the next one is answered")
    (record,) = await scenario.user.read(scenario.domain.topics.dead_events)
    letter = dead_letter.parse(record.headers)
    assert not letter.is_whole
    assert value[: dead_letter.COPY_BYTES] == record.value
    headers = dict(record.headers)
    assert sha256(value).hexdigest().encode() == headers[dead_letter.SHA256]
    assert str(len(value)).encode() == headers[dead_letter.SIZE]
    assert RoleState.RUNNING is scenario.loop_of(process).reports[Role.SCORE].state


async def test_a_learner_that_leaves_goes_on_serving_what_it_had_learned(made):
    scenario = await made(snapshots={"every": "1h", "publish": "1h"})
    process = await scenario.start()
    await learn(scenario, process, 50)
    loop = scenario.loop_of(process)
    position = loop.models.live.position

    await loop.learn.on_revoked(loop.learn.source.assigned)

    assert loop.models.live is None
    assert position == loop.models.current().position


async def test_a_key_that_no_prediction_can_carry_is_a_dead_letter_and_stops_nobody(made):
    scenario = await made()
    process = await scenario.start()
    events, _ = pairs(1, now_ms())
    value = b'{"id": "large", "at": %d, "a": 0.5, "b": 0.5}' % now_ms()

    await scenario.user.raw(scenario.domain.topics.events, 0, Outgoing(b"k" * 700_000, value))
    await scenario.user.events(*events)

    async def answered():
        return "e0" in {each["event_id"] for each in await scenario.user.predictions()}

    await until(answered, "the event behind it is answered")
    (letter,) = await scenario.user.read(scenario.domain.topics.dead_events)
    assert Code.ROW_TOO_LARGE is dead_letter.parse(letter.headers).rejection.code
    assert RoleState.RUNNING is scenario.loop_of(process).reports[Role.SCORE].state


async def test_a_foreign_record_in_scored_stops_the_join_and_not_the_scoring(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 5)

    await scenario.user.raw(scenario.domain.topics.scored, 0, Outgoing(None, b"not one of ours"))
    report = scenario.loop_of(process).reports[Role.JOIN]
    await until(lambda: report.state is RoleState.FAILED, "the join stays down and says so")
    await scenario.user.events(*pairs(1, now_ms(), first=900)[0])

    async def answered():
        return "e900" in {each["event_id"] for each in await scenario.user.predictions()}

    await until(answered, "events are still answered")


async def test_a_log_that_lost_its_beginning_is_claimed_from_the_owner_that_it_still_names(made):
    scenario = await made(snapshots={"every": "200ms", "publish": "200ms"})
    for first in (0, 100):
        process = await scenario.start()
        await learn(scenario, process, 100, first=first)
        await scenario.stop(process)
    held = scenario.form.folder / "log.sqlite3"
    with sqlite3.connect(held) as log:
        (topic,) = log.execute("select id from topics where name = ?", (scenario.domain.topics.training,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset < 4")
        log.execute("delete from offsets where name like '%join'")
    log.close()

    process = await scenario.start()
    await learn(scenario, process, 100, first=300)

    assert 300 == scenario.loop_of(process).models.live.champion.learned
    assert 0 == scenario.loop_of(process).models.live.counts.fenced_rows


async def test_a_slow_store_costs_snapshots_and_never_learning(made, monkeypatch):
    scenario = await made(snapshots={"every": "50ms", "publish": "50ms"})
    process = await scenario.start()
    writer = scenario.loop_of(process).learn._parts.writer
    packed = writer._packed

    def slow(*arguments):
        time.sleep(0.5)
        return packed(*arguments)

    monkeypatch.setattr(writer, "_packed", slow)
    for first in range(0, 400, 20):
        events, labels = pairs(20, now_ms(), first=first)
        await scenario.user.events(*events)
        await scenario.user.labels(*labels)
        await asyncio.sleep(0.02)

    await until(lambda: scenario.learned(process) == 400, "everything is learned", 20.0)


async def test_predictions_never_go_back_over_a_restart(made):
    scenario = await made(snapshots={"every": "1h", "publish": "1h"})
    first = await scenario.start()
    await learn(scenario, first, 30)
    position = scenario.loop_of(first).models.live.position
    await scenario.stop(first)

    await scenario.start()
    await scenario.user.events(*pairs(1, now_ms(), first=500)[0])

    async def answers():
        return [each for each in await scenario.user.predictions() if each["event_id"] == "e500"]

    await until(answers, "the new process answers")
    assert parse((await answers())[0]["position"]) >= position


async def test_a_scorer_without_a_model_lets_go_of_what_it_holds_at_once(made_on_both):
    """Otherwise each rebalance of the group takes as long as it may, while one member still loads its model."""
    scenario = await made_on_both()
    process = await scenario.start()
    loop = scenario.loop_of(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Models, "current", lambda _: None)
        await scenario.user.events(*pairs(10, now_ms())[0])
        await until(lambda: any(loop.score.source.in_flight.values()), "a batch waits for a model")
        begun_s = asyncio.get_running_loop().time()
        await loop.score.source.stop()
        took_s = asyncio.get_running_loop().time() - begun_s
        await scenario.stop(process)
    await scenario.start()

    async def all_answered():
        return len({prediction["event_id"] for prediction in await scenario.user.predictions()}) == 10

    await until(all_answered, "the next process answers")
    assert took_s < 3.0


async def run_out_of_time(source):
    """Give partitions up as a rebalance does, with hardly any time for it."""
    source.spec = replace(source.spec, revoke_timeout_s=0.2)
    await source._release()


async def hang(*_):
    await asyncio.sleep(3_600.0)


async def gone(kept):
    """Wait until nothing holds it any more."""
    await until(lambda: gc.collect() >= 0 and kept() is None, "nothing is kept")


async def test_a_learner_that_runs_out_of_time_when_it_gives_the_log_up_keeps_nothing_of_what_it_folded(made):
    """Each rebalance that comes while the store hangs would leave a whole state behind in memory."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 30)
    agent = scenario.loop_of(process).learn
    term = agent._term
    kept, folded = weakref.ref(term), weakref.ref(term.folded.quality)

    agent._parts.writer.drain = hang
    await run_out_of_time(agent.source)
    del agent._parts.writer.drain

    await gone(folded)
    del term
    await gone(kept)
    await until(lambda: scenario.learned(process) == 30, "it learns again")
    assert [agent._term] == agent._children
    assert [agent._term.beacon] == agent.beacon.children


async def test_a_join_that_runs_out_of_time_when_it_gives_its_partition_up_is_not_kept(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 30)
    agent = scenario.loop_of(process).join
    (join,) = agent.joins
    kept = weakref.ref(join)

    join._finish = hang
    del join
    await run_out_of_time(agent.source)

    await gone(kept)
    await until(lambda: agent.joins and agent.joins[0].is_ready, "it joins again")
    assert agent.joins == agent._children
    await learn(scenario, process, 10, first=100)

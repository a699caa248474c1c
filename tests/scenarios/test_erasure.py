"""Erasure: after `repair` and `log rewrite` nothing of the named events is left in the training log and the store."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest
from tests.scenarios.commanding import accepted, bytes_of, examples, learn, tailrace
from tests.scenarios.harness import now_ms, pairs, until
from tests.scenarios.test_repair import champion_of, correct, scenario_of
from tests.scenarios.test_store_outages import in_a_bucket
from tests.stores.s3_server import s3_server

from tailrace.domain.blocks import ERASED, TrainingBlock
from tailrace.domain.errors import StoreUnavailable
from tailrace.inspection import erasing
from tailrace.stores.object_store import ObjectStore
from tailrace.streams.log import Outgoing

GONE = ("e3", "e5", "e107")


async def repaired(made, tmp_path, **changes):
    """A loop that has learned of everybody, forgotten some in its model, and stopped."""
    scenario = await scenario_of(made, **changes)
    process = await scenario.start()
    await learn(scenario, process, 40)
    await scenario.user.labels(*pairs(10, now_ms())[1])  # again, which is a duplicate, also of events that go
    await learn(scenario, process, 20, first=100)
    (tmp_path / "ids").write_text("\n".join(GONE))
    ran = await tailrace(scenario, "repair", "--drop-ids", str(tmp_path / "ids"), "--why", "they asked for it")
    assert 0 == ran.code, ran.err

    def serves():
        live = scenario.loop_of(process).models.live
        return live is not None and live.champion is not None and live.champion.left_out == len(GONE)

    await until(serves, "the repaired branch serves")
    model = bytes_of(scenario, scenario.loop_of(process).models.live.champion.model)
    return scenario, process, model


async def everything_in(scenario, topic):
    return b"".join((record.value or b"") + (record.key or b"") for record in await scenario.user.read(topic))


async def test_nothing_of_the_named_events_is_left_and_the_model_is_the_same(made_on_both, tmp_path):
    """
    The loop goes on with the new log: it learns, its books balance, its snapshots verify. Without the step that
    forgets snapshots the learner would refuse to start: they are of another log.
    """
    scenario, process, model = await repaired(made_on_both, tmp_path)
    topics = scenario.domain.topics
    alive = await tailrace(scenario, "log", "rewrite", "--yes")
    assert (5, True) == (alive.code, "still runs this loop" in alive.err)
    await scenario.stop(process)
    tried = await tailrace(scenario, "log", "rewrite")
    assert (0, False, 3) == (tried.code, tried.line["done"], tried.line["rows_erased"]), tried.err
    assert b"e107" in await everything_in(scenario, topics.training)
    why = await tailrace(scenario, "why", "e107")
    assert "without named events before" in why.line["now"]["filter"], "its example stands in the log, and is left out"

    ran = await tailrace(scenario, "log", "rewrite", "--yes")

    assert (0, True, 3) == (ran.code, ran.line["done"], ran.line["rows_erased"]), ran.err
    assert {topics.events, topics.labels, topics.predictions, topics.scored} <= ran.line["still_held_by"].keys()
    ids = [event_id for _, block in await accepted(scenario) for event_id in block.examples.ids]
    kinds = [kind for _, block in await accepted(scenario) for kind in block.examples.kinds.tolist()]
    assert (3, 60) == (kinds.count(ERASED), len(ids))
    assert not set(GONE) & set(ids)
    assert b"e107" not in await everything_in(scenario, topics.training)
    again = await tailrace(scenario, "log", "rewrite", "--yes")
    assert (5, True) == (again.code, "leaves nothing out" in again.err)

    process = await scenario.start()
    live = scenario.loop_of(process).models.live
    assert model == bytes_of(scenario, live.champion.model)
    assert (57, 3) == (live.champion.learned, live.champion.left_out)
    await learn(scenario, process, 10, first=200)
    assert 70 == examples(scenario, process)
    await scenario.stop(process)
    for command in (("verify",), ("books",), ("snapshots", "verify")):
        done = await tailrace(scenario, *command)
        assert 0 == done.code, (command, done.out, done.err)


@pytest.mark.parametrize("step", ["_copy", "_forget_snapshots"])
async def test_what_was_interrupted_goes_on_with_the_same_command(made_on_both, tmp_path, monkeypatch, step):
    """
    Killed after the training topic was deleted, or before the snapshots were forgotten: the copy is complete by then
    and nothing is lost. No worker starts meanwhile.
    """
    scenario, process, model = await repaired(made_on_both, tmp_path)
    await scenario.stop(process)

    async def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasing.Eraser, step, killed)
        assert 130 == (await tailrace(scenario, "log", "rewrite", "--yes")).code
    admin = scenario.log.admin()
    assert await erasing.is_under_way(admin, scenario.domain.topics)
    await admin.close()
    starting = asyncio.create_task(scenario.start())
    await until(lambda: scenario.processes and "written anew" in str(scenario.processes[0].readiness()), "it waits")

    ran = await tailrace(scenario, "log", "rewrite", "--yes")

    assert 0 == ran.code, ran.err
    assert "going on with what was interrupted" in ran.err
    process = await starting
    assert model == bytes_of(scenario, scenario.loop_of(process).models.live.champion.model)


async def test_snapshots_in_a_bucket_are_deleted_and_what_others_keep_there_stays(made, tmp_path, monkeypatch):
    """
    Calls of an object store run an event loop of their own, so none may be made on the command's. A store that fails
    when the topic was made anew already is asked again by the same command.
    """
    with s3_server() as server:
        scenario, process, model = await repaired(made, tmp_path, snapshots=in_a_bucket(server.endpoint))
        await scenario.stop(process)
        bucket, name = server.store("loops"), scenario.domain.name
        foreign = [
            f"{name}/notes.txt",
            f"{name}/backup/snapshot-00000001.tailrace",
            "other/0123456789abcdef/x.tailrace",
        ]
        for path in foreign:
            await asyncio.to_thread(bucket.put, path, b"of somebody else")
        before = await asyncio.to_thread(bucket.paths)

        def refused(_store, path):
            raise StoreUnavailable(f"{path} cannot be deleted now")

        with monkeypatch.context() as patch:
            patch.setattr(ObjectStore, "delete", refused)
            failed = await tailrace(scenario, "log", "rewrite", "--yes")
        done = await tailrace(scenario, "log", "rewrite", "--yes")

        assert (4, True) == (failed.code, "cannot be deleted now" in failed.err)
        assert 0 == done.code, done.err
        assert "going on with what was interrupted" in done.err
        assert len(before) > len(foreign)
        assert sorted(foreign) == await asyncio.to_thread(bucket.paths)
        process = await scenario.start()
        assert model == bytes_of(scenario, scenario.loop_of(process).models.live.champion.model)
        await scenario.stop(process)


async def test_damaged_records_of_other_topics_are_counted_when_the_erasure_is_done(made, tmp_path):
    """Defence: the list of what still holds the events comes last; nothing that it finds may make the command fail."""
    scenario, process, _ = await repaired(made, tmp_path)
    await scenario.stop(process)
    topics = scenario.domain.topics
    for topic in (topics.relabelled, topics.predictions):
        await scenario.user.raw(topic, 0, Outgoing(None, b"damaged"))
    with sqlite3.connect(scenario.form.folder / "log.sqlite3") as log:
        (number,) = log.execute("select id from topics where name = ?", (topics.scored,)).fetchone()
        log.execute(f"update r{number}_0 set value = 'damaged' where offset = 0")  # joined long ago
    log.close()
    admin = scenario.log.admin()
    await admin.delete(topics.dead_labels)
    await admin.close()

    ran = await tailrace(scenario, "log", "rewrite", "--yes")

    assert (0, True) == (ran.code, ran.line["done"]), ran.err
    held = ran.line["still_held_by"]
    assert {topics.scored, topics.relabelled, topics.predictions} <= held.keys()
    assert all(
        " and 1 that cannot be read and may hold them, kept " in held[topic]
        for topic in (topics.scored, topics.relabelled, topics.predictions)
    )
    assert "cannot be read" not in held[topics.events]


async def test_a_copy_that_comes_to_another_model_changes_nothing(made, tmp_path, monkeypatch):
    """
    Without the fold of the copy a fault of the rewriting would replace the only log there is.
    """
    scenario, process, model = await repaired(made, tmp_path)
    await scenario.stop(process)
    before = await everything_in(scenario, scenario.domain.topics.training)
    rewrite = erasing.Erasure.rewrite

    def faulty(erasure, offset, record):
        found = rewrite(erasure, offset, record)
        if isinstance(found, TrainingBlock) and len(found.examples):
            return replace(found, examples=replace(found.examples, y=1.0 - found.examples.y))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(erasing.Erasure, "rewrite", faulty)
        ran = await tailrace(scenario, "log", "rewrite", "--yes")

    assert (5, True) == (ran.code, "does not come to the model that serves" in ran.err)
    assert before == await everything_in(scenario, scenario.domain.topics.training)
    process = await scenario.start()
    assert model == bytes_of(scenario, scenario.loop_of(process).models.live.champion.model)


async def test_what_was_corrected_stays_corrected_in_the_new_log(made, tmp_path):
    """The filter of the survivor speaks of corrections that stand behind the first record that admits a branch."""
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 40)
    await correct(scenario, process, 10)
    assert 0 == (await tailrace(scenario, "repair", "--apply-corrections")).code
    (tmp_path / "ids").write_text("e3\ne12\n")
    ran = await tailrace(scenario, "repair", "--drop-ids", str(tmp_path / "ids"))
    assert 0 == ran.code, ran.err
    before = await champion_of(scenario, process, ran.line["branch"])
    model, learned = bytes_of(scenario, before.model), before.learned
    await scenario.stop(process)

    done = await tailrace(scenario, "log", "rewrite", "--yes")

    assert (0, 3) == (done.code, done.line["rows_erased"]), done.err
    process = await scenario.start()
    live = scenario.loop_of(process).models.live
    assert (model, learned) == (bytes_of(scenario, live.champion.model), live.champion.learned)
    await learn(scenario, process, 10, first=200)
    assert learned + 10 == live.champion.learned
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_an_event_that_a_joiner_would_read_again_is_not_erased_yet(made, tmp_path):
    """Without the refusal the joiner would take it for one that waits, and write it into the log again."""
    scenario = await scenario_of(made)
    process = await scenario.start()
    waiting, _ = pairs(2, now_ms(), first=900)
    await scenario.user.events(*waiting)  # one a partition; their labels never come
    await learn(scenario, process, 20)
    (tmp_path / "ids").write_text("e3")
    assert 0 == (await tailrace(scenario, "repair", "--drop-ids", str(tmp_path / "ids"))).code
    await scenario.stop(process)

    ran = await tailrace(scenario, "log", "rewrite")

    assert (5, True) == (ran.code, "a joiner would read it again" in ran.err)


async def test_a_loop_whose_branch_leaves_nothing_out_has_nothing_to_erase(made):
    scenario = await scenario_of(made)
    process = await scenario.start()
    await learn(scenario, process, 5)
    await scenario.stop(process)

    ran = await tailrace(scenario, "log", "rewrite")

    assert (5, True) == (ran.code, "leaves nothing out" in ran.err)

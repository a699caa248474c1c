"""Waiting records on disk: what a restart reads again, and what happens when the disk cannot be used."""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest
from structlog.testing import capture_logs
from tests.scenarios.harness import example_of, fill_disk, is_ready, now_ms, pairs, small_disk, until

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.status import Role, RoleState
from tailrace.main import Process
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_room import HEAVY
from tailrace.wire.avro_codec import decode_scored, decode_training


def joined(scenario, process):
    return scenario.loop_of(process).join.joins[0]


def recoveries(logs):
    return [entry for entry in logs if entry["event"] == "partition recovered"]


async def wait_for(scenario, process, count):
    def is_there():
        join = joined(scenario, process).join
        return join is not None and join.waiting == count

    await until(is_there, f"{count} events wait")


async def fill(scenario, process, count, first=0):
    events, labels = pairs(count, now_ms(), first)
    await scenario.user.events(*events)
    await wait_for(scenario, process, first + count)
    return labels


async def finish(scenario, process, labels):
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == len(labels), "every example is learned")


async def test_a_restart_takes_the_disk_as_it_is(made):
    """Fails when the room's block is not found in the log, or the waiting room is made again without need."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    labels = await fill(scenario, process, 300)
    await scenario.stop(process)

    with capture_logs() as logs:
        process = await scenario.start()

    assert [(300, 0)] == [(each["remembered"], each["events_read_again"]) for each in recoveries(logs)]
    await finish(scenario, process, labels)


async def test_what_outgrows_memory_goes_to_disk(made):
    """Fails when the join pauses at max_waiting although the disk is there."""
    scenario = await made(join={"max_waiting": 50})
    process = await scenario.start()

    labels = await fill(scenario, process, 200)

    assert (scenario.settings.folder / "waiting" / scenario.domain.name / "0").exists()
    await scenario.stop(process)
    process = await scenario.start()
    await wait_for(scenario, process, 200)
    await finish(scenario, process, labels)


async def test_what_outgrows_memory_goes_to_disk_where_all_times_are_equal_too(made):
    """As where they are those of days: no input is ahead then, and none pauses."""
    scenario = await made(join={"max_waiting": 50})
    process = await scenario.start()
    day_ms = now_ms()
    events, labels = zip(*(example_of(number, day_ms) for number in range(200)), strict=True)
    await scenario.user.events(events[0])
    await wait_for(scenario, process, 1)
    await scenario.user.labels(labels[0])
    await until(lambda: scenario.learned(process) == 1, "labels are as far as events")

    await scenario.user.events(*events[1:])
    await wait_for(scenario, process, 199)

    folder = scenario.settings.folder / "waiting" / scenario.domain.name / "0"
    await until(folder.exists, "what waits is on disk")
    await scenario.user.labels(*labels[1:])
    await until(lambda: scenario.learned(process) == 200, "every example is learned")


async def test_what_outgrows_memory_goes_to_disk_when_every_block_stands_twice_in_the_log(made):
    """As a renewed sink leaves it. Fails when the second one, by which the writer knows it, is not taken for the first."""
    scenario = await made(join={"max_waiting": 50})
    process = await scenario.start()
    sink, training = joined(scenario, process)._parts.sink, scenario.domain.topics.training
    send = sink.send

    async def sent_again(partition, records):
        if partition.topic == training:
            await send(partition, records)
        return await send(partition, records)

    sink.send = sent_again
    labels = await fill(scenario, process, 30)
    await finish(scenario, process, labels)

    events, more = pairs(200, now_ms(), first=30)
    await scenario.user.events(*events)
    await wait_for(scenario, process, 200)

    assert (scenario.settings.folder / "waiting" / scenario.domain.name / "0").exists()
    await scenario.user.labels(*more)
    await until(lambda: scenario.learned(process) == 230, "every example is learned")


async def test_a_damaged_folder_is_made_again(made):
    """Fails when damage ends the join, or is believed."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    labels = await fill(scenario, process, 100)
    await scenario.stop(process)
    for file in (scenario.settings.folder / "waiting" / scenario.domain.name / "0").iterdir():
        if file.name.startswith(("MANIFEST", "CURRENT")) or file.suffix in {".log", ".sst"}:
            file.write_bytes(b"damage" * 20)

    process = await scenario.start()

    assert joined(scenario, process).join.waiting == 100
    await finish(scenario, process, labels)


async def test_a_stop_while_the_room_is_made_again_leaves_no_half_of_it(made):
    """Fails when a stop waits for the whole topic, or what was made until then is taken for the whole."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    await fill(scenario, process, 8_000)
    await scenario.stop(process)
    shutil.rmtree(scenario.settings.folder / "waiting")
    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    folder = scenario.settings.folder / "waiting" / scenario.domain.name / "0"
    await until(folder.exists, "the room is being made again")

    await scenario.stop(process)

    process = await scenario.start()
    await wait_for(scenario, process, 8_000)


async def test_a_folder_that_fails_while_it_is_used_is_made_again(made):
    """Fails when what the disk refuses ends the join, or leaves it with half of what it held."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    labels = await fill(scenario, process, 100)

    joined(scenario, process)._room.shelf.close()

    labels += await fill(scenario, process, 100, first=100)
    await finish(scenario, process, labels)


async def test_a_disk_that_keeps_failing_is_told_and_scoring_goes_on(made):
    """Fails when a disk that cannot be used is tried without a pause, is not told of, or takes scoring down with it."""
    scenario = await made(join={"store": "disk"})
    (scenario.settings.folder / "waiting").write_text("in the way")
    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: process.loops, "the process knows its loops")
    report = scenario.loop_of(process).reports[Role.JOIN]
    await until(lambda: report.state is RoleState.FAILED, "the join says so")

    await scenario.user.events(*pairs(10, now_ms())[0])

    await until(lambda: predicted(scenario, 10), "all events are scored")
    assert "waiting room" in report.reason


async def test_what_changes_reaches_the_disk_in_small_steps(made):
    """Fails when much is read before a block is written: then one write holds up scoring in the same process."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start(roles=[Role.SCORE, Role.LEARN])
    await scenario.user.events(*pairs(5_000, now_ms())[0])
    await until(lambda: predicted(scenario, 5_000), "all events are scored")
    scored = [decode_scored(record.value) for record in await scenario.user.read(scenario.domain.topics.scored)]
    most_rows = max(len(block.ids) for block in scored)
    await scenario.stop(process)

    joiner = await scenario.start(roles=[Role.JOIN])
    await wait_for(scenario, joiner, 5_000)

    training = [decode_training(each.value) for each in await scenario.user.read(scenario.domain.topics.training)]
    ends = [block.vector.scored_next >> 20 for block in training if isinstance(block, TrainingBlock)]
    steps = [sum(len(block.ids) for block in scored[start:end]) for start, end in pairwise([0, *ends])]
    assert max(steps) < HEAVY + most_rows


async def test_the_bound_on_disk_is_told(made):
    """Fails when a join that may hold no more says nothing of it."""
    scenario = await made(join={"store": "disk", "max_on_disk": 50})
    process = await scenario.start()
    report = scenario.loop_of(process).reports[Role.JOIN]

    await scenario.user.events(*pairs(200, now_ms())[0])

    await until(lambda: "join.max_on_disk" in report.reason, "the join says that it reads no further")


async def predicted(scenario, count):
    return len(await scenario.user.predictions()) == count


async def test_a_folder_of_an_earlier_day_is_brought_forward(made, tmp_path):
    """Fails when a room behind the log is taken as it is, or thrown away."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    await fill(scenario, process, 100)
    await scenario.stop(process)
    folder = scenario.settings.folder / "waiting" / scenario.domain.name / "0"
    kept = shutil.copytree(folder, tmp_path / "kept")
    process = await scenario.start()
    await fill(scenario, process, 100, first=100)
    await scenario.stop(process)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)

    with capture_logs() as logs:
        process = await scenario.start()

    assert [(200, 100)] == [(each["remembered"], each["events_read_again"]) for each in recoveries(logs)]


async def test_a_folder_of_another_log_is_not_believed(made):
    """Fails when the block that the room names is not compared with the log."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    await fill(scenario, process, 100)
    await scenario.stop(process)
    await scenario.user.sink.stop()
    shutil.rmtree(scenario.settings.log_folder)
    shutil.rmtree(scenario.settings.snapshots.folder)
    again = await made(join={"store": "disk"})

    process = await again.start()

    assert joined(again, process).join.remembered == 0
    await finish(again, process, await fill(again, process, 100))


async def test_a_folder_that_another_holds_is_left_to_it(made):
    """Fails when a locked folder keeps the join from running."""
    scenario = await made(join={"store": "disk"})
    held = Shelf(scenario.settings.folder / "waiting" / scenario.domain.name / "0", new_cache())

    process = await scenario.start()

    assert is_ready(process)
    labels = await fill(scenario, process, 100)
    await finish(scenario, process, labels)
    held.close()


async def started_in_vain(scenario):
    """Start a process that can make no waiting room; return it once it has failed more often than before it rests."""
    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()

    def lost_thrice():
        loop = process.loops.get(scenario.domain.name)
        joins = {} if loop is None else loop.join.joins
        return joins and joins[0]._rooms_lost > 2

    await until(lost_thrice, "the room has failed three times")
    return process


async def test_a_disk_that_takes_nothing_is_tried_again_until_it_does_and_nothing_is_lost(made):
    """Where the settings ask for the disk. Defence: the tries; it was down until somebody started it again."""
    scenario = await made(join={"store": "disk"})
    rooms = scenario.settings.folder / "waiting"
    rooms.write_text("no folder can be made here")
    process = await started_in_vain(scenario)
    events, labels = pairs(20, now_ms())
    await scenario.user.events(*events)
    said = joined(scenario, process).why
    rooms.unlink()

    await finish(scenario, process, labels)
    assert "could not be opened" in said
    assert RoleState.RUNNING is joined(scenario, process).stands


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 8 MB, to be filled."""
    with small_disk(tmp_path / "small", "8m") as folder:
        yield folder


async def test_a_room_on_a_full_disk_is_as_it_was_when_there_is_space(full_disk, made):
    """Defence: only what is damaged is deleted, and only what failed while it was used is made again."""
    scenario = await made(join={"store": "disk", "folder": str(full_disk / "waiting")})
    process = await scenario.start()
    labels = await fill(scenario, process, 100)
    await scenario.stop(process)
    fill_disk(full_disk / "ballast")
    process = await started_in_vain(scenario)
    said = joined(scenario, process).why
    with capture_logs() as logs:
        (full_disk / "ballast").unlink()
        await wait_for(scenario, process, 100)

    assert "No space left on device" in said
    assert [(100, 0)] == [(each["remembered"], each["events_read_again"]) for each in recoveries(logs)]
    await finish(scenario, process, labels)


async def test_a_batch_from_before_the_room_was_lost_is_not_joined_by_what_is_made_anew(made):
    """Otherwise the vector leaves out what lies before it, and whoever recovers from there never reads that."""
    scenario = await made(join={"store": "disk"})
    process = await scenario.start()
    join, read = joined(scenario, process), []
    read_batch, recover = join._read, join._recover

    async def noted(batch):
        read.append(batch)
        await read_batch(batch)

    async def with_one_that_was_on_its_way():
        join.give(read[0])
        await recover()

    join._read, join._recover = noted, with_one_that_was_on_its_way
    labels = await fill(scenario, process, 10)
    join._room.shelf.close()
    labels += await fill(scenario, process, 10, first=10)

    assert 1 == sum(batch is read[0] for batch in read)
    await finish(scenario, process, labels)


async def test_a_join_that_is_held_names_the_partition_that_has_told_nothing(made):
    """All waits depend on it, whichever partition says that it is held: without its number nobody knows where to look."""
    scenario = await made(partitions=2, join={"max_waiting": 50, "max_on_disk": 50}, idle_after="200ms")
    process = await scenario.start()
    events, _ = pairs(200, now_ms())
    here = [event for event in events if scenario.user.home(event["id"]) == 0]
    there = next(event for event in events if scenario.user.home(event["id"]) == 1)
    report = scenario.loop_of(process).reports[Role.JOIN]
    about = f"partition 1 of {scenario.domain.topics.labels} has told nothing"

    await scenario.user.events(*here[:60])
    await until(lambda: f"{about} yet, and no wait ends before it does" in report.reason, "it is named")
    await scenario.user.events(there)

    await until(lambda: f"{about} of a time after 20" in report.reason, "what it has told is followed")
    assert RoleState.RUNNING is report.state

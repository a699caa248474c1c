"""Other libraries are another lineage: there and back, nothing foreign loaded, what serves goes on meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from tests.scenarios import other_versions
from tests.scenarios.commanding import bare, bytes_of, examples, learn, tailrace
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain import pointers
from tailrace.domain.models import spec
from tailrace.domain.records import Skip
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import Role
from tailrace.main import LoopDomain, loops
from tailrace.opening import open_trust
from tailrace.streams import branch_keeper
from tailrace.streams.snapshot_index import unsealed
from tailrace.wire.avro_codec import decode_training

NEWER = "99.0"


@pytest.fixture
def newer(monkeypatch):
    """Let this process have the newer libraries from a call on, or the older ones again."""
    before = spec.library_versions

    def become(scenario: Scenario, *, is_newer: bool, river: str = NEWER) -> None:
        if is_newer:
            monkeypatch.setattr(spec, "library_versions", lambda: before() | {"river": river})
        else:
            monkeypatch.setattr(spec, "library_versions", before)
        monkeypatch.setattr(loops, "library_versions", spec.library_versions)
        name = scenario.domain.name
        scenario.domain = LoopDomain.of(name, scenario.settings.loops[name], scenario.settings.folder)

    return become


async def upgraded(scenario: Scenario, *words: str) -> dict:
    """Run `tailrace upgrade` in another process, with the newer libraries."""
    script = Path(other_versions.__file__)
    command = [sys.executable, str(script), NEWER, "upgrade", *words, "-c", str(scenario.config), "-o", "json"]
    pipe = asyncio.subprocess.PIPE
    ran = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(ran.communicate(), 60)
    assert 0 == ran.returncode, err.decode()
    return json.loads(out)


async def manifests(scenario: Scenario):
    trusted = open_trust(scenario.settings)
    return [
        unsealed(record, trusted)
        for record in await scenario.user.read(scenario.domain.topics.snapshots)
        if record.value is not None
    ]


async def learner_of(scenario: Scenario, river: str):
    """Start a learner and wait until the branch of its own libraries serves."""
    process = await scenario.start()
    lineage = scenario.domain.branch.lineage
    assert river in {"", scenario.domain.branch.versions["river"]}

    def serves() -> bool:
        live = scenario.loop_of(process).models.live
        return live is not None and live.champion is not None and live.pointers.champion == lineage

    await until(serves, "its own branch serves")
    return process


async def test_newer_libraries_and_back_again_without_loading_anything_foreign(made, newer):
    """
    The branch is built with the newer libraries while the older learner serves. The newer learner starts from the
    snapshot that was written with it; going back, the older one starts from its own and folds what it missed.
    """
    scenario = await made()
    process = await learner_of(scenario, "")
    older = scenario.domain.branch.lineage
    await learn(scenario, process, 100)

    built = await upgraded(scenario)
    await learn(scenario, process, 20, first=200)
    live = scenario.loop_of(process).models.live
    assert (older, [older]) == (live.pointers.champion, list(live.branches))
    assert built["branch"] in live.pointers.admitted
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    assert built["branch"] == scenario.domain.branch.lineage
    written = [each for each in await manifests(scenario) if each.lineage == scenario.domain.lineage]
    assert {Kind.BRANCH, Kind.SNAPSHOT} == {each.kind for each in written}
    process = await learner_of(scenario, NEWER)
    live = scenario.loop_of(process).models.live
    assert (120, 1) == (live.champion.learned, live.pointers.epoch)
    assert 0 == scenario.loop_of(process).recorder.counts.get("snapshots_refused", 0)
    await learn(scenario, process, 10, first=400)
    assert bytes_of(scenario, await bare(scenario)) == bytes_of(scenario, live.champion.model)
    await scenario.stop(process)

    newer(scenario, is_newer=False)
    process = await learner_of(scenario, "")
    live = scenario.loop_of(process).models.live
    assert (older, 130, 2) == (live.pointers.champion, live.champion.learned, live.pointers.epoch)
    await learn(scenario, process, 5, first=600)
    assert bytes_of(scenario, await bare(scenario)) == bytes_of(scenario, live.champion.model)
    assert 2 == len({each.lineage for each in await manifests(scenario)})
    await scenario.stop(process)
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_what_a_learner_cannot_fold_may_be_promoted_and_its_own_goes_on_serving(made, newer):
    """Until a learner with those libraries comes: no event stays without an answer, none is learned twice."""
    scenario = await made()
    process = await learner_of(scenario, "")
    older = scenario.domain.branch.lineage
    await learn(scenario, process, 60)

    built = await upgraded(scenario, "--promote")
    assert built["promoted"]
    await scenario.user.events(*pairs(30, now_ms(), first=300)[0])

    async def answered():
        return 90 == len({each["event_id"] for each in await scenario.user.predictions()})

    await until(answered, "events are answered")
    assert {older[:12]} == {each["version"] for each in await scenario.user.predictions()}
    await scenario.user.labels(*pairs(30, now_ms(), first=300)[1])
    await until(lambda: examples(scenario, process) == 90, "and labels learned")
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    process = await learner_of(scenario, NEWER)
    live = scenario.loop_of(process).models.live
    assert (built["branch"], 90, 1) == (live.pointers.champion, live.champion.learned, live.pointers.epoch)


async def test_a_server_with_newer_libraries_serves_what_was_built_for_them_before_any_learner_has_them(made, newer):
    """The champion of the log is of the older ones, which it cannot load; an untrained model would be no answer."""
    scenario = await made()
    process = await learner_of(scenario, "")
    await learn(scenario, process, 60)
    built = await upgraded(scenario)
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    process = await scenario.start([Role.SCORE])

    serving = scenario.loop_of(process).models.current()
    assert built["branch"] == serving.version
    assert bytes_of(scenario, await bare(scenario)) == bytes_of(scenario, serving.model)


async def test_without_an_upgrade_a_learner_with_newer_libraries_folds_the_log_and_takes_over(made, newer):
    scenario = await made()
    process = await learner_of(scenario, "")
    await learn(scenario, process, 60)
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    process = await learner_of(scenario, NEWER)

    live = scenario.loop_of(process).models.live
    assert (60, 2, 1) == (live.champion.learned, len(live.pointers.admitted), live.pointers.epoch)
    assert "river" in live.pointers.decisions[-1].why
    assert bytes_of(scenario, await bare(scenario)) == bytes_of(scenario, live.champion.model)


async def test_what_a_repair_left_out_stays_out_with_newer_libraries_too(made, newer, tmp_path):
    """Whoever asked to be forgotten is not learned again because somebody installed another River."""
    scenario = await made()
    process = await learner_of(scenario, "")
    await learn(scenario, process, 30)
    (tmp_path / "ids").write_text("e3\ne5\n")
    assert 0 == (await tailrace(scenario, "repair", "--drop-ids", str(tmp_path / "ids"))).code
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    process = await scenario.start()

    live = scenario.loop_of(process).models.live
    assert (28, 2) == (live.champion.learned, live.champion.left_out)
    expected = await bare(scenario, lambda event_id, _: event_id in {"e3", "e5"})
    assert bytes_of(scenario, expected) == bytes_of(scenario, live.champion.model)


async def test_what_the_new_model_raises_at_meanwhile_is_in_the_log_for_every_later_fold(made, newer):
    """
    Between the upgrade and the newer learner nobody folds the branch. An example at which its model raises there is
    found while it is caught up; if that stayed with whoever found it, the next fold would not come to the same.
    """
    scenario = await made(champion={"model": "HoeffdingTreeClassifier(grace_period=10)"})
    process = await learner_of(scenario, "")
    await scenario.user.events({"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308})
    await learn(scenario, process, 60)
    built = await upgraded(scenario)
    await scenario.user.labels({"id": "huge", "at": now_ms(), "y": True})
    await until(lambda: examples(scenario, process) == 61, "the example is skipped")
    await scenario.stop(process)

    newer(scenario, is_newer=True)
    process = await learner_of(scenario, NEWER)
    await learn(scenario, process, 5, first=100)
    await scenario.stop(process)

    skips = [
        record
        for each in await scenario.user.read(scenario.domain.topics.training)
        if isinstance(record := decode_training(each.value), Skip)
    ]
    assert {built["branch"]} < {skip.branch for skip in skips}
    assert 0 == (await tailrace(scenario, "verify")).code


async def test_where_as_many_branches_are_admitted_as_may_be_the_oldest_makes_room(made, newer, monkeypatch):
    """A learner with other libraries could not serve at all otherwise; nobody is there to retire one first."""
    monkeypatch.setattr(pointers, "MAX_ADMITTED", 2)
    monkeypatch.setattr(branch_keeper, "MAX_ADMITTED", 2)
    scenario = await made()
    process = await learner_of(scenario, "")
    oldest = scenario.domain.branch.lineage
    await learn(scenario, process, 20)
    for river in ("98.0", NEWER):
        await scenario.stop(process)
        newer(scenario, is_newer=True, river=river)
        process = await learner_of(scenario, river)

    live = scenario.loop_of(process).models.live
    assert (2, 20) == (len(live.pointers.admitted), live.champion.learned)
    assert oldest not in live.pointers.admitted

"""What a model is can be proven: verification finds where a state left the log, followers compare and stop."""

import os
from dataclasses import replace

import pytest
from tests.builders import is_one_chain
from tests.scenarios.harness import following, now_ms, pairs, until

from tailrace import settings as loading
from tailrace.domain.branches import Filter, digest_of_ids, hash_of_id
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import offset_of
from tailrace.domain.proof import ProofStatus
from tailrace.domain.records import Request, RequestKind
from tailrace.domain.snapshots import Kind, index_key, manifest_of
from tailrace.domain.status import Role, RoleState, Verdict
from tailrace.domain.verdicts import picture
from tailrace.inspection.reading import opened
from tailrace.inspection.verifying import Verifier
from tailrace.main import ALL_ROLES, versions
from tailrace.opening import open_store
from tailrace.streams.announcements import Announcements
from tailrace.streams.commands import Asked
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import decode_manifest, decode_model_event, encode_status

TREE = {"champion": {"model": "HoeffdingTreeClassifier(grace_period=10)"}}
OFTEN = {"snapshots": {"every": "100ms", "publish": "100ms"}}
ALL_AND_FOLLOW = (*ALL_ROLES, Role.FOLLOW)


async def learn(scenario, process, count, first=0):
    """Send events and labels, and wait until all of them are learned."""
    before = scenario.learned(process)
    events, labels = pairs(count, now_ms(), first=first)
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == before + count, f"{count} more are learned")


async def snapshot_taken(scenario, process, after):
    """Wait until a snapshot above a position is complete; return its number."""

    def newest():
        return scenario.loop_of(process).heartbeat.picture().snapshot

    await until(lambda: newest() is not None and newest().position > after, "a snapshot is taken")
    return newest().number


async def verified(scenario, **span):
    """Verify as `tailrace verify` does."""
    async with opened(scenario.settings) as reading:
        verifier = Verifier(
            reading, scenario.domain.topics, scenario.domain.fold(), open_store(scenario.settings), versions()
        )
        return await verifier.verify(lambda _done, _of: None, **span)


async def events_of(scenario, kind):
    records = await scenario.user.read(scenario.domain.topics.model_events)
    return [event for event in (decode_model_event(record.value) for record in records) if event.kind == kind]


async def forget_all_but_the_newest(scenario):
    """Take the other snapshots out of the index, as the next sixteen would."""
    topic = scenario.domain.topics.snapshots
    keys = list(dict.fromkeys(record.key for record in await scenario.user.read(topic)))
    newest = max(decode_manifests(await scenario.user.read(topic)), key=lambda manifest: manifest.number)
    await scenario.user.raw(topic, 0, *(Outgoing(key, None) for key in keys if key != index_key(newest).encode()))


def decode_manifests(records):
    found = (manifest_of(decode_manifest(record.value).content) for record in records)
    return [manifest for manifest in found if manifest.kind is Kind.SNAPSHOT]


def flip_a_weight(state):
    """Change one number of a model in memory, as a broken memory cell would."""
    scaler = state.champion.model["StandardScaler"]
    scaler.means["a"] += 1e-9


async def test_a_state_that_changed_in_memory_is_found_between_two_recorded_positions(made):
    """Guards the bisection: without the announced digests of parts nothing lies between the start and the index."""
    scenario = await made(**OFTEN)
    process = await scenario.start()

    def live():
        return scenario.loop_of(process).models.live

    for first in range(0, 60, 20):
        await learn(scenario, process, 20, first)
        good = await snapshot_taken(scenario, process, live().position - 1)
    before = live().position
    flip_a_weight(live())
    for first in range(60, 120, 20):
        await learn(scenario, process, 20, first)
        await snapshot_taken(scenario, process, live().position - 1)

    found, up_to_it = await verified(scenario), await verified(scenario, to=before)
    await forget_all_but_the_newest(scenario)
    from_announcements = await verified(scenario)

    assert not found.is_equal
    assert (before, up_to_it.end) == (found.difference.equal_to, before)
    assert before < found.difference.at < found.end
    assert 0 < found.difference.examples <= 20
    assert any(name.startswith("branch.") for name in found.difference.parts)
    assert good in found.proven
    assert (found.difference.equal_to, found.difference.at) == (
        from_announcements.difference.equal_to,
        from_announcements.difference.at,
    )
    assert up_to_it.is_equal


async def test_a_fold_from_a_snapshot_proves_what_came_after_it(made):
    scenario = await made(**OFTEN)
    process = await scenario.start()
    await learn(scenario, process, 20)
    number = await snapshot_taken(scenario, process, 0)
    await learn(scenario, process, 20, 20)
    await scenario.stop(process)

    found = await verified(scenario, base=number)

    assert (True, number) == (found.is_equal, found.from_snapshot)
    assert offset_of(found.start) > 0
    assert found.digest == found.snapshot_digest
    assert [part.here for part in found.parts] == [part.snapshot for part in found.parts]


async def announced_as_proven(scenario, numbers, manifests):
    """Announce what a verification proved, as the process does that lets it run."""
    announcements = Announcements(
        scenario.user.sink, loop=scenario.domain.name, topic=scenario.domain.topics.model_events, now_ms=now_ms
    )
    proof = ProofStatus(now_ms(), 1, len(numbers), len(numbers))
    await announcements.verified(proof, numbers, manifests)


async def test_a_verification_of_another_lineage_proves_no_snapshot_of_the_same_number(made):
    """
    Guards what names a snapshot: numbers begin at 1 in every lineage and after every rewriting of the log, so that by
    numbers a new snapshot, which nobody folded again, would be where the next verification begins.
    """
    scenario = await made(**OFTEN)
    process = await scenario.start()
    for first in (0, 20, 40):
        await learn(scenario, process, 20, first)
        await snapshot_taken(scenario, process, scenario.loop_of(process).models.live.position - 1)
    await scenario.stop(process)
    held = decode_manifests(await scenario.user.read(scenario.domain.topics.snapshots))
    numbers = [each.number for each in held]
    others = [replace(each, lineage="f" * 64) for each in held]

    await announced_as_proven(scenario, numbers, [each.digest for each in others])
    found = await verified(scenario, base="proven", to=held[0].position)
    from_start = await verified(scenario, base="proven")

    assert (True, None, (held[0].number,)) == (found.is_equal, found.from_snapshot, found.proven)
    assert (True, None) == (from_start.is_equal, from_start.from_snapshot)
    assert from_start.proven_manifests == tuple(each.digest for each in held)

    await announced_as_proven(scenario, numbers[:1], from_start.proven_manifests[:1])
    from_proven = await verified(scenario, base="proven")

    assert (True, held[0].number) == (from_proven.is_equal, from_proven.from_snapshot)
    assert from_proven.proven_manifests == from_start.proven_manifests


async def test_branches_with_skips_corrections_and_dropped_examples_are_what_the_log_says(made):
    """
    Guards what a restored branch must know of the log before it: a learner that forgot which ids its filter names
    would learn them after a restart, and no fold from the start would come to its state.
    """
    revised = {"labels": {"topic": made.form.topic("labels"), "id": "id", "target": "y", "revision": "version"}}
    scenario = await made(**TREE, **revised)
    process = await scenario.start()
    await learn(scenario, process, 60)
    await scenario.user.labels(*({"id": f"e{number}", "y": number % 2 == 0, "version": 1} for number in range(10, 20)))

    def live():
        return scenario.loop_of(process).models.live

    await until(lambda: live().counts.corrected == 10, "the corrections are recorded")
    names = [hash_of_id(event_id) for event_id in ("e5", "e25", "e45")]
    drop = Filter(corrected_to=live().position, ids=digest_of_ids(names), ids_to=live().position)
    branch = replace(scenario.domain.branch, filter=drop)
    request = Request(
        *("admit-1", scenario.domain.name, "", RequestKind.ADMIT, branch.lineage, 0, "somebody", "a repair", 0),
        definition=branch.text,
        ids=tuple(sorted(names)),
    )
    scenario.loop_of(process).learn._term._commands.waiting.append(Asked(0, request))
    await until(lambda: branch.lineage in live().branches, "the branch is held")
    await until(lambda: branch.lineage in live().pointers.admitted, "the branch is admitted")
    await learn(scenario, process, 20, 60)
    await scenario.stop(process)

    process = await scenario.start()
    await learn(scenario, process, 20, 80)
    left_out = live().branches[branch.lineage].left_out
    await scenario.stop(process)
    found = await verified(scenario)
    from_snapshot = await verified(scenario, base=found.snapshot - 1)

    assert ("", "") == (found.problem, from_snapshot.problem)
    assert {scenario.domain.branch.lineage, branch.lineage} == set(found.branches)
    assert 3 == left_out


async def test_a_follower_comes_to_the_state_of_the_learner(made):
    scenario = await made()
    process = await scenario.start()
    async with following(scenario) as loop:
        await learn(scenario, process, 200)
        live = scenario.loop_of(process).models.live

        def at_learner():
            return loop.follow.followed is not None and loop.follow.followed.position == live.position

        await until(at_learner, "the follower has come as far")
        await until(lambda: loop.recorder.counts["digests_equal"], "digests were compared")

        fold = loop.follow._parts.fold
        assert digests_of(fold, live) == digests_of(fold, loop.follow.followed)
        assert RoleState.RUNNING is loop.reports[Role.FOLLOW].state


def digests_of(fold: Fold, state):
    return {name: digest_of(body) for name, body in fold.parts(state).items()}


async def test_a_follower_that_diverges_says_where_and_stops(made):
    """Guards the comparison: a follower whose memory is wrong would go on, and be handed over to a learner."""
    scenario = await made()
    process = await scenario.start()
    async with following(scenario) as loop:
        await learn(scenario, process, 100)
        await until(lambda: loop.recorder.counts["digests_equal"], "digests were compared")
        flip_a_weight(loop.follow.followed)

        await learn(scenario, process, 100, 100)
        await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "the follower stops")
        await until(lambda: events_of(scenario, "divergence"), "it is announced")

        (event,) = await events_of(scenario, "divergence")
        assert process.member == event.texts["member"]
        assert "branch." in event.texts["parts"]
        assert event.texts["equal_at"]
        assert event.position > 0
        assert 1 == loop.recorder.counts["divergences"]
        assert loop.follow.followed is None
        assert await loop.follow.take() is None
        assert RoleState.FAILED is loop.reports[Role.FOLLOW].state
        await learn(scenario, process, 10, 200)


async def test_a_follower_that_another_follower_contradicts_goes_on(made):
    """Guards the ones that are right: one wrong follower would bring down every other."""
    scenario = await made()
    process = await scenario.start()
    async with following(scenario) as loop:
        await learn(scenario, process, 100)
        await until(lambda: loop.recorder.counts["digests_equal"], "digests were compared")
        said = scenario.loop_of(process).heartbeat.picture()
        wrong = tuple(replace(each, parts=dict.fromkeys(each.parts, "0" * 64)) for each in said.digests)

        async def tell(member, role, state):
            roles = tuple(replace(each, role=role, state=state) for each in said.roles)
            status = replace(said, member=member, roles=roles, digests=wrong)
            beat = Outgoing(member.encode(), encode_status(status))
            await scenario.user.raw(scenario.domain.topics.status, 0, beat)

        await tell("member-follows", Role.FOLLOW, RoleState.RUNNING)
        await tell("member-waits", Role.LEARN, RoleState.WAITING)
        await learn(scenario, process, 100, 100)
        equal = loop.recorder.counts["digests_equal"]
        await learn(scenario, process, 400, 200)
        await until(lambda: loop.recorder.counts["digests_equal"] > equal, "more were compared")
        assert RoleState.RUNNING is loop.reports[Role.FOLLOW].state

        await tell("member-learns", Role.LEARN, RoleState.RUNNING)
        await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "the learner's word counts")


async def test_a_learner_that_another_learner_contradicts_says_so_and_goes_on(made):
    """Two processes that learn one loop at once come to equal states; with no follower there, they compare themselves."""
    scenario = await made()
    process = await scenario.start()
    loop = scenario.loop_of(process)
    await learn(scenario, process, 100)
    await until(lambda: loop.heartbeat.picture().digests, "a digest was taken")
    equal = replace(loop.heartbeat.picture(), member="member-equal")
    wrong = replace(
        equal,
        member="member-wrong",
        digests=tuple(replace(each, parts=dict.fromkeys(each.parts, "0" * 64)) for each in equal.digests),
    )
    follower = replace(
        wrong, member="member-following", roles=tuple(replace(each, role=Role.FOLLOW) for each in wrong.roles)
    )

    for status in (equal, follower, wrong, wrong):
        await scenario.user.raw(
            scenario.domain.topics.status, 0, Outgoing(status.member.encode(), encode_status(status))
        )
    await until(lambda: events_of(scenario, "divergence"), "it is announced")
    await learn(scenario, process, 10, 100)

    (event,) = await events_of(scenario, "divergence")
    assert "member-wrong" == event.texts["member"]
    assert 1 == loop.recorder.counts["divergences"]
    assert loop.recorder.counts["digests_equal"] >= 1
    assert RoleState.RUNNING is loop.reports[Role.LEARN].state


async def test_a_follower_skips_what_the_learner_skips(made):
    """Guards the wait for the skip: a follower that skipped by itself, or stopped, would be useless after one example."""
    scenario = await made(**TREE)
    process = await scenario.start()
    huge = {"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308}
    await scenario.user.events(huge)
    async with following(scenario) as loop:
        await learn(scenario, process, 60)
        await scenario.user.labels({"id": "huge", "at": now_ms(), "y": True})
        running = scenario.loop_of(process)
        await until(lambda: running.models.live and running.models.live.champion.skipped == 1, "it is skipped")
        await learn(scenario, process, 40, 100)
        live = running.models.live

        def followed():
            return loop.follow.followed is not None and loop.follow.followed.position == live.position

        await until(followed, "the follower has come as far")

        assert 1 == loop.follow.followed.champion.skipped
        await scenario.stop(process)
        assert (await verified(scenario)).is_equal
        assert digests_of(loop.follow._parts.fold, live) == digests_of(loop.follow._parts.fold, loop.follow.followed)


async def test_a_follower_never_loads_a_snapshot_that_nobody_trusted_has_signed(made, tmp_path):
    """Guards the load order of a follower: it folds the log from its start instead."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 50)
    live = scenario.loop_of(process).models.live
    await scenario.stop(process)
    (tmp_path / "keys" / "trusted.json").unlink()

    async with following(scenario) as loop:

        def followed():
            return loop.follow.followed is not None and loop.follow.followed.position == live.position

        await until(followed, "the follower has come as far")

        assert not loop.follow._parts.index.manifests
        assert digests_of(loop.follow._parts.fold, live) == digests_of(loop.follow._parts.fold, loop.follow.followed)


async def test_a_learner_takes_over_what_a_follower_in_its_process_has_folded(made):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 50)
    await scenario.stop(process)
    async with following(scenario) as loop:
        await until(lambda: loop.follow.followed is not None, "the follower follows")
        await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.RUNNING, "it has caught up")
        followed = loop.follow.followed

        given = await loop.follow.take()

        assert followed is given
        assert RoleState.WAITING is loop.reports[Role.FOLLOW].state
        loop.follow.resume()
        await until(lambda: loop.follow.followed is not None, "it follows again")
        assert loop.follow.followed is not given


async def test_where_followers_take_the_snapshots_the_learner_takes_none(made):
    """
    Guards the one writer, which is asked twice: before a snapshot is taken, and before it is made known. With two of
    them numbers would stand twice and the chain of manifests would fork.
    """
    scenario = await made(snapshots={"every": "100ms", "publish": "100ms", "by": "follower"})
    process = await scenario.start()
    await learn(scenario, process, 50)
    await scenario.stop(process)
    assert not await scenario.user.read(scenario.domain.topics.snapshots)

    both = await scenario.start(ALL_AND_FOLLOW)
    await learn(scenario, both, 50, 50)
    await snapshot_taken(scenario, both, 0)
    index = scenario.loop_of(both).follow._parts.index

    assert is_one_chain(index.newest())


async def test_a_verification_in_the_background_proves_the_snapshots_and_ends_with_the_worker(made):
    """Guards the child process: it is told to end, and the stop waits for it."""
    scenario = await made(**OFTEN)
    scenario.config.write_text(scenario.config.read_text() + '[verify]\nevery = "200ms"\n')
    scenario.settings = loading.load(scenario.config)
    process = await scenario.start()
    await learn(scenario, process, 50)
    await snapshot_taken(scenario, process, 0)

    def told():
        return scenario.loop_of(process).heartbeat.picture()

    await until(lambda: told().proof is not None, "something is proven", 60.0)
    proof = told().proof
    await until(lambda: events_of(scenario, "verified"), "it is announced")
    (first, *_) = await events_of(scenario, "verified")
    held = {each.digest for each in decode_manifests(await scenario.user.read(scenario.domain.topics.snapshots))}
    status = picture(scenario.domain.name, [told()], now_ms(), {})

    assert "" == proof.problem
    assert 0 < proof.share <= 1
    assert set(first.texts["manifests"].split(",")) <= held
    assert any(each.about == "proof" and each.verdict is Verdict.OK for each in status.findings)
    prover = next(each for each in process.worker._behind if type(each).__name__ == "Prover")
    await until(lambda: prover._child.returncode is None, "the next one is under way", 60.0)
    pid = prover._child.pid
    await scenario.stop(process)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

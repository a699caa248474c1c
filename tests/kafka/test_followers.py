"""Followers on a real broker: a hot standby that takes over, one writer of snapshots, an alarm in `status`."""

from __future__ import annotations

import pytest
from tests.builders import is_one_chain
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import parse
from tailrace.domain.status import Role, RoleState, Verdict
from tailrace.inspection.reading import opened
from tailrace.inspection.status import picture_of
from tailrace.streams.followers import Models

FORWARD = (Role.SCORE, Role.JOIN)


@pytest.fixture
async def make(kafka_form, tmp_path):
    made = []

    async def scenario(**changes) -> Scenario:
        made.append(await Scenario.make(kafka_form, tmp_path, partitions=1, **changes))
        return made[-1]

    yield scenario
    for each in made:
        await each.close()


async def learn(scenario, process, count, first=0):
    events, labels = pairs(count, now_ms(), first=first)
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) >= first + count, f"{first + count} are learned", 60.0)


def followed(scenario, process):
    return scenario.loop_of(process).follow.followed


async def go_wrong(loop):
    """Let what a follower holds differ a little, once it was found equal."""
    await until(lambda: loop.recorder.counts["digests_equal"], "digests were compared", 60.0)
    loop.follow.followed.champion.model["StandardScaler"].means["a"] += 1e-9


async def writer_of(scenario, followers):
    """Return the one that takes snapshots, once all of them are members: whoever comes may become it."""

    def writers():
        loops = [scenario.loop_of(each) for each in followers]
        if any(loop.follow._source.generation < 0 for loop in loops):
            return []
        return [each for each, loop in zip(followers, loops, strict=True) if loop.follow.is_writer]

    await until(lambda: len(writers()) == 1, "one of them writes", 60.0)
    return writers()[0]


async def test_a_standby_takes_over_with_the_state_that_it_has_followed(make):
    """Guards the handover: without it the new learner restores a snapshot and folds the tail again."""
    scenario = await make(snapshots={"every": "1h", "publish": "200ms"})
    await scenario.start(FORWARD)
    pair = [await scenario.start([Role.FOLLOW, Role.LEARN]) for _ in range(2)]

    def learners():
        return [each for each in pair if scenario.loop_of(each).learn.live_state is not None]

    await until(
        lambda: len(learners()) == 1 and any(followed(scenario, each) for each in pair), "one of them learns", 60.0
    )
    (first,) = learners()
    (standby,) = (each for each in pair if each is not first)
    await learn(scenario, first, 100)
    live = scenario.loop_of(first).models.live

    def has_caught_up():
        state = followed(scenario, standby)
        return state is not None and state.position == live.position

    await until(has_caught_up, "the other one has caught up", 60.0)
    handed = followed(scenario, standby)

    await scenario.stop(first)
    await until(lambda: scenario.loop_of(standby).learn.live_state is not None, "it has taken over", 60.0)
    await learn(scenario, standby, 50, 100)

    assert handed is scenario.loop_of(standby).learn.live_state
    assert RoleState.WAITING is scenario.loop_of(standby).reports[Role.FOLLOW].state


async def test_a_scorer_that_follows_answers_from_what_no_publication_contains(make):
    """Guards fresh answers apart from the learner: a scorer that waits for publications would answer untrained."""
    scenario = await make(snapshots={"every": "1h", "publish": "1h"})
    learner = await scenario.start([Role.JOIN, Role.LEARN])
    scorer = await scenario.start([Role.SCORE, Role.FOLLOW])
    await learn(scenario, learner, 100)
    live, models = scenario.loop_of(learner).models.live, scenario.loop_of(scorer).models
    await until(lambda: models.serving_position == live.position, "the scorer has caught up", 60.0)
    learned = live.position
    events, _ = pairs(1, now_ms(), first=100)
    await scenario.user.events(*events)
    await until(lambda: scenario.loop_of(scorer).recorder.counts["events_scored"] > 100, "it is answered", 60.0)
    last = (await scenario.user.predictions())[-1]
    x = {name: events[0][name] for name in ("a", "b")}

    assert models.followed is None or models.followed.position < learned
    assert learned <= parse(last["position"])
    assert last["proba"] == live.champion.model.predict_proba_one(x)[True]
    assert scenario.loop_of(scorer).recorder.label_to_influence_quantiles() is not None


async def test_a_scorer_whose_model_raised_answers_from_what_was_published_then_follows_again(make, monkeypatch):
    """Guards the state that is kept ready: what was published when the process began would serve, or nothing."""
    model = "HoeffdingTreeClassifier(grace_period=10)"
    scenario = await make(champion={"model": model}, snapshots={"every": "1h", "publish": "200ms"})
    learner = await scenario.start([Role.JOIN, Role.LEARN])
    scorer = await scenario.start([Role.SCORE, Role.FOLLOW])
    await scenario.user.events({"id": "huge", "at": now_ms(), "a": 1e308, "b": -1e308})
    await learn(scenario, learner, 60)
    models, learned = scenario.loop_of(scorer).models, scenario.loop_of(learner).models.live.position

    def is_ready():
        published, serving = models.followed, models.serving_position
        return models.replica is not None and published is not None and min(published.position, serving) >= learned

    await until(is_ready, "the scorer has caught up, and has what was published", 60.0)
    went_back, drop = [], Models.drop_replica

    def dropped(each):
        had_one = each.replica is not None
        drop(each)
        if had_one:
            went_back.append(each.current().position)

    monkeypatch.setattr(Models, "drop_replica", dropped)
    await scenario.user.labels({"id": "huge", "at": now_ms(), "y": True})
    await until(lambda: models.replica is not None and models.replica.champion.skipped == 1, "it follows again", 60.0)

    assert len(went_back) == 1
    assert went_back[0] >= learned


async def test_a_scorer_that_diverged_answers_from_what_was_published(make):
    """Guards the way back: a state that is known to be wrong would go on serving."""
    scenario = await make(snapshots={"every": "1h", "publish": "200ms"})
    learner = await scenario.start([Role.JOIN, Role.LEARN])
    scorer = await scenario.start([Role.SCORE, Role.FOLLOW])
    await learn(scenario, learner, 50)
    loop = scenario.loop_of(scorer)
    await go_wrong(loop)

    await learn(scenario, learner, 100, 50)
    await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "it stops", 60.0)
    await learn(scenario, learner, 20, 150)
    live = scenario.loop_of(learner).models.live

    await until(lambda: loop.models.serving_position == live.position, "the newest publication serves", 60.0)

    assert loop.models.replica is None
    serving, learned = (each["StandardScaler"].means for each in (loop.models.current().model, live.champion.model))
    assert serving == learned


async def test_one_of_two_followers_takes_the_snapshots_and_the_other_goes_on_when_it_leaves(make):
    """Guards the one writer: the chain of manifests would fork, and numbers would stand twice."""
    scenario = await make(snapshots={"every": "200ms", "publish": "200ms", "by": "follower"})
    await scenario.start(FORWARD)
    learner = await scenario.start([Role.LEARN])
    followers = [await scenario.start([Role.FOLLOW]) for _ in range(2)]
    await learn(scenario, learner, 50)

    writer = await writer_of(scenario, followers)

    def taken(each):
        return scenario.loop_of(each).recorder.counts["snapshots"]

    await learn(scenario, learner, 50, 50)
    await until(lambda: taken(writer), "it has taken one", 60.0)

    followers.remove(writer)
    await scenario.stop(writer)
    assert await writer_of(scenario, followers) is followers[0]
    before = taken(followers[0])
    await learn(scenario, learner, 50, 100)
    await until(lambda: taken(followers[0]) > before, "it has taken one too", 60.0)
    index = scenario.loop_of(followers[0]).follow._parts.index

    assert 0 == taken(learner)
    assert len(index.newest()) > 1
    assert is_one_chain(index.newest())


async def test_a_follower_that_diverged_leaves_the_snapshots_to_another_one(make):
    """Guards the leaving of the group: it would hold the training log, and nobody would write."""
    scenario = await make(snapshots={"every": "200ms", "publish": "200ms", "by": "follower"})
    await scenario.start(FORWARD)
    learner = await scenario.start([Role.LEARN])
    followers = [await scenario.start([Role.FOLLOW]) for _ in range(2)]

    writer = await writer_of(scenario, followers)
    (other,) = (each for each in followers if each is not writer)
    await learn(scenario, learner, 50)
    loop = scenario.loop_of(writer)
    await go_wrong(loop)

    await learn(scenario, learner, 100, 50)
    await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "it stops", 60.0)
    await until(lambda: scenario.loop_of(other).follow.is_writer, "the other one writes", 60.0)
    before = scenario.loop_of(other).recorder.counts["snapshots"]
    await learn(scenario, learner, 20, 150)
    await until(lambda: scenario.loop_of(other).recorder.counts["snapshots"] > before, "it has taken one", 60.0)


async def test_a_follower_that_diverged_is_a_failure_in_the_status_of_the_loop(make):
    scenario = await make()
    worker = await scenario.start()
    follower = await scenario.start([Role.FOLLOW])
    await learn(scenario, worker, 50)
    loop = scenario.loop_of(follower)
    await go_wrong(loop)

    await learn(scenario, worker, 100, 50)
    await until(lambda: loop.reports[Role.FOLLOW].state is RoleState.FAILED, "it stops", 60.0)

    async def fails():
        async with opened(scenario.settings) as reading:
            found = await picture_of(reading, scenario.domain.name, scenario.domain.settings, now_ms())
        return any(each.about == "follow" and each.verdict is Verdict.FAIL for each in found.status.findings)

    await until(fails, "the status says so", 60.0)
    await learn(scenario, worker, 10, 150)


async def test_a_follower_comes_to_the_same_bytes(make):
    scenario = await make()
    worker = await scenario.start()
    follower = await scenario.start([Role.FOLLOW])
    await learn(scenario, worker, 200)
    live = scenario.loop_of(worker).models.live
    await until(lambda: followed(scenario, follower), "it follows", 60.0)
    await until(lambda: followed(scenario, follower).position == live.position, "it has caught up", 60.0)
    fold = scenario.loop_of(follower).follow._parts.fold

    mine, theirs = (
        {name: digest_of(body) for name, body in fold.parts(state).items()}
        for state in (followed(scenario, follower), live)
    )

    assert mine == theirs

"""Verdicts about partitions and loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailrace.domain.proof import Digests, ProofStatus
from tailrace.domain.status import (
    Condition,
    Finding,
    LoopStatus,
    MemberStatus,
    ModelStatus,
    PartitionStatus,
    Quality,
    Quantiles,
    Role,
    RoleState,
    RoleStatus,
    SnapshotStatus,
    Verdict,
)
from tailrace.domain.verdicts import LAG_SAMPLES, LagSample, LagWindowState, judge_lag, picture

EXPECTED = {Role.SCORE: {"pages": 2}, Role.JOIN: {"verdicts": 1}}


def samples(*offsets: tuple[int, int]) -> list[LagSample]:
    """One sample a second of (next, end)."""
    return [LagSample(1_000 * second, *each) for second, each in enumerate(offsets)]


def reads(topic: str, *partitions: int, **changes: Any) -> tuple[PartitionStatus, ...]:
    return tuple(PartitionStatus(topic, partition, 5, 5, 0, 0.0, **changes) for partition in partitions)


def make_member(name: str = "m1", **changes: Any) -> MemberStatus:
    roles = (
        RoleStatus(Role.SCORE, RoleState.RUNNING, "", reads("pages", 0, 1)),
        RoleStatus(Role.JOIN, RoleState.RUNNING, "", reads("verdicts", 0)),
        RoleStatus(Role.LEARN, RoleState.RUNNING),
    )
    fields: dict[str, Any] = {
        "member": name,
        "loop": "phishing",
        "version": "1",
        "time_ms": 9_000,
        "started_ms": 0,
        "roles": roles,
        "counters": {"events_scored": 5},
        "model": ModelStatus("champion", "a", 100, 3),
    }
    return MemberStatus(**(fields | changes))


def look(*members: MemberStatus, now_ms: int = 10_000) -> LoopStatus:
    return picture("phishing", members, now_ms, EXPECTED)


def complaints(status: LoopStatus) -> list[Finding]:
    return [finding for finding in status.findings if finding.verdict is not Verdict.OK]


# ── one partition ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_partition_without_samples_is_not_judged():
    assert (Verdict.OK, "not read yet") == judge_lag([])


def test_a_partition_without_lag_is_fine_and_idle_when_its_end_stood_still():
    assert (Verdict.OK, "idle") == judge_lag(samples((5, 5), (5, 5)))
    assert (Verdict.OK, "no lag") == judge_lag(samples((4, 5), (9, 9)))


def test_a_partition_that_did_not_move_for_ten_seconds_has_stalled():
    verdict, reason = judge_lag(samples(*[(5, 9 + second) for second in range(11)]))

    assert Verdict.FAIL == verdict
    assert "stalled: no progress for 10 s, 14 records behind" == reason


def test_nine_seconds_without_progress_are_no_stall():
    assert Verdict.OK == judge_lag(samples(*[(5, 9)] * 10))[0]


def test_a_stall_begins_when_the_first_record_waits():
    quiet_then_busy = samples(*[(5, 5)] * 20, *[(5, 6)] * 9)

    assert Verdict.OK == judge_lag(quiet_then_busy)[0]


def test_a_lag_that_rises_throughout_is_a_warning():
    verdict, reason = judge_lag(samples(*[(second, 10 + 3 * second) for second in range(20)]))

    assert Verdict.WARN == verdict
    assert "falls behind: 10 → 48 records in 19 s" == reason


def test_a_great_lag_that_shrinks_is_keeping_up():
    assert (Verdict.OK, "9943 records behind, keeping up") == judge_lag(
        samples(*[(3 * second, 10_000) for second in range(20)])
    )


def test_a_window_keeps_the_last_samples_and_tells_where_the_partition_is():
    window = LagWindowState()
    empty = window.status("pages", 3)
    for second in range(LAG_SAMPLES + 5):
        window.add(LagSample(1_000 * second, second, 2 * second))

    status = window.status("pages", 3, lag_seconds=1.5)

    assert PartitionStatus("pages", 3, 0, None, None, None, Verdict.OK, "not read yet") == empty
    assert (34, 68, 34, 1.5) == (status.next_offset, status.end_offset, status.lag_records, status.lag_seconds)
    assert "falls behind: 5 → 34 records in 29 s" == status.reason


# ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_loop_has_no_complaints():
    status = look(make_member())

    assert Verdict.OK == status.verdict
    assert ["score", "join", "learn"] == [finding.about for finding in status.findings]


def test_a_loop_without_processes_says_how_to_start_one():
    status = look(make_member(time_ms=0), now_ms=60_000)

    assert Verdict.FAIL == status.verdict
    assert () == status.members
    assert "tailrace run" in status.findings[0].reason


def test_a_silent_member_is_a_warning():
    assert [Finding("m1", Verdict.WARN, "was last heard 5 s ago", Condition.PROCESS_SILENT)] == complaints(
        look(make_member(time_ms=5_000))
    )


def test_a_silent_member_owns_nothing_that_another_has_taken_over():
    status = look(make_member(time_ms=5_000), make_member("m2"))

    assert ["was last heard 5 s ago"] == [each.reason for each in complaints(status)]
    assert "1 of 1 running" in {each.reason for each in status.findings}


def test_a_role_that_nobody_has_is_a_failure():
    status = look(make_member(roles=make_member().roles[:2]))

    assert [("learn", Verdict.FAIL)] == [(each.about, each.verdict) for each in complaints(status)]


def test_a_role_that_has_failed_says_why():
    failed = RoleStatus(Role.LEARN, RoleState.FAILED, "the log was recreated")
    silent = RoleStatus(Role.LEARN, RoleState.FAILED)

    assert [Finding("learn", Verdict.FAIL, "the log was recreated", Condition.LEARNING_STOPPED)] == complaints(
        look(make_member(roles=(*make_member().roles[:2], failed)))
    )
    assert [Finding("learn", Verdict.FAIL, "failed", Condition.LEARNING_STOPPED)] == complaints(
        look(make_member(roles=(*make_member().roles[:2], silent)))
    )


@pytest.mark.parametrize(("reason", "told"), [("", "restoring"), ("folds the tail", "restoring: folds the tail")])
def test_a_role_that_is_still_restoring_is_a_warning(reason: str, told: str):
    restoring = RoleStatus(Role.LEARN, RoleState.RESTORING, reason)

    status = look(make_member(roles=(*make_member().roles[:2], restoring)))

    assert [Finding("learn", Verdict.WARN, told, Condition.LEARNING_STARTING)] == complaints(status)


def test_a_partition_without_an_owner_is_a_failure():
    score = RoleStatus(Role.SCORE, RoleState.RUNNING, "", reads("pages", 0))

    status = look(make_member(roles=(score, *make_member().roles[1:])))

    assert [
        Finding("score", Verdict.FAIL, "nobody reads pages partition 1", Condition.PARTITIONS_UNREAD)
    ] == complaints(status)


def test_a_partition_without_an_owner_is_a_warning_while_a_member_settles():
    score = RoleStatus(Role.SCORE, RoleState.RUNNING, "", reads("pages", 0))
    starting = RoleStatus(Role.SCORE, RoleState.STARTING)

    status = look(make_member(roles=(score, *make_member().roles[1:])), make_member("m2", roles=(starting,)))

    assert [
        Finding("score", Verdict.WARN, "nobody reads pages partition 1", Condition.PARTITIONS_UNREAD)
    ] == complaints(status)


def test_many_partitions_without_an_owner_are_not_all_named():
    score = RoleStatus(Role.SCORE, RoleState.RUNNING)

    status = picture("phishing", [make_member(roles=(score,))], 10_000, {Role.SCORE: {"pages": 20}})

    assert "nobody reads pages partitions 0, 1, 2, 3, 4, 5, 6, 7 …" == complaints(status)[0].reason


def test_a_partition_with_two_owners_is_a_warning():
    status = look(make_member(), make_member("m2", roles=make_member().roles[:1]))

    assert ["two processes say they read pages partitions 0, 1"] == [each.reason for each in complaints(status)]


def test_the_verdict_about_a_partition_is_taken_over():
    score = RoleStatus(Role.SCORE, RoleState.RUNNING, "", reads("pages", 0, 1, verdict=Verdict.FAIL, reason="stalled"))

    status = look(make_member(roles=(score, *make_member().roles[1:])))

    assert ["score pages/0", "score pages/1"] == [finding.about for finding in complaints(status)]
    assert Verdict.FAIL == status.findings[0].verdict


def test_a_snapshot_is_late_after_three_intervals_if_the_model_has_moved():
    snapshot = SnapshotStatus(number=4, position=50, time_ms=0, size_bytes=9, every_ms=2_000)
    late = make_member(snapshot=snapshot)
    idle = make_member(snapshot=replace(snapshot, position=100))
    recent = make_member(snapshot=replace(snapshot, time_ms=5_000))

    assert ["the last one is 10 s old, one is due every 2 s"] == [each.reason for each in complaints(look(late))]
    assert [] == complaints(look(idle))
    assert [] == complaints(look(recent))


@pytest.mark.parametrize(
    ("quality", "is_told"),
    [
        (Quality("accuracy", "all", 0.5, 500, {"prior": 0.6}), True),
        (Quality("accuracy", "all", 0.7, 500, {"prior": 0.6}), False),
        (Quality("accuracy", "all", 0.5, 499, {"prior": 0.6}), False),
        (Quality("log_loss", "all", 0.7, 500, {"prior": 0.6}), True),
        (Quality("log_loss", "all", 0.5, 500, {"prior": 0.6}), False),
        (Quality("log_loss", "all", None, 500, {"prior": 0.6}), False),
    ],
)
def test_a_model_that_does_not_beat_a_baseline_is_a_warning(quality: Quality, is_told: bool):
    assert is_told == bool(complaints(look(make_member(quality=(quality,)))))


def test_the_picture_shows_the_member_that_is_furthest_and_adds_the_counters():
    quality = (Quality("accuracy", "all", 0.9, 5),)
    snapshot = SnapshotStatus(4, 90, 9_000, 9, 30_000)
    scorer = make_member("scorer", roles=make_member().roles[:2], label_to_influence=Quantiles(1.0, 2.0, 3))
    learner = make_member("learner", roles=make_member().roles[2:], quality=quality, snapshot=snapshot)
    behind = make_member("behind", roles=(), model=ModelStatus("champion", "a", 50, 1))

    status = look(scorer, learner, behind)

    assert ["behind", "learner", "scorer"] == [member.member for member in status.members]
    assert {"events_scored": 15} == status.counters
    assert (learner.model, quality, snapshot) == (status.model, status.quality, status.snapshot)
    assert Quantiles(1.0, 2.0, 3) == status.label_to_influence


def test_a_picture_without_any_model_still_stands():
    status = look(make_member(model=None))

    assert (None, (), None, None) == (status.model, status.quality, status.snapshot, status.label_to_influence)


def finding_about(found: LoopStatus, about: str) -> Finding | None:
    return next((each for each in found.findings if each.about == about), None)


def test_two_members_that_came_to_different_states_of_one_log_are_a_failure():
    """Guards the alarm: the picture itself compares, whether or not a follower has stopped."""
    mine, theirs = (Digests("l", "log", 5 << 20, {"loop": digest}) for digest in "ab")

    found = look(make_member("m1", digests=(mine,)), make_member("m2", digests=(theirs,)))

    assert Verdict.FAIL is found.verdict
    assert "differs from that of m2 at 5:0 in loop" in finding_about(found, "digest of m1").reason


def test_two_members_that_came_to_the_same_state_are_fine():
    same = Digests("l", "log", 5 << 20, {"loop": "a"})

    found = look(make_member("m1", digests=(same,)), make_member("m2", roles=(), digests=(same,)))

    assert finding_about(found, "digest of m1") is None


@pytest.mark.parametrize(
    ("proof", "verdict", "reason"),
    [
        (ProofStatus(1, 5 << 20, 3, 4), Verdict.OK, "3 of 4 snapshots proven, to 5:0"),
        (ProofStatus(1, 5 << 20, 3, 4, "it differs"), Verdict.FAIL, "it differs"),
    ],
)
def test_what_the_last_verification_found_is_told(proof: ProofStatus, verdict: Verdict, reason: str):
    found = look(make_member("m1", proof=proof), make_member("m2", roles=(), proof=ProofStatus(0, 0, 0, 0)))

    code = Condition.ALL_WELL if verdict is Verdict.OK else Condition.SNAPSHOT_NOT_PROVEN
    assert (proof, Finding("proof", verdict, reason, code)) == (found.proof, finding_about(found, "proof"))


def test_a_follower_that_stopped_is_a_failure_and_one_that_nobody_asked_for_is_not_missed():
    stopped = RoleStatus(Role.FOLLOW, RoleState.FAILED, "it diverged")

    with_it, without = look(make_member(), make_member("m2", roles=(stopped,))), look(make_member())

    assert Finding("follow", Verdict.FAIL, "it diverged", Condition.FOLLOWING_STOPPED) == finding_about(
        with_it, "follow"
    )
    assert finding_about(without, "follow") is None


def test_a_follower_that_takes_the_snapshots_is_missed():
    found = picture("phishing", [make_member()], 10_000, EXPECTED | {Role.FOLLOW: {}})

    assert "no process does it; start one with `tailrace run --role follow`" == finding_about(found, "follow").reason


def test_a_snapshot_that_a_follower_takes_is_that_of_the_loop():
    late = SnapshotStatus(1, 50, 0, 1, 1_000)
    newest = SnapshotStatus(2, 100, 9_000, 1, 1_000)

    found = look(make_member("m1", snapshot=late), make_member("m2", model=None, roles=(), snapshot=newest))

    assert Finding("snapshot", Verdict.OK, "number 2 at 0:100") == finding_about(found, "snapshot")


def test_what_is_to_be_said_of_a_role_that_runs_is_a_warning():
    reason = "2 snapshots wait: the store takes nothing since 40 s; learning and serving go on"
    roles = (*make_member().roles[:2], RoleStatus(Role.LEARN, RoleState.RUNNING, reason))

    status = look(make_member(roles=roles))

    assert Finding("learn", Verdict.WARN, reason, Condition.LEARNING_HINDERED) == status.findings[0]
    assert "1 of 1 running" not in {each.reason for each in status.findings if each.about == "learn"}

"""The first sentence about a loop says what is the matter, why, what it means, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tailrace.domain.headlines import ADVICE, Headline, headline_of, span
from tailrace.domain.proof import Digests, ProofStatus
from tailrace.domain.status import (
    Condition,
    Finding,
    MemberStatus,
    ModelStatus,
    PartitionStatus,
    Quality,
    Role,
    RoleState,
    RoleStatus,
    ServingStatus,
    SnapshotStatus,
    Verdict,
)
from tailrace.domain.verdicts import picture

EXPECTED = {Role.SCORE: {"pages": 1}, Role.JOIN: {"verdicts": 1}, Role.LEARN: {"training": 1}}
INPUTS = {Role.SCORE: "pages", Role.JOIN: "verdicts", Role.LEARN: "training"}


def make_roles(**changes: Any) -> tuple[RoleStatus, ...]:
    """Every role with its one partition; `learn={"state": …}` changes what is said of that one."""
    found = []
    for role, topic in INPUTS.items():
        fields: dict[str, Any] = {"state": RoleState.RUNNING, "reason": "", "verdict": Verdict.OK, "why": "no lag"}
        fields |= {"lag_records": 0, "lag_seconds": 0.0, **changes.get(role.value, {})}
        at = PartitionStatus(
            topic, 0, 5, 5, fields["lag_records"], fields["lag_seconds"], fields["verdict"], fields["why"]
        )
        found.append(RoleStatus(role, fields["state"], fields["reason"], (at,)))
    return tuple(found)


def make_member(name: str = "m1", **changes: Any) -> MemberStatus:
    fields: dict[str, Any] = {
        "member": name,
        "loop": "phishing",
        "version": "1",
        "time_ms": 10_000,
        "started_ms": 0,
        "roles": make_roles(),
        "serving": ServingStatus(7, 0.4, 0, 3.0),
    }
    return MemberStatus(**(fields | changes))


def headline(*members: MemberStatus, now_ms: int = 10_000) -> Headline:
    return headline_of(picture("phishing", members, now_ms, EXPECTED))


def test_a_loop_that_is_well_says_so():
    found = headline(make_member())

    assert (Condition.ALL_WELL, Verdict.OK) == (found.code, found.verdict)
    assert found.sentence == (
        "All is well in 1 process; predictions are served from a state that is up to date; nothing needs to be done."
    )


def test_learning_that_falls_behind_says_how_far_why_what_is_served_and_what_to_do():
    behind = {"verdict": Verdict.WARN, "why": "falls behind: 10 → 48 records in 19 s", "lag_seconds": 40.2}

    found = headline(make_member(roles=make_roles(learn=behind), serving=ServingStatus(7, 41.0, 48)))

    assert (Condition.LEARNING_BEHIND, Verdict.WARN) == (found.code, found.verdict)
    assert found.sentence == (
        "Learning is 40 s behind because more comes than it handles (10 → 48 records in 19 s); "
        "predictions are served from a state 41 s old; give learning a process of its own "
        "(`tailrace run --role learn`), or configure a cheaper model."
    )


def test_where_the_age_of_a_lag_is_not_known_records_are_told():
    behind = {"verdict": Verdict.WARN, "why": "falls behind: 1 → 9 records in 19 s", "lag_seconds": None}

    found = headline(make_member(roles=make_roles(score=behind | {"lag_records": 9}), serving=None))

    assert found.sentence.startswith("Scoring is 9 records behind because ")
    assert "; predictions are served; " in found.sentence


def test_nothing_that_runs_makes_no_predictions():
    found = headline()

    assert (Condition.NO_PROCESS, Verdict.FAIL) == (found.code, found.verdict)
    assert found.sentence == (
        "Nothing runs because no process was heard in the last minute; no new predictions are made; "
        "start one with `tailrace run`."
    )


@pytest.mark.parametrize(
    ("change", "code", "begins"),
    [
        (
            {"learn": {"state": RoleState.FAILED, "reason": "the log was recreated"}},
            Condition.LEARNING_STOPPED,
            "Learning has stopped because the log was recreated; predictions are served from",
        ),
        (
            {"score": {"verdict": Verdict.FAIL, "why": "stalled: no progress for 10 s, 14 records behind"}},
            Condition.SCORING_STALLED,
            "Scoring makes no progress for 10 s, 14 records behind; no new predictions are made; ",
        ),
        (
            {"join": {"state": RoleState.RESTORING, "reason": "waiting events are read"}},
            Condition.JOINING_STARTING,
            "Joining has not begun: restoring: waiting events are read; predictions are served",
        ),
        (
            {"learn": {"reason": "1 snapshot waits"}},
            Condition.LEARNING_HINDERED,
            "Learning goes on, but 1 snapshot waits; predictions are served",
        ),
    ],
)
def test_a_role_says_what_is_the_matter_with_it(change: Any, code: Condition, begins: str):
    found = headline(make_member(roles=make_roles(**change)))

    assert code == found.code
    assert found.sentence.startswith(begins)


def test_what_fails_is_said_before_what_warns_and_the_cause_before_what_it_causes():
    roles = make_roles(
        learn={"state": RoleState.FAILED, "reason": "the log was recreated"},
        join={"verdict": Verdict.FAIL, "why": "stalled: no progress for 10 s, 1 records behind"},
        score={"verdict": Verdict.WARN, "why": "falls behind: 1 → 2 records in 19 s"},
    )

    assert Condition.LEARNING_STOPPED == headline(make_member(roles=roles)).code


def test_a_process_that_is_gone_from_one_partition_is_named():
    found = headline(make_member(roles=make_roles()[:1] + make_roles()[2:]), make_member("m2", roles=()))

    assert Condition.JOINING_STOPPED == found.code
    assert "`tailrace run --role join`" in found.sentence


def test_a_process_that_only_serves_the_api_is_no_missing_role_and_does_no_work_of_the_loop():
    alone = make_member("m2", roles=(), serving=None)

    assert headline(make_member()) == headline(make_member(), alone)
    assert (Condition.SCORING_STOPPED, Verdict.FAIL) == (headline(alone).code, headline(alone).verdict)


def findings_of_each_kind() -> Iterable[Finding]:
    """Every finding that the picture of some loop can hold."""
    late = SnapshotStatus(1, 3, 0, 9, 1_000)
    model = ModelStatus("champion", "a", 100, 3)
    digest = [Digests("l", "log", 5 << 20, {"loop": each}) for each in "ab"]
    twice = make_member("m2", time_ms=9_000)
    worse = (Quality("accuracy", "all", 0.5, 9_000, {"prior": 0.6}),)
    for members in (
        (),
        (make_member(model=model, snapshot=late, quality=worse),),
        (make_member(time_ms=1_000),),
        (make_member(), twice),
        (make_member(roles=(*make_roles(), RoleStatus(Role.FOLLOW, RoleState.FAILED, "it diverged"))),),
        (make_member(roles=tuple(RoleStatus(role, RoleState.RUNNING) for role in INPUTS)),),
        (make_member(digests=(digest[0],)), make_member("m2", digests=(digest[1],))),
        (make_member(proof=ProofStatus(1, 5, 0, 1, "it differs")),),
    ):
        yield from picture("phishing", members, 10_000, EXPECTED).findings


@pytest.mark.parametrize("found", list(findings_of_each_kind()), ids=lambda found: found.code.value)
def test_every_finding_can_be_said(found: Finding):
    status = picture("phishing", [make_member()], 10_000, EXPECTED)

    said = headline_of(type(status)("phishing", 1, status.members, (found,), {}, None, (), None, None))

    assert found.code == said.code
    assert (found.verdict is Verdict.OK) == (said.code is Condition.ALL_WELL)
    assert said.sentence.endswith(".")
    assert "{" not in said.sentence


@pytest.mark.parametrize("code", Condition)
def test_every_condition_has_advice_and_can_be_said(code: Condition):
    status = picture("phishing", [make_member()], 10_000, EXPECTED)
    found = Finding("learn training/0", Verdict.WARN, "falls behind: 1 → 2 records in 19 s", code)

    said = headline_of(type(status)("phishing", 1, status.members, (found,), {}, None, (), None, None))

    assert ADVICE[code].meaning.endswith(".")
    assert said.sentence.endswith(f"; {ADVICE[code].action}.")


def test_a_reason_that_says_alone_what_to_do_is_not_followed_by_other_advice():
    status = picture("phishing", [make_member()], 10_000, EXPECTED)
    found = Finding("learn", Verdict.WARN, "`tailrace upgrade` builds it", Condition.LEARNING_HINDERED)

    said = headline_of(type(status)("phishing", 1, status.members, (found,), {}, None, (), None, None))

    assert "Learning goes on, but `tailrace upgrade` builds it; predictions are served." == said.sentence


def test_lengths_of_time_are_told_in_words_of_a_sentence():
    assert ["0 s", "119 s", "2 min", "2 h", "3 days"] == [
        span(seconds) for seconds in (0.2, 119.0, 120.0, 7_300.0, 259_200.0)
    ]

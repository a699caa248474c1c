"""The picture of a loop in one sentence that a person can act on."""

from __future__ import annotations

import pytest

from tailrace.domain.status import Finding, LoopStatus, MemberStatus, Role, Verdict, in_one_sentence

MEMBER = MemberStatus("m1", "phishing", "1", 9_000, 0)


def make_status(*findings: Finding, members: tuple[MemberStatus, ...] = (MEMBER,)) -> LoopStatus:
    return LoopStatus("phishing", 10_000, members, findings, {}, None, (), None, None)


def say(*findings: Finding, state_age_s: float | None = 0.2, **behind_s: float) -> str:
    return in_one_sentence(make_status(*findings), {Role(name): each for name, each in behind_s.items()}, state_age_s)


def test_a_loop_that_keeps_up_asks_for_nothing():
    fine = Finding("learn", Verdict.OK, "1 of 1 running")

    assert "Scoring, joining and learning keep up; predictions are served from a state that is up to date." == say(
        fine, learn=4.9, state_age_s=0.9
    )


def test_a_loop_without_processes_says_what_starts_one():
    assert (
        "Nothing runs: no process was heard in the last minute; do start one with `tailrace run`."
        == in_one_sentence(make_status(members=()), {}, None)
    )


def test_learning_that_is_behind_says_how_far_and_why_and_what_to_do():
    nobody = Finding("learn", Verdict.FAIL, "no process does it; start one with `tailrace run --role learn`")

    assert (
        "Learning is 40 s behind because no process does it; predictions are served from a state 41 s old; "
        "do start one with `tailrace run --role learn`." == say(nobody, learn=40.0, state_age_s=41.0)
    )


def test_what_fares_worst_is_spoken_of_before_what_is_furthest_behind():
    slow = Finding("score pages/0", Verdict.WARN, "falls behind: 5 → 90 records in 12 s")

    said = say(slow, learn=400.0, score=9.0)

    assert said.startswith("Scoring is 9 s behind because falls behind: 5 → 90 records in 12 s;")
    assert said.endswith("do start one more process with `tailrace run --role score`.")


def test_a_backlog_without_a_finding_needs_nothing():
    assert "Joining is 6 s behind because there is more to do than was done yet; no process serves predictions." == say(
        join=6.0, state_age_s=None
    )


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (
            "stalled: no progress for 12 s, 7 records behind",
            "look at `tailrace doctor`, then at the log of that process",
        ),
        ("nobody reads pages partition 1", "start one more process with `tailrace run --role learn`"),
    ],
)
def test_the_advice_fits_the_reason(reason: str, advice: str):
    said = say(Finding("learn", Verdict.WARN, reason))

    assert said.startswith(f"Learning has no backlog, and yet: {reason};")
    assert said.endswith(f"; do {advice}.")


@pytest.mark.parametrize("reason", ["starting", "restoring: reads the log"])
def test_what_has_just_begun_is_waited_for(reason: str):
    said = say(Finding("learn", Verdict.WARN, reason), state_age_s=None)

    assert (
        f"Learning is {reason}; no process serves predictions; do wait, and if this lasts look at `tailrace doctor`."
        == said
    )


def test_a_model_that_is_worse_than_a_trivial_one_is_told_although_all_keep_up():
    worse = Finding("model", Verdict.WARN, "accuracy (rolling) is 0.4, no_change has 0.5")

    assert (
        "Scoring, joining and learning keep up; predictions are served from a state 3 s old; but model: accuracy "
        "(rolling) is 0.4, no_change has 0.5; do look at `tailrace status`, which shows where."
        == say(worse, state_age_s=3.0)
    )

"""A loop in one sentence that a person can act on: what is the matter, why, what it means for predictions, what to do.

The same sentence stands first in `tailrace status`, in the API and in the console. Its code is the name of the alert
and of the page of the runbook; `ADVICE` says of every code what an alert about it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from tailrace.domain.status import Condition, Finding, LoopStatus, Role, RoleState, Verdict

FRESH_S: Final = 5.0
"""A serving state that is younger serves as if it were of this moment."""


class Advice(NamedTuple):
    """What may be said of a condition before anybody has looked.

    Attributes:
        meaning: A sentence.
        action: What to do, as a clause that begins with a verb.
    """

    meaning: str
    action: str


@dataclass(frozen=True, slots=True)
class Headline:
    """The first sentence about a loop.

    Attributes:
        code: What is the matter most.
        verdict: How bad it is.
        sentence: What, why, what it means for predictions, and what to do.
    """

    code: Condition
    verdict: Verdict
    sentence: str


_LOG_OF_PROCESS: Final = "read the log of the process that `tailrace status` names"
_RESTART: Final = f"{_LOG_OF_PROCESS}, remove the cause, then start it again"
_MORE: Final = "start another process for it, or give the one that has it more CPU"
_WAIT: Final = "wait; if it takes more than some minutes, " + _LOG_OF_PROCESS

ADVICE: Final[Mapping[Condition, Advice]] = {
    Condition.NO_PROCESS: Advice("No process of the loop runs.", "start one with `tailrace run`"),
    Condition.DIGESTS_DIFFER: Advice(
        "Two processes came to different states of one log.",
        "run `tailrace verify`, which says which of the two is right, and stop the other one",
    ),
    Condition.SNAPSHOT_NOT_PROVEN: Advice(
        "Folding the log again did not come to what a snapshot holds, or could not be done.",
        "run `tailrace verify`, and promote or roll back nothing before it says equal",
    ),
    Condition.SCORING_STOPPED: Advice("Nothing scores events.", _RESTART),
    Condition.JOINING_STOPPED: Advice("Nothing joins labels with events.", _RESTART),
    Condition.LEARNING_STOPPED: Advice("Nothing learns; serving goes on with what was learned.", _RESTART),
    Condition.FOLLOWING_STOPPED: Advice("A follower of the log stopped.", _RESTART),
    Condition.PARTITIONS_UNREAD: Advice(
        "No process reads some partitions.", "start another process, or restart the one that should read them"
    ),
    Condition.SCORING_STALLED: Advice("Scoring makes no progress although events wait.", _RESTART),
    Condition.JOINING_STALLED: Advice("The join makes no progress although records wait.", _RESTART),
    Condition.LEARNING_STALLED: Advice("Learning makes no progress although examples wait.", _RESTART),
    Condition.FOLLOWING_STALLED: Advice("A follower makes no progress although the log goes on.", _RESTART),
    Condition.PROCESS_SILENT: Advice(
        "A process was not heard for some seconds.", "look whether it lives; others take over what it read"
    ),
    Condition.SCORING_STARTING: Advice("Scoring has not begun yet.", _WAIT),
    Condition.JOINING_STARTING: Advice("The join restores what waited.", _WAIT),
    Condition.LEARNING_STARTING: Advice("Learning restores its state.", _WAIT),
    Condition.FOLLOWING_STARTING: Advice("A follower restores its state.", _WAIT),
    Condition.SCORING_HINDERED: Advice(
        "Scoring runs, on an older state than the newest published one.", "do what the reason names"
    ),
    Condition.JOINING_HINDERED: Advice("The join runs, with a remark.", "do what the reason names"),
    Condition.LEARNING_HINDERED: Advice(
        "Learning runs; snapshots cannot be taken or stored, or a branch is held back.", "do what the reason names"
    ),
    Condition.FOLLOWING_HINDERED: Advice("A follower runs, with a remark.", "do what the reason names"),
    Condition.SCORING_BEHIND: Advice("More events come than are scored.", _MORE),
    Condition.JOINING_BEHIND: Advice("More records come than are joined.", _MORE),
    Condition.LEARNING_BEHIND: Advice(
        "More examples come than are learned.",
        "give learning a process of its own (`tailrace run --role learn`), or configure a cheaper model",
    ),
    Condition.FOLLOWING_BEHIND: Advice(
        "A follower falls behind the log.", "give its process more CPU, or configure a cheaper model"
    ),
    Condition.PARTITIONS_READ_TWICE: Advice(
        "Two processes say that they read one partition.", "wait for the rebalance to end; one of them lets go"
    ),
    Condition.SNAPSHOT_LATE: Advice(
        "No snapshot was completed for several intervals.",
        "see whether the store takes what is written; a restart would fold a longer tail of the log",
    ),
    Condition.MODEL_WORSE_THAN_BASELINE: Advice(
        "The model predicts worse than a trivial one.",
        "look at drift and at the labels; roll back, or promote another model",
    ),
    Condition.ALL_WELL: Advice("Everything runs and keeps up.", "nothing needs to be done"),
}
"""What is said of each condition: `meaning` sums up an alert, `action` says what to do."""


_SAID: Final[Mapping[str, str]] = {
    "stopped": "has stopped because {reason}",
    "stalled": "makes {reason}",
    "starting": "has not begun: {reason}",
    "hindered": "goes on, but {reason}",
}
"""State of a role, the second half of a code → how it is said."""

_BEGUN: Final[Mapping[Condition, str]] = {
    Condition.DIGESTS_DIFFER: "The {about} {reason}",
    Condition.SNAPSHOT_NOT_PROVEN: "A snapshot is not proven: {reason}",
    Condition.PROCESS_SILENT: "The process {about} {reason}",
    Condition.PARTITIONS_UNREAD: "Records wait because {reason}",
    Condition.PARTITIONS_READ_TWICE: "Records may be read twice because {reason}",
    Condition.SNAPSHOT_LATE: "Snapshots are late: {reason}",
    Condition.MODEL_WORSE_THAN_BASELINE: "The model is worse than a trivial one: {reason}",
    Condition.NO_PROCESS: "Nothing runs because {reason}",
}


def headline_of(status: LoopStatus) -> Headline:
    """Return the first sentence about a loop: its worst finding, the one to look at first among equally bad ones."""
    order = list(Condition)
    troubles = [each for each in status.findings if each.verdict is not Verdict.OK]
    worst = min(
        troubles,
        key=lambda each: (each.verdict is not Verdict.FAIL, order.index(each.code)),
        default=Finding("loop", Verdict.OK, ""),
    )
    reason, _, action = worst.reason.rpartition("; ")
    if "`tailrace " in action and reason:
        worst = replace(worst, reason=reason)
    elif "`tailrace " not in worst.reason:
        action = ADVICE[worst.code].action
    else:
        action = ""
    said = filter(None, (_matter(worst, status), _serving(worst, status), action))
    return Headline(worst.code, worst.verdict, f"{'; '.join(said)}.")


def _matter(found: Finding, status: LoopStatus) -> str:
    """Return what is the matter and why."""
    if found.code is Condition.ALL_WELL:
        running = sum(any(role.state is RoleState.RUNNING for role in member.roles) for member in status.members)
        return f"All is well in {running} process{'es' if running != 1 else ''}"
    begun = _BEGUN.get(found.code)
    if begun is not None:
        return begun.format(about=found.about, reason=found.reason)
    gerund, _, state = found.code.partition("_")
    if state == "behind":
        trend = found.reason.partition(": ")[2]
        return f"{gerund.capitalize()} is {_how_far(found, status)} behind because more comes than it handles ({trend})"
    return f"{gerund.capitalize()} {_SAID[state].format(reason=found.reason.removeprefix('stalled: '))}"


def _how_far(found: Finding, status: LoopStatus) -> str:
    """Return how far the partition that a finding is about is behind."""
    behind = [
        each
        for member in status.members
        for role in member.roles
        for each in role.partitions
        if found.about == f"{role.role} {each.topic}/{each.partition}"
    ]
    ages = [each.lag_seconds for each in behind if each.lag_seconds is not None]
    return span(max(ages)) if ages else f"{sum(each.lag_records or 0 for each in behind)} records"


def _serving(found: Finding, status: LoopStatus) -> str:
    """Return what it means for who reads predictions."""
    scores = any(
        role.role is Role.SCORE and role.state is RoleState.RUNNING
        for member in status.members
        for role in member.roles
    )
    if not scores or found.code in {Condition.SCORING_STOPPED, Condition.SCORING_STALLED}:
        return "no new predictions are made"
    if status.serving is None or status.serving.age_seconds is None:
        return "predictions are served"
    if status.serving.age_seconds < FRESH_S:
        return "predictions are served from a state that is up to date"
    return f"predictions are served from a state {span(status.serving.age_seconds)} old"


def span(seconds: float) -> str:
    """Write a length of time for a sentence: in seconds up to two minutes, then in minutes, hours, days."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

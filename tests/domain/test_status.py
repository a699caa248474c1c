"""The heartbeat of a process and the picture of a loop, as plain values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.domain.errors import CodecError
from tailrace.domain.proof import Digests, ProofStatus
from tailrace.domain.status import (
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
    from_plain,
    to_plain,
    worst,
)

FULL = MemberStatus(
    member="m1",
    loop="phishing",
    version="0.1.0",
    time_ms=1_000,
    started_ms=10,
    pid=7,
    roles=(
        RoleStatus(
            Role.SCORE, RoleState.RUNNING, "", (PartitionStatus("pages", 0, 5, 9, 4, 0.5, Verdict.WARN, "slow"),)
        ),
        RoleStatus(Role.LEARN, RoleState.RESTORING, "folds the tail"),
    ),
    counters={"events_scored": 5},
    model=ModelStatus("champion", "a" * 64, 5 << 20, learned=3, skipped=1, digest="d"),
    quality=(Quality("accuracy", "rolling", 0.9, 100, {"prior": 0.5}), Quality("log_loss", "all", None, 0)),
    snapshot=SnapshotStatus(4, 3 << 20, 900, 1_234, 30_000, "s"),
    label_to_influence=Quantiles(5.0, 50.0, 100),
    digests=(Digests("l", "log", 5 << 20, {"loop": "d"}),),
    proof=ProofStatus(900, 5 << 20, 3, 4, "differs"),
)
BARE = MemberStatus("m1", "phishing", "0.1.0", 1_000, 10)


@pytest.mark.parametrize("status", [FULL, BARE])
def test_a_heartbeat_comes_back_from_its_plain_form_through_json(status: MemberStatus):
    assert status == from_plain(json.loads(json.dumps(to_plain(status))))


def test_fields_of_a_newer_version_are_ignored():
    assert BARE == from_plain(to_plain(BARE) | {"mood": "fine"})


def test_fields_that_have_a_default_may_be_missing():
    plain = {name: value for name, value in to_plain(BARE).items() if name in {"member", "loop", "version"}}

    assert BARE == from_plain(plain | {"time_ms": 1_000, "started_ms": 10})


@pytest.mark.parametrize(
    "changes",
    [
        {"member": None},
        {"time_ms": "1"},
        {"time_ms": True},
        {"counters": []},
        {"roles": 5},
        {"roles": [{"role": "score"}]},
        {"roles": [{"role": "dance", "state": "running"}]},
        {"roles": [{"role": "score", "state": "running", "partitions": [{}]}]},
        {"model": {"name": "champion"}},
        {"model": "champion"},
        {"quality": [1]},
    ],
)
def test_a_heartbeat_that_cannot_be_read_is_refused_as_a_whole(changes: dict[str, Any]):
    with pytest.raises(CodecError, match="heartbeat cannot be read"):
        from_plain(to_plain(BARE) | changes)


def test_the_picture_of_a_loop_is_plain_with_its_verdict():
    picture = LoopStatus(
        "phishing", 1_000, (FULL,), (Finding("learn", Verdict.WARN, "slow"),), {}, None, (), None, None
    )

    plain = json.loads(json.dumps(to_plain(picture)))

    assert "warn" == plain["verdict"]
    assert "score" == plain["members"][0]["roles"][0]["role"]


def test_the_worst_verdict_counts_and_nothing_is_ok():
    assert Verdict.OK == worst([])
    assert Verdict.WARN == worst([Verdict.OK, Verdict.WARN])
    assert Verdict.FAIL == worst([Verdict.FAIL, Verdict.WARN, Verdict.OK])


def test_quantiles_are_the_nearest_ranks():
    assert Quantiles.of([]) is None
    assert Quantiles(7.0, 7.0, 1) == Quantiles.of([7])
    assert Quantiles(50.0, 99.0, 100) == Quantiles.of(range(100, 0, -1))

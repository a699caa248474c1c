"""`tailrace status`: the picture of a loop from its log alone."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop

from tailrace.cli import status as command
from tailrace.cli.status_table import span
from tailrace.domain.status import MemberStatus, PartitionStatus, Role, RoleState, RoleStatus
from tailrace.inspection.reading import opened
from tailrace.settings import load
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.wire.avro_codec import encode_status

INPUTS = {
    Role.SCORE: ("phishing-pages",),
    Role.JOIN: ("phishing.scored", "phishing-verdicts", "phishing.relabelled"),
    Role.LEARN: ("phishing.training",),
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def make_role(role: Role, *, next_offset: int = 1_000, end_offset: int = 1_000) -> RoleStatus:
    """Return a running role that has all its partitions."""
    partitions = tuple(
        PartitionStatus(topic, number, next_offset, end_offset, end_offset - next_offset, None)
        for topic in INPUTS[role]
        for number in range(1 if topic == "phishing.training" else 2)
    )
    return RoleStatus(role, RoleState.RUNNING, partitions=partitions)


def make_heartbeat(time_ms: int, *roles: RoleStatus, member: str = "member-a") -> MemberStatus:
    return MemberStatus(member, "phishing", "0.1.0", time_ms, time_ms - 60_000, roles=roles, counters={"learned": 39})


def beat(folder: Path, *heartbeats: MemberStatus | None, member: str = "member-a") -> None:
    """Write heartbeats, each at its time; None is the tombstone of a member that left."""

    async def act() -> None:
        async with opened(load(folder / "tailrace.toml", environ={})) as reading, reading.sink() as sink:
            for each in heartbeats:
                record = Outgoing(member.encode(), each and encode_status(each))
                with pytest.MonkeyPatch.context() as patch:
                    if each is not None:
                        patch.setattr(time, "time_ns", lambda at_ns=each.time_ms * 1_000_000: at_ns)
                    await (await sink.send(TopicPartition("phishing.status", 0), [record]))

    asyncio.run(act())


def all_roles(**offsets: int) -> list[RoleStatus]:
    return [make_role(role, **offsets) for role in INPUTS]


def told(run: Run) -> dict:
    return json.loads(run("status", "-o", "json").out)


def test_a_loop_that_nobody_runs_fails_and_still_tells_its_model(run: Run, ran_loop: RanLoop):
    ran = run("status", "-o", "json")

    found = json.loads(ran.out)
    assert (1, "fail") == (ran.code, found["verdict"])
    assert "start one with `tailrace run`" in found["findings"][0]["reason"]
    assert ran_loop.learned == found["model"]["learned"]
    assert 0 <= found["snapshot_age_seconds"] < 600


def test_a_member_that_left_is_not_in_the_picture(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms(), *all_roles()), None)

    assert [] == told(run)["members"]


def test_a_running_fleet_is_well(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms(), *all_roles()))

    ran = run("status", "-o", "json")

    found = json.loads(ran.out)
    assert (0, "ok") == (ran.code, found["verdict"])
    assert ["member-a"] == [member["member"] for member in found["members"]]
    assert {"score": "tailrace.phishing.score", "join": "tailrace.phishing.join"}.items() <= found["groups"].items()
    assert {"learned": 39, "skipped": 0} == found["books"]["examples"]
    assert all(("ok", ["member-a"]) == (each["verdict"], each["members"]) for each in found["progress"])


def test_a_role_that_nobody_does_fails(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms(), make_role(Role.SCORE), make_role(Role.JOIN)))

    ran = run("status", "-o", "json")

    assert 1 == ran.code
    worst = json.loads(ran.out)["findings"][0]
    assert ("learn", "fail") == (worst["about"], worst["verdict"])


def test_a_partition_that_stands_still_is_judged_by_the_heartbeats_of_the_last_seconds(run: Run, ran_loop: RanLoop):
    roles = all_roles(next_offset=10, end_offset=20)
    beat(ran_loop.folder, *(make_heartbeat(now_ms() - age_s * 1_000, *roles) for age_s in range(15, -1, -1)))

    ran = run("status", "-o", "json")

    assert 1 == ran.code
    findings = {each["about"]: each for each in json.loads(ran.out)["findings"]}
    assert "stalled: no progress for 15 s, 10 records behind" == findings["score phishing-pages/0"]["reason"]


def test_what_waits_is_told_in_records_and_in_seconds(run: Run, ran_loop: RanLoop):
    run("labels", "send", "--id", "page-50", "--value", "fine")

    of_labels = [each for each in told(run)["progress"] if each["topic"] == "phishing-verdicts"]
    (behind,) = [each for each in of_labels if each["lag_records"]]
    assert (1, "fail", "nobody reads it; 1 record waits") == (
        behind["lag_records"],
        behind["verdict"],
        behind["reason"],
    )
    assert 0 <= behind["lag_seconds"] < 60


def test_the_table_speaks_to_people(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms(), *all_roles()))

    ran = run("status", "-o", "table")

    assert (0, "") == (ran.code, ran.err)
    for words in ("loop phishing  ok", "1 of 1 running", "39 learned", "s old, one every 1s"):
        assert words in ran.out


def test_partitions_that_do_alike_share_a_line(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms(), *all_roles()))

    ran = run("status", "-o", "table")

    (of_pages,) = [line.split() for line in ran.out.splitlines() if " phishing-pages/" in line]
    assert ["score", "phishing-pages/0-1", "member-a", "0", "-", "ok", "idle"] == of_pages


def test_a_partition_whose_reader_fell_silent_is_a_worry_where_records_wait(run: Run, ran_loop: RanLoop):
    beat(ran_loop.folder, make_heartbeat(now_ms() - 10_000, *all_roles(next_offset=0)))
    run("labels", "send", "--id", "page-50", "--value", "fine")

    of_labels = [each for each in told(run)["progress"] if each["topic"] == "phishing-verdicts"]
    (behind,) = [each for each in of_labels if each["lag_records"]]
    assert "warn" == behind["verdict"]
    assert "who reads it was last heard 1" in behind["reason"]


def test_heartbeats_that_cannot_be_read_are_passed_over(run: Run, ran_loop: RanLoop):
    async def act() -> None:
        async with opened(load(ran_loop.folder / "tailrace.toml", environ={})) as reading, reading.sink() as sink:
            await (await sink.send(TopicPartition("phishing.status", 0), [Outgoing(b"member-b", b"?")]))

    asyncio.run(act())

    ran = run("status", "-o", "json")

    assert [] == json.loads(ran.out)["members"]
    assert "heartbeat passed over" in ran.err


def test_watching_looks_again_until_interrupted(run: Run, ran_loop: RanLoop, monkeypatch: pytest.MonkeyPatch):
    printed = []

    def print_three(fields: dict) -> None:
        printed.append(fields)
        if 3 == len(printed):
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "WATCH_EVERY_S", 0.0)
    monkeypatch.setattr(command.output, "json_line", print_three)

    ran = run("status", "--watch", "-o", "json")

    assert 130 == ran.code
    assert ["phishing"] * 3 == [fields["loop"] for fields in printed]


@pytest.mark.parametrize(
    ("span_ms", "shown"),
    [(0, "0 s"), (59_999, "59 s"), (61_000, "1 m 1 s"), (3_661_000, "1 h 1 m"), (90_000_000, "1 d 1 h")],
)
def test_spans_are_shown_in_two_units(span_ms: int, shown: str):
    assert shown == span(span_ms)

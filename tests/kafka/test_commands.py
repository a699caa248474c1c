"""The commands that look at a loop, on a loop that ran on Apache Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command_builders import Ran, Run
from tests.cli.conftest import run  # noqa: F401 - the fixture
from tests.cli.loop_builders import RanLoop, logs_left_alone, run_a_loop

NAME = "commands"


@pytest.fixture
def ran_on_kafka(kafka: str, tmp_path: Path) -> RanLoop:
    return run_a_loop(tmp_path, f"kafka://{kafka}", NAME)


def lines(ran: Ran, code: int = 0) -> list[dict]:
    assert (code, "") == (ran.code, ran.err)
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.kafka
def test_every_command_tells_of_a_loop_on_kafka_what_it_tells_of_an_embedded_one(run: Run, ran_on_kafka: RanLoop):  # noqa: F811
    with logs_left_alone():
        (books,) = lines(run("books", "-o", "json"))
        assert books["balanced"] is True
        assert (60, 41) == (books["balances"]["events"]["total"], books["balances"]["labels"]["total"])

        (verified,) = lines(run("verify", "-o", "json"))
        assert (True, ran_on_kafka.learned) == (verified["equal"], verified["examples"])

        (status,) = lines(run("status", "-o", "json"), code=1)
        assert ran_on_kafka.learned == status["model"]["learned"]
        assert {0} == {each["lag_records"] for each in status["progress"] if each["role"] == "score"}

        (plan,) = lines(run("topics", "plan", "-o", "json"))
        assert [[], [], []] == [plan[part] for part in ("create", "change", "refusals")]

        assert 3 == len(lines(run("dlq", "list", "-o", "json")))
        (letter,) = lines(run("dlq", "list", "--code", "feature_type", "-o", "json"))
        (shown,) = lines(run("dlq", "show", letter["letter"], "-o", "json"))
        assert "page-7" == shown["key"]

        rows = lines(run("log", "cat", "-o", "json"))
        assert ran_on_kafka.learned == sum(row["kind"] == "joined" for row in rows)

        predictions = lines(run("events", "tail", "--from", "earliest", "--limit", "59", "-o", "json"))
        assert 59 == len({each["event_id"] for each in predictions})

        (sent,) = lines(run("labels", "send", "--id", "page-50", "--value", "fine", "-o", "json"))
        assert 1 == sent["sent"]

        findings = {each["name"]: each["verdict"] for each in lines(run("doctor", "-o", "json"))}
        assert {"ok"} == set(findings.values())

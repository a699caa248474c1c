"""`tailrace topics`: nothing is changed without --yes, and nothing at all where a promise is broken."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import write_config

from tailrace.cli import topics as command
from tailrace.inspection.reading import opened
from tailrace.inspection.topics import TopicPlan
from tailrace.settings import load
from tailrace.streams.log import TopicState


def create(folder: Path, *topics: TopicState) -> None:
    async def act() -> None:
        async with opened(load(folder / "tailrace.toml", environ={}), must_exist=False) as reading:
            await reading.admin.create(topics)

    asyncio.run(act())


@pytest.mark.parametrize("words", [("plan",), ("apply",)])
def test_without_yes_the_plan_is_printed_and_nothing_is_made(run: Run, tmp_path: Path, words: tuple[str, ...]):
    write_config(tmp_path)

    ran = run("topics", *words, "-o", "json")

    told = json.loads(ran.out)
    assert 0 == ran.code
    assert 12 == len(told["create"])
    assert told["applied"] is False
    assert not (tmp_path / "data").exists()
    assert ("--yes does it" in ran.err) == (words == ("apply",))


def test_topics_are_made_once(run: Run, tmp_path: Path):
    write_config(tmp_path)

    made = json.loads(run("topics", "apply", "--yes", "-o", "json").out)
    again = json.loads(run("topics", "apply", "--yes", "-o", "json").out)
    planned = run("topics", "plan", "-o", "table")

    assert (12, True) == (len(made["create"]), made["applied"])
    assert [] == again["create"]
    assert "loop phishing: every topic is as it must be\n" == planned.out


def test_partitions_follow_the_inputs_that_exist(run: Run, tmp_path: Path):
    write_config(tmp_path)
    create(tmp_path, TopicState("phishing-pages", 3, 1), TopicState("phishing-verdicts", 4, 1))

    told = json.loads(run("topics", "plan", "-o", "json").out)

    counts = {topic["name"]: topic["partitions"] for topic in told["create"]}
    assert (3, 4, 4, 1) == tuple(
        counts[f"phishing.{name}"] for name in ("predictions", "scored", "relabelled", "training")
    )


def test_a_topic_that_breaks_a_promise_is_refused(run: Run, tmp_path: Path):
    write_config(tmp_path)
    create(tmp_path, TopicState("phishing.training", 1, 1, {"cleanup.policy": "compact"}))

    planned = run("topics", "plan", "-o", "json")
    applied = run("topics", "apply", "--yes")

    assert 1 == planned.code
    assert any("cleanup.policy" in refusal for refusal in json.loads(planned.out)["refusals"])
    assert (5, "") == (applied.code, applied.out)
    assert "cleanup.policy" in applied.err


def test_topics_of_yours_that_are_missing_are_not_said_to_be_well(capsys: pytest.CaptureFixture[str]):
    made = TopicPlan(missing=("pages",))

    command._print("phishing", made, "table", is_applied=False)

    told = capsys.readouterr().out
    assert told.startswith("loop phishing: topics of yours are missing\n")
    assert "`tailrace topics apply --with-inputs --yes`" in told


def test_a_plan_is_a_line_per_topic(run: Run, tmp_path: Path):
    write_config(tmp_path)

    planned = run("topics", "plan", "-o", "table")

    (of_training,) = [line for line in planned.out.splitlines() if " phishing.training " in line]
    assert ["create", "phishing.training", "1", "partition,", "1", "replica"] == of_training.split()[:6]
    assert "retention.ms=-1" in of_training

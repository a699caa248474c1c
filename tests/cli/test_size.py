"""`tailrace size`: a fleet for a rate, without a configuration and without a log."""

from __future__ import annotations

import json

from tests.cli.command_builders import Ran, Run

LINEAR = "StandardScaler() | LogisticRegression()"


def test_a_small_rate_is_one_process(run: Run):
    ran = run("size", "--rate", 500, "--features", 20, "--model", LINEAR, "-o", "json")

    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert (0, ["score", "join", "learn"]) == (ran.code, [row["role"] for row in rows])
    assert all(row["one_process"] and row["keeps_up"] and row["processes"] == 1 for row in rows)
    assert "one process with all roles is enough" in ran.err


def test_a_large_rate_is_a_fleet(run: Run):
    ran = run("size", "--rate", 100_000, "--features", 20, "--model", LINEAR, "-o", "table")

    assert "x `tailrace run --role score`" in ran.err
    assert "partitions for events and labels" in ran.err
    assert ran.out.startswith("role")


def test_a_learner_that_cannot_keep_up_is_said_and_ends_with_1(run: Run):
    ran = run("size", "--rate", 1_000_000, "--features", 20, "--model", LINEAR)

    assert 1 == ran.code
    assert "one learner learns at most" in ran.err


def test_few_labels_are_learned_in_time(run: Run):
    ran = run("size", "--rate", 100_000, "--features", 20, "--model", LINEAR, "--labelled", 0.01)

    assert 0 == ran.code


def test_what_cannot_be_sized_is_refused_with_what_is_allowed(run: Run):
    assert (2, True) == _refusal(run("size", "--rate", 0, "--features", 20, "--model", LINEAR), "a rate above 0")
    assert (2, True) == _refusal(run("size", "--rate", 1, "--features", 0, "--model", LINEAR), "allowed: 1 to")
    assert (3, True) == _refusal(run("size", "--rate", 1, "--features", 20, "--model", "Linear()"), "no class of River")


def _refusal(ran: Ran, words: str) -> tuple[int, bool]:
    return ran.code, words in ran.err

"""SIGKILL of a worker on the embedded log, at named places and at random moments."""

from __future__ import annotations

import json
import signal
from random import Random

from tests.faults.processes import Fleet
from tests.faults.series import ALL, run_series
from tests.scenarios.harness import Scenario, now_ms, pairs

SEED = 7


async def test_a_killed_worker_on_the_embedded_log_goes_on_where_it_was(embedded_form, tmp_path):
    report = await run_series(embedded_form, tmp_path, SEED, apart=False, count=4)

    assert len(report.points) == 4
    assert report.before_commit.total() > 0


async def test_a_killed_worker_goes_on_with_what_it_kept_on_disk(embedded_form, tmp_path):
    """Fails when a set of changes is believed whose block does not count, or one that counts is forgotten."""
    report = await run_series(embedded_form, tmp_path, SEED, apart=False, count=0, join_store="disk")

    assert {"join.block_acknowledged", "join.committed", "join.kept"} <= {point.place for point in report.points}
    told = [json.loads(line) for log in tmp_path.glob("worker-*.log") for line in log.read_text().splitlines()]
    recovered = [line for line in told if line["event"] == "partition recovered"]
    assert all(line["disk"] for line in recovered)
    assert any(line["events_read_again"] < line["remembered"] for line in recovered)


async def test_nothing_is_recorded_as_served_before_it_is_published(embedded_form, tmp_path):
    """Else a kill in between leaves a recorded prediction that nobody ever saw: the next process publishes another."""
    scenario = await Scenario.make(embedded_form, tmp_path)
    fleet = Fleet(scenario.config, {"all": ALL}, Random(SEED), tmp_path)
    try:
        worker = await fleet.start("all", ("score.predictions_acknowledged", "1"))
        await scenario.user.events(*pairs(50, now_ms())[0], partition=0)

        assert await worker.end(60.0) == -signal.SIGKILL
    finally:
        fleet.close()
        await scenario.close()

    assert await scenario.user.predictions()
    assert [] == await scenario.user.read(scenario.domain.topics.scored)

"""SIGKILL of a worker on the embedded log, at named places and at random moments."""

from __future__ import annotations

import json

from tests.faults.series import run_series

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

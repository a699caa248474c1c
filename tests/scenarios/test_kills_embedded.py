"""SIGKILL of a worker on the embedded log, at named places and at random moments."""

from __future__ import annotations

from tests.kafka.kill.series import run_series

SEED = 7


async def test_a_killed_worker_on_the_embedded_log_goes_on_where_it_was(embedded_form, tmp_path):
    report = await run_series(embedded_form, tmp_path, SEED, apart=False, count=4)

    assert len(report.points) == 4
    assert report.before_commit.total() > 0

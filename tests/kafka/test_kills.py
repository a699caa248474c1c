"""SIGKILL at named places and at random moments: nothing is lost, nothing is learned twice, the state is the log's.

Roles apart are killed far more often by F01 to F04 of the faults; here is what those do not do: one process with all
roles at every place, scorers at their places, learners and joiners at moments.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.faults.series import ALL, Report, run_series
from tests.log_forms import LogForm

from tailrace.streams import failpoints

SEED = 7
MOMENTS_OF_ONE = 6
KILLS_OF_ONE = len(failpoints.NAMES) + MOMENTS_OF_ONE  # each place once
KILLS_PER_ROLE = 4


@pytest.fixture(scope="module")
def series(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    """Both series, at the same time: each mostly waits for session timeouts."""

    def start(folder: Path, count: int, *, apart: bool) -> Future[Report]:
        form = LogForm("kafka", f"kafka://{kafka}", folder)
        return threads.submit(lambda: asyncio.run(run_series(form, folder, SEED, apart=apart, count=count)))

    with ThreadPoolExecutor(2) as threads:
        yield {
            "one": start(tmp_path_factory.mktemp("one"), KILLS_OF_ONE, apart=False),
            "apart": start(tmp_path_factory.mktemp("apart"), KILLS_PER_ROLE, apart=True),
        }


def test_one_process_with_all_roles_survives_any_kill(series):
    report = series["one"].result()

    assert len(report.points) == KILLS_OF_ONE
    assert sum(not point.place for point in report.points) == MOMENTS_OF_ONE
    assert {point.place for point in report.points} - {""} == set(failpoints.NAMES)


def test_each_role_as_a_process_of_its_own_survives_any_kill(series):
    report = series["apart"].result()

    kills = Counter(role for point in report.points for role in point.team)
    assert kills == dict.fromkeys(ALL, KILLS_PER_ROLE)


@pytest.mark.parametrize("role", ["score", "join"])
@pytest.mark.parametrize("name", ["one", "apart"])
def test_some_kills_fell_between_an_acknowledgement_and_its_commit(series, name, role):
    report = series[name].result()

    assert report.before_commit[role] > 0


@pytest.mark.parametrize("name", ["one", "apart"])
def test_the_load_was_hostile_enough_for_the_kills_to_mean_something(series, name):
    found = series[name].result().found

    assert found.learned > 500
    assert found.forwarded > 20
    assert {"joined", "dropped"} <= found.outcomes.keys()
    assert {"late", "orphaned", "conflicting", "target_invalid"} <= found.dead.keys()

"""What scenarios share."""

from contextlib import asynccontextmanager

import pytest
from tests.scenarios.harness import Scenario


@pytest.fixture
async def made(embedded_form, tmp_path):
    """Make scenarios on the embedded log; they are closed at the end."""
    async with making(embedded_form, tmp_path) as make:
        yield make


@pytest.fixture
async def made_on_both(log_form, tmp_path):
    """Make scenarios on either form of the log; they are closed at the end."""
    async with making(log_form, tmp_path) as make:
        yield make


@asynccontextmanager
async def making(form, folder):
    scenarios = []

    async def make(*, partitions=1, **changes):
        scenarios.append(await Scenario.make(form, folder, partitions=partitions, **changes))
        return scenarios[-1]

    make.form = form
    yield make
    for scenario in scenarios:
        await scenario.close()

"""What scenarios share."""

import pytest
from tests.scenarios.harness import Scenario


@pytest.fixture
async def made(embedded_form, tmp_path):
    """Make scenarios on the embedded log; they are closed at the end."""
    scenarios = []

    async def make(*, partitions=1, **changes):
        scenarios.append(await Scenario.make(embedded_form, tmp_path, partitions=partitions, **changes))
        return scenarios[-1]

    make.form = embedded_form
    yield make
    for scenario in scenarios:
        await scenario.close()

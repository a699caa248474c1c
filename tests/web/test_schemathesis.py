"""The description against the process that it describes: schemathesis asks everything that it allows and forbids.

Needs the dependency group `api`; `make api` has it, and there it must not be skipped.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from secrets import token_hex
from typing import Any

import pytest
import urllib3
from hypothesis import HealthCheck, settings
from tests.log_forms import LogForm
from tests.scenarios.api_ground import Served, served

from tailrace.domain.access import Scope, Token, token_text
from tailrace.stores.token_file import TokenFile
from tailrace.web import guard, problems
from tailrace.web.openapi import description
from tailrace.web.routes import OPERATIONS

if os.environ.get("REQUIRE_API_TOOLS"):
    import schemathesis
else:
    schemathesis = pytest.importorskip("schemathesis", reason="needs the dependency group `api`; see make api")

from schemathesis.specs.openapi.checks import positive_data_acceptance

EXAMPLES = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A process that serves, in an event loop of its own: schemathesis blocks."""
    folder = tmp_path_factory.mktemp("api")
    loop, ready, done, found = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []

    async def serve() -> None:
        form = LogForm("embedded", f"embedded:{folder / 'log'}", folder / "log")
        async with served(form, folder, api={"rate": 100_000}) as at:
            with TokenFile(folder / "keys")._changing() as tokens:
                made = Token.of(TOKEN, Scope, 0)
                tokens[made.id] = made
            found.append(at)
            ready.set()
            await done.wait()

    patch = pytest.MonkeyPatch()
    patch.setattr(guard, "GUESSES", 100_000)  # schemathesis tries many a token that does not count
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(60), "the process does not serve"
    yield found[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(30)
    patch.undo()
    loop.close()


schema = schemathesis.openapi.from_dict(description())
TOKEN = token_text(token_hex(4), token_hex(32))
WRITES = {operation.path for operation in OPERATIONS if problems.INVALID_RECORDS in operation.problems}


@schema.auth()
class Bearer:
    """Gives the token, and lets schemathesis take it away to see whether it is needed."""

    def get(self, case: Any, ctx: Any) -> str:
        return TOKEN  # asked for before there is a process

    def set(self, case: Any, data: str, ctx: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def test_the_process_serves_the_description_that_is_tested_here(site: Served):
    answer = urllib3.request("GET", f"http://{site.address}/openapi.json")

    assert description() == answer.json()


# A stream does not end; its scenarios are in tests/scenarios/test_api.py.
@schema.exclude(path="/v1/events", method="GET").parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_the_process_does_what_its_description_says(site: Served, case: Any):
    # Which events a loop takes is in the loop's own contract, and not in this description.
    excluded = [positive_data_acceptance] if case.path in WRITES and case.method == "POST" else []
    case.call_and_validate(base_url=f"http://{site.address}", timeout=20, excluded_checks=excluded)

"""The event loop of a process: uvloop's where it can be, and what rests on asyncio's own loop where it cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.streams.test_http_server import (
    test_what_is_no_request_is_refused_with_a_problem_as_everything_is as what_is_no_request_is_refused,
)
from tests.streams.test_http_server import (
    test_who_takes_nothing_any_more_is_dropped as who_takes_nothing_is_dropped,
)
from tests.streams.test_http_server import (
    test_who_takes_slowly_and_steadily_gets_all_of_it as who_takes_slowly_gets_all,
)

from tailrace.streams.event_loop import new_loop


def name_of(loop: asyncio.AbstractEventLoop) -> str:
    loop.close()
    return type(loop).__module__.partition(".")[0]


def test_a_process_runs_on_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    assert "uvloop" == name_of(new_loop())

    monkeypatch.setattr("tailrace.streams.event_loop.find_spec", lambda _name: None)
    assert "asyncio" == name_of(new_loop())


def test_whoever_serves_tls_runs_on_asyncio_since_handshakes_are_bounded_where_it_accepts():
    assert "asyncio" == name_of(new_loop(serves_tls=True))


@pytest.mark.parametrize("path", ["/pieces", "/whole"])
def test_the_deadlines_of_connections_hold_on_it_too(path: str, monkeypatch: Any):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(who_takes_slowly_gets_all(None, path, monkeypatch))
        runner.run(who_takes_nothing_is_dropped(None, path, monkeypatch))
        runner.run(what_is_no_request_is_refused(bytes(200), None))

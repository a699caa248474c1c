"""What tests share: one real Kafka broker per run, and a fresh log in each of its two forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.loop_builders import logs_left_alone
from tests.log_forms import LogForm, load_launcher

launcher = load_launcher()


@pytest.fixture(autouse=True)
def _same_logs_afterwards() -> Iterator[None]:
    with logs_left_alone():
        yield


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker, started once per run."""
    broker = start_broker(tmp_path_factory.mktemp("kafka"))
    yield broker.bootstrap
    broker.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Any]:
    """A real broker for one test, which may kill and restart it."""
    broker = start_broker(tmp_path / "kafka")
    yield broker
    broker.stop()


def start_broker(folder: Path) -> Any:
    """Start a broker, or skip, or fail where Kafka is required."""
    require_kafka()
    try:
        return launcher.Broker(folder, settings={"group.min.session.timeout.ms": "1000"}).start()
    except launcher.LaunchError as error:
        _without_kafka(str(error))
        raise


def require_kafka() -> None:
    """Go on where a broker can be started; skip, or fail where it is required, elsewhere."""
    missing = launcher.missing_tools()
    if missing:
        _without_kafka(f"{' and '.join(missing)} not found")


def _without_kafka(reason: str) -> None:
    if os.environ.get("TAILRACE_REQUIRE_KAFKA") == "1":
        pytest.fail(f"Kafka is required here and cannot be started: {reason}")
    pytest.skip(f"NO REAL KAFKA, its tests are skipped: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once, loudly, that the tests on Kafka did not run."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if "NO REAL KAFKA" in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"WARNING: {len(skipped)} tests on real Kafka were SKIPPED. Install Java 17+ and Maven to run them.",
            red=True,
            bold=True,
        )


@pytest.fixture(params=["embedded", "kafka"])
def log_form(request: pytest.FixtureRequest, tmp_path: Path) -> LogForm:
    """Each form of the log in turn."""
    return make_form(request, tmp_path, request.param)


@pytest.fixture
def kafka_form(request: pytest.FixtureRequest, tmp_path: Path) -> LogForm:
    """The log on real Kafka."""
    return make_form(request, tmp_path, "kafka")


@pytest.fixture
def embedded_form(request: pytest.FixtureRequest, tmp_path: Path) -> LogForm:
    """The embedded log."""
    return make_form(request, tmp_path, "embedded")


def make_form(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> LogForm:
    """Make a form of the log; the broker is started only where it is asked for."""
    if name == "kafka":
        return LogForm("kafka", f"kafka://{request.getfixturevalue('kafka')}", tmp_path)
    folder = tmp_path / "log"
    return LogForm("embedded", f"embedded:{folder}", folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the broker, so that `-m "not kafka"` leaves it out."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        names = set(getattr(item, "fixturenames", ()))
        if names & {"kafka", "own_broker", "kafka_form"} or parameters.get("log_form") == "kafka":
            item.add_marker(pytest.mark.kafka)

"""All logs go one way, say a thing once, and keep secrets."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError

from tailrace.domain.errors import ForeignLogError, LogError
from tailrace.telemetry.logs import HIDDEN, MAX_TEMPLATES, MAX_TEXT, RepeatLimit, configure


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


HUNTED = "hunter2"
VALUE = "planted-value"


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def make_record(message: str = "fetch failed for %s", *values: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("tailrace.streams", level, "", 0, message, values, None)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_our_messages_are_one_json_object_per_line():
    stream = io.StringIO()
    configure("info", stream=stream)

    structlog.get_logger("tailrace.streams").info("snapshot written", number=7, position="5:0")

    (line,) = lines_of(stream)
    assert ["ts", "level", "event", "logger", "number", "position"] == list(line)
    assert ("info", "snapshot written", "tailrace.streams", 7) == (
        line["level"], line["event"], line["logger"], line["number"],
    )  # fmt: skip
    assert line["ts"].endswith("Z")


@pytest.mark.parametrize("name", ["faust.app", "mode.worker", "aiokafka.consumer", "uvicorn.error"])
def test_messages_of_libraries_take_the_same_way(name: str):
    stream = io.StringIO()
    library = logging.getLogger(name)
    library.addHandler(logging.StreamHandler(io.StringIO()))
    library.propagate = False

    configure("info", stream=stream)
    library.warning("topic %s not found", "pages")

    (line,) = lines_of(stream)
    assert ("warning", "topic pages not found", name) == (line["level"], line["event"], line["logger"])


def test_configuring_twice_writes_once():
    first, second = io.StringIO(), io.StringIO()

    configure("info", stream=first)
    configure("info", stream=second)
    logging.getLogger("faust").info("hello")

    assert "" == first.getvalue()
    assert 1 == len(lines_of(second))


def test_messages_below_the_level_are_left_out():
    stream = io.StringIO()
    configure("warning", stream=stream)

    structlog.get_logger("tailrace").info("quiet")
    logging.getLogger("mode").info("quiet")
    logging.getLogger("uvicorn.access").info("GET /metrics")

    assert "" == stream.getvalue()


@pytest.mark.parametrize(("level", "written"), [("debug", 1), ("info", 0)])
def test_what_the_client_of_kafka_does_is_told_to_those_who_ask_for_debug(level: str, written: int):
    stream = io.StringIO()
    configure(level, stream=stream)

    logging.getLogger("aiokafka.consumer").info("Updating subscribed topics")

    assert written == stream.getvalue().count("Updating subscribed topics")


def test_exceptions_are_one_field_of_one_line():
    stream = io.StringIO()
    configure("info", stream=stream)

    try:
        raise ValueError("no good")
    except ValueError:
        logging.getLogger("mode").exception("crashed")

    (line,) = lines_of(stream)
    assert "crashed" == line["event"]
    assert "in test_exceptions_are_one_field_of_one_line" in line["exception"]
    assert line["exception"].endswith("ValueError (text not told)")


def test_values_that_json_does_not_know_are_shown_by_their_repr():
    stream = io.StringIO()
    configure("info", stream=stream)

    structlog.get_logger("tailrace").info("assigned", partitions={1}, key=b"k")

    assert ("{1}", "b'k'") == (lines_of(stream)[0]["partitions"], lines_of(stream)[0]["key"])


def test_a_terminal_gets_lines_for_people():
    stream = Terminal()
    configure("info", stream=stream)

    structlog.get_logger("tailrace").info("role running", role="score")

    assert "role running" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_format_can_be_asked_for():
    terminal, file = Terminal(), io.StringIO()

    configure("info", "json", stream=terminal)
    structlog.get_logger("tailrace").info("one")
    configure("info", "console", stream=file)
    structlog.get_logger("tailrace").info("two")

    assert "one" == lines_of(terminal)[0]["event"]  # type: ignore[arg-type]
    assert "two" in file.getvalue()
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize(("level", "log_format"), [("loud", "auto"), ("info", "xml")])
def test_a_level_or_format_that_does_not_exist_is_refused(level: str, log_format: Any):
    with pytest.raises(ValueError, match="allowed are"):
        configure(level, log_format)


def test_secrets_are_hidden_by_key_in_addresses_and_in_texts():
    stream = io.StringIO()
    configure("info", stream=stream)

    structlog.get_logger("tailrace").info(
        "connecting to kafka://user:hunter2@broker:9092 with password=hunter2",
        sasl_password="hunter2",
        settings={"api_key": "hunter2", "topic": "pages"},
        servers=["kafka://user:hunter2@broker:9092", {"password": "hunter2"}],
        error=LogError("password=hunter2"),
    )

    (line,) = lines_of(stream)
    assert "hunter2" not in stream.getvalue()
    assert HIDDEN == line["sasl_password"]
    assert {"api_key": HIDDEN, "topic": "pages"} == line["settings"]
    assert "broker:9092" in line["event"]


def fail_with(local_secret: str) -> None:
    raise LogError(f"refused: password={local_secret}")


def fail_with_values() -> None:
    """Raise as code does that repeats what it was given, in a chain and in a group."""
    try:
        try:
            raise KeyError(VALUE)
        except KeyError as cause:
            raise ValueError(f"cannot use {VALUE}") from cause
    except ValueError as cause:
        raise ExceptionGroup(f"{VALUE} and others", [cause, TypeError(VALUE)]) from None


def tell_in_every_way(error: Exception) -> None:
    mode, ours = logging.getLogger("mode.services"), structlog.get_logger("tailrace.streams")
    mode.exception("Crashed reason=%r", error)
    mode.error("Error: %s", error)
    mode.error("Error: %(cause)r", {"cause": error})
    mode.error(error)
    ours.error("failed", error=error, all_of_them=[error], exc_info=error)
    ours.exception("failed")
    task = f"<Task finished exception={error!r}>"
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %s", task, exc_info=error)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_nobody_foresaw_is_told_by_type_and_frames_and_never_by_its_text(log_format: Any):
    """Guards values of features and labels: whoever raises may repeat what was given to it."""
    stream = io.StringIO()
    configure("debug", log_format, stream=stream)

    try:
        fail_with_values()
    except ExceptionGroup as error:
        error.add_note(VALUE)
        tell_in_every_way(error)

    told = stream.getvalue()
    assert VALUE not in told
    assert 4 <= told.count("in fail_with_values")
    for name in ("ExceptionGroup", "ValueError", "KeyError", "TypeError"):
        assert f"{name} (text not told)" in told
    assert "direct cause" in told


@pytest.mark.parametrize(
    "error",
    [
        ForeignLogError("the topic was created anew; restore it"),
        PermissionError(13, "Permission denied", "/data/log"),
        ModuleNotFoundError("No module named 'numba'"),
        KafkaConnectionError("broker:9092 refuses"),
        SystemExit("the port is taken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_tailrace_kafka_and_the_system_say_is_told(error: BaseException):
    """Guards operators: these texts say what to do, and hold no values."""
    stream = io.StringIO()
    configure("info", stream=stream)

    try:
        raise error
    except type(error):
        logging.getLogger("mode").exception("Crashed reason=%r", error)

    (line,) = lines_of(stream)
    assert f"Crashed reason={error!r}" == line["event"]
    assert line["exception"].endswith(f"{type(error).__name__}: {error}")


def test_an_exception_that_leads_to_itself_is_told_once():
    """mode raises the reason of a crash from itself."""
    stream = io.StringIO()
    configure("info", stream=stream)
    error = RuntimeError(VALUE)

    try:
        raise error from error
    except RuntimeError:
        logging.getLogger("mode").exception("again")

    assert 1 == stream.getvalue().count("RuntimeError (text not told)")


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_secrets_are_hidden_in_exceptions_too(stream: io.StringIO):
    configure("info", stream=stream)

    try:
        fail_with(HUNTED)
    except LogError:
        structlog.get_logger("tailrace").exception("failed", token=HUNTED)

    assert HUNTED not in stream.getvalue()
    assert "in fail_with" in stream.getvalue()


def test_warnings_of_python_are_log_messages():
    stream = io.StringIO()
    configure("info", stream=stream)

    with pytest.warns(UserWarning, match="old"):
        warnings.warn("old", UserWarning, stacklevel=1)
    logging.getLogger("py.warnings").warning("old")

    assert "py.warnings" == lines_of(stream)[0]["logger"]


def test_long_texts_are_cut():
    stream = io.StringIO()
    configure("info", stream=stream)

    logging.getLogger("faust").info("x" * 100_000)

    assert len(stream.getvalue()) < MAX_TEXT + 300
    assert "100000 characters" in lines_of(stream)[0]["event"]


def test_of_a_message_that_comes_again_a_few_are_written_per_ten_seconds_with_the_number_left_out():
    now_s = 0.0
    limit = RepeatLimit(clock=lambda: now_s)

    passed = [limit.filter(make_record("fetch failed for %s", number)) for number in range(2_000)]
    now_s = 10.0
    record = make_record("fetch failed for %s", "again")

    assert [True] * 5 + [False] * 1_995 == passed
    assert limit.filter(record)
    assert 1_995 == record.__dict__["suppressed"]


def test_other_messages_and_levels_are_not_held_back():
    limit = RepeatLimit(burst=1, clock=lambda: 0.0)

    assert limit.filter(make_record("one"))
    assert limit.filter(make_record("two"))
    assert limit.filter(make_record("one", level=logging.ERROR))


def test_the_number_left_out_is_a_field_of_the_next_line(monkeypatch: pytest.MonkeyPatch):
    stream, now_s = io.StringIO(), 0.0
    configure("info", stream=stream)
    (handler,) = logging.getLogger().handlers
    monkeypatch.setattr(handler, "filters", [RepeatLimit(burst=1, clock=lambda: now_s)])

    for second in (0, 1, 2, 10):
        now_s = float(second)
        structlog.get_logger("tailrace").info("learned", examples=second)

    assert [(0, None), (10, 2)] == [(line["examples"], line.get("suppressed")) for line in lines_of(stream)]


def test_equal_messages_of_ours_with_other_values_are_repeats():
    stream = io.StringIO()
    configure("info", stream=stream)

    for number in range(50):
        structlog.get_logger("tailrace").info("learned", examples=number)

    assert [0, 1, 2, 3, 4] == [line["examples"] for line in lines_of(stream)]


def test_the_memory_of_the_limit_is_bounded():
    limit = RepeatLimit(burst=1, clock=lambda: 0.0)

    for number in range(MAX_TEMPLATES + 50):
        limit.filter(make_record(f"message {number}"))

    assert MAX_TEMPLATES == len(limit._seen)
    assert limit.filter(make_record("message 0"))


def test_every_message_is_counted_suppressed_ones_included():
    counted: list[str] = []
    configure("info", stream=io.StringIO(), count=counted.append)

    for _ in range(3):
        logging.getLogger("aiokafka").warning("again")

    assert ["warning"] * 3 == counted


def test_whatever_aiokafka_says_of_an_outage_counts_as_one_message():
    limit = RepeatLimit(burst=1, clock=lambda: 0.0)

    passed = [
        limit.filter(logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, text, None, None)) for text in "abc"
    ]

    assert [True, False, False] == passed

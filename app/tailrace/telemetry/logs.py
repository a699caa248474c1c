"""One pipe for all logs: ours, Faust's, mode's, aiokafka's and uvicorn's.

structlog and the standard library's loggers end in one handler on stderr: lines for people on a terminal, one JSON
object per line otherwise, with `ts`, `level`, `event`, `logger` and whatever context was given. Values of keys that
look like secrets are replaced; of an exception that nobody foresaw its type and place are told, and not its text. Of
one message that comes again and again a few are written per ten seconds, then the number of those left out: aiokafka
can write thousands of lines a second about a topic that it may not read.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Literal, TextIO, TypeAlias

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tailrace.telemetry.failures import told, trace_of, without_texts

LogFormat: TypeAlias = Literal["auto", "console", "json"]

REPEAT_EVERY_S: Final = 10.0
BURST: Final = 5
"""Equal messages that pass in each such time: three roles that start tell so with the same words."""

MAX_TEMPLATES: Final = 1_024
"""Different messages that are remembered for the limit; the least recent is forgotten first."""

MAX_TEXT: Final = 8_192
"""Characters of one value. Longer ones are cut: a line is read by people and shipped by agents with limits."""

HIDDEN: Final = "[hidden]"

_SECRET: Final = re.compile(
    r"passw|secret|token|credential|api_?key|private_?key|authorization|cookie|jaas", re.IGNORECASE
)
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_IN_TEXT: Final = re.compile(r"(?i)(\b(?:\w*passw\w*|\w*secret\w*|\w*token)['\"]?\s*[=:]\s*['\"]?)[^\s,'\"&)]+")

_QUIETER: Final = {
    # Every request of every probe, and every fetch that found nothing.
    "uvicorn.access": logging.WARNING,
    "asyncio": logging.WARNING,
}


def configure(
    level: str = "info",
    log_format: LogFormat = "auto",
    *,
    stream: TextIO | None = None,
    count: Callable[[str], None] | None = None,
) -> None:
    """Send every log message of this process through one pipe; calling it again replaces the former one.

    Args:
        level: debug, info, warning, error or critical: what is written at least.
        log_format: "auto" is "console" when the stream is a terminal, else "json".
        stream: stderr when None.
        count: Called with the level of every message, suppressed ones included.

    Raises:
        ValueError: Level or format is not one of those.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or log_format not in {"auto", "console", "json"}:
        raise ValueError(
            f"log level {level!r} and format {log_format!r} were given; "
            "allowed are debug, info, warning, error, critical and auto, console, json"
        )
    target = stream or sys.stderr
    is_console = log_format == "console" or (log_format == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(is_console=is_console, has_colors=is_console and target.isatty()))
    handler.addFilter(_is_no_life_cycle_news)
    handler.addFilter(RepeatLimit(count=count))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.captureWarnings(True)
    _hand_over_to_root(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _is_no_life_cycle_news(record: logging.LogRecord) -> bool:
    """Leave out what mode says at every start and stop of every service, as "[^--Name]: Starting..."."""
    return record.levelno > logging.INFO or not str(record.msg).startswith(("[^", "[%s"))


class RepeatLimit(logging.Filter):
    """Lets the first few of equal messages pass, then as many every ten seconds, with the number of those left out.

    Equal is: same logger, level and template, before values are put into it.
    """

    def __init__(
        self,
        *,
        every_s: float = REPEAT_EVERY_S,
        burst: int = BURST,
        clock: Callable[[], float] = monotonic,
        count: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._every_s, self._burst, self._clock, self._count = every_s, burst, clock, count
        self._seen: OrderedDict[tuple[str, int, str], _Repeats] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write this record; adds `suppressed` to it when others were left out before."""
        if self._count is not None:
            self._count(record.levelname.lower())
        key = (record.name, record.levelno, _template_of(record))
        now = self._clock()
        repeats = self._seen.setdefault(key, _Repeats(now))
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_TEMPLATES:
            self._seen.popitem(last=False)
        if now - repeats.since_s >= self._every_s:
            if repeats.left_out:
                record.suppressed = repeats.left_out
            repeats.since_s, repeats.passed, repeats.left_out = now, 0, 0
        if repeats.passed >= self._burst:
            repeats.left_out += 1
            return False
        repeats.passed += 1
        return True


@dataclass(slots=True)
class _Repeats:
    """Of one message: since when it is counted, how often it passed and how often it did not."""

    since_s: float
    passed: int = 0
    left_out: int = 0


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of keys that look like secrets, and credentials inside of texts; cut long texts."""
    return {key: HIDDEN if _SECRET.search(key) else _without_secrets(value) for key, value in event.items()}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        rest = f"… (cut, {len(value)} characters)" if len(value) > MAX_TEXT else ""
        return _IN_TEXT.sub(rf"\1{HIDDEN}", _IN_ADDRESS.sub(HIDDEN, value[:MAX_TEXT])) + rest
    if isinstance(value, Mapping):
        return {key: HIDDEN if _SECRET.search(str(key)) else _without_secrets(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    return _without_secrets(told(value)) if isinstance(value, BaseException) else value


class _Told(str):
    """What is told in the place of an exception, however a message asks for it."""

    __slots__ = ()
    __repr__ = str.__str__


def _untold(value: object) -> object:
    return _Told(told(value)) if isinstance(value, BaseException) else value


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Puts nothing of an exception into a message of a library but what may be told of it."""

    def format(self, record: logging.LogRecord) -> str:
        copy = logging.makeLogRecord(record.__dict__)
        copy.msg = _untold(record.msg)
        if isinstance(record.args, Mapping):
            copy.args = {key: _untold(value) for key, value in record.args.items()}
        else:
            copy.args = tuple(map(_untold, record.args or ()))
        return super().format(copy)


def _tell_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        error = given[1]
    else:
        error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is None:
        return event
    return {**event, "event": without_texts(str(event.get("event")), error), "exception": trace_of(error)}


def _template_of(record: logging.LogRecord) -> str:
    if record.name.startswith("aiokafka"):
        return ""  # in an outage it says the same of every connection, in other words each time
    # structlog's message is the whole event; its `event` text is what stays the same between repeats.
    if isinstance(record.msg, Mapping):
        return str(record.msg.get("event"))
    return str(record.msg)


def _suppressed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    left_out = getattr(record, "suppressed", 0)
    return {**event, "suppressed": left_out} if left_out else event


def _shown_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("ts", "level", "event", "logger") if name in event}
    return {**first, **event}


def _to_json(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


_SHARED: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    structlog.stdlib.PositionalArgumentsFormatter(),
]


def _formatter(*, is_console: bool, has_colors: bool) -> logging.Formatter:
    # Plain tracebacks: the prettier ones show local variables, and with them features and secrets.
    console = structlog.dev.ConsoleRenderer(
        colors=has_colors, timestamp_key="ts", pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
    last: list[Processor] = [console] if is_console else [_shown_order, _to_json]
    return _Formatter(
        foreign_pre_chain=_SHARED,
        processors=[
            _suppressed,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _tell_exception,
            hide_secrets,
            *last,
        ],
    )


def _hand_over_to_root(level: int) -> None:
    # Libraries that were imported earlier have handlers and levels of their own; a second handler writes twice.
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers[:] = [each for each in logger.handlers if isinstance(each, logging.NullHandler)]
        logger.propagate = True
        if name.split(".")[0] in {"faust", "mode", "aiokafka", "uvicorn", "kafka"}:
            logger.setLevel(logging.NOTSET)
    for name, least in _QUIETER.items():
        logging.getLogger(name).setLevel(max(least, level))
    if level == logging.INFO:
        # Twenty lines at every start about what our sources say in one; whoever asks for debug gets them.
        logging.getLogger("aiokafka").setLevel(logging.WARNING)

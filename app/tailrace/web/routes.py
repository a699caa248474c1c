"""The table of the API: one row per operation, with its scope, parameters, bodies and problems.

Routing, authorisation, the checks of parameters and bodies, /openapi.json and docs/api.md are all made from this
table, so that there is no operation without a scope, and none that is not documented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from tailrace.domain.access import Scope
from tailrace.web import bodies, problems
from tailrace.web.problems import Kind

OCTETS: Final = "application/octet-stream"
EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter, or a header.

    Attributes:
        choices: Text: what it may be; of a list, each of its parts.
        pattern: Text: a regular expression for all of it.
    """

    name: str
    type: Literal["integer", "boolean", "text", "list"]
    meaning: str
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    pattern: str = ""
    default: Any = None
    place: Literal["query", "header"] = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: Of the function of `api.Api` that answers, and the operationId.
        scope: What a token must have; None: open to everyone.
        success: Status of an answer that is no problem.
        answer: What it holds; None: not JSON.
        problems: Beside those that every operation may have.
        headers: Of the answer: name and meaning.
        events: Of a stream: name of an event and what its data holds.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    scope: Scope | None
    summary: str
    meaning: str
    parameters: tuple[Parameter, ...] = ()
    body: type[bodies.Asked] | None = None
    success: int = 200
    answer: type[bodies.Told] | None = None
    media_type: str = JSON
    problems: tuple[Kind, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[str, type[BaseModel]], ...] = ()

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events."""
        return bool(self.events)

    @property
    def is_download(self) -> bool:
        """Whether the answer is a file, which may be large."""
        return self.media_type == OCTETS

    @property
    def asks_log(self) -> bool:
        """Whether it waits for the log."""
        return problems.LOG_UNAVAILABLE in self.problems


LOOP: Final = Parameter(
    "loop", "text", "Which loop; needed where the configuration has several.", pattern=bodies.LOOP_NAME
)
LIMIT: Final = Parameter(
    "limit", "integer", "Most entries of the answer.", minimum=1, maximum=bodies.MOST_LISTED, default=100
)
LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID",
    "text",
    "Go on behind this event, as the `id:` of the last one that came said it.",
    pattern=r"^[0-9]{1,19}(\.[0-9]{1,19}){0,1023}/[0-9]{1,19}$",
    place="header",
)
STREAMS: Final = ("prediction", "model-event")

_OF_MODEL: Final = (problems.NOT_FOUND,)
_OF_LOG: Final = (problems.LOG_UNAVAILABLE,)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        None,
        "This description",
        "OpenAPI 3.1, made from the table that also routes and authorises.",
    ),
    Operation(
        "GET",
        "/v1/status",
        "status",
        Scope.READ,
        "What runs, how far it is behind and why",
        "Begins with one sentence for a person. Read from the log alone, at most once a second, so every process "
        "of the fleet gives the same answer.",
        answer=bodies.StatusAnswer,
        problems=_OF_LOG,
    ),
    Operation(
        "GET",
        "/v1/models",
        "models",
        Scope.READ,
        "The models of this configuration",
        "One per loop, by the loop's name, with the contract of its features.",
        answer=bodies.ModelsAnswer,
    ),
    Operation(
        "GET",
        "/v1/models/{name}",
        "model",
        Scope.READ,
        "One model",
        "Its task, the contract of its features, its topics, and what this process answers with now.",
        answer=bodies.ModelBody,
        problems=_OF_MODEL,
    ),
    Operation(
        "POST",
        "/v1/models/{name}:predict",
        "predict",
        Scope.PREDICT,
        "Ask the model",
        "The same code as the stream, with the state that serves it now; nothing is written and nothing is learned. An "
        "instance that breaks the contract is rejected with its code, its neighbours are answered.",
        parameters=(
            Parameter(
                "explain",
                "boolean",
                f"Say why, for at most {bodies.MOST_EXPLAINED} instances.",
                default=False,
            ),
        ),
        body=bodies.PredictRequest,
        answer=bodies.PredictAnswer,
        problems=(*_OF_MODEL, problems.NOT_READY),
    ),
    Operation(
        "GET",
        "/v1/models/{name}/versions",
        "versions",
        Scope.READ,
        "Snapshots of the model",
        "Those whose signature counts and that the index in the log still names, the newest first.",
        parameters=(LIMIT,),
        answer=bodies.VersionsAnswer,
        problems=(*_OF_MODEL, *_OF_LOG),
    ),
    Operation(
        "GET",
        "/v1/models/{name}/snapshot",
        "snapshot",
        Scope.SNAPSHOT,
        "Download a snapshot",
        "The signed file as it was stored: verify the signature before anything of it is read, as `tailrace.client` "
        "does. A state may hold values of features.",
        parameters=(
            Parameter("number", "integer", "Of the snapshot; without it the newest one.", minimum=1, maximum=2**53 - 1),
            Parameter(
                "lineage",
                "text",
                "How its lineage begins, as `versions` lists it. Needed where several lineages have that number: each "
                "counts from 1.",
                pattern="^[0-9a-f]{1,64}$",
            ),
        ),
        media_type=OCTETS,
        headers=(
            ("Content-Disposition", "A name for the file."),
            ("ETag", "The digest of the manifest, in quotes."),
            ("X-Tailrace-Position", "Where the state stands in the training log."),
            ("X-Tailrace-Lineage", "The lineage that the state is of."),
        ),
        problems=(*_OF_MODEL, problems.NO_SNAPSHOT, *_OF_LOG, problems.STORE_UNAVAILABLE),
    ),
    Operation(
        "GET",
        "/v1/models/{name}/metrics",
        "metrics",
        Scope.READ,
        "Quality of the served predictions over time",
        "With baselines and the number of labels behind each value; reaches as far back as the heartbeats on the topic "
        "of status do.",
        parameters=(
            Parameter("step", "integer", "Seconds between two points at least.", minimum=1, maximum=86_400, default=10),
        ),
        answer=bodies.QualityAnswer,
        problems=(*_OF_MODEL, *_OF_LOG),
    ),
    Operation(
        "GET",
        "/v1/predictions",
        "predictions",
        Scope.READ,
        "Predictions that were published",
        "From the topic, the newest first by the broker's time; page back with `next`.",
        parameters=(
            LOOP,
            LIMIT,
            Parameter(
                "cursor",
                "text",
                "As `next` of the page before said it.",
                pattern=r"^[0-9]{1,19}(\.[0-9]{1,19}){0,1023}$",
            ),
        ),
        answer=bodies.PredictionsAnswer,
        problems=(problems.NOT_FOUND, *_OF_LOG),
    ),
    Operation(
        "POST",
        "/v1/events",
        "write_events",
        Scope.EVENT,
        "Write events",
        "Checked as the stream will check them, all or none; then written to the events topic, keyed by id as Kafka's "
        "own clients do. The answer names where each stands. Partitions are written one after the other: after a 503 a "
        "part may be written. Send all of it again: an event that is written twice is learned once, by its id and "
        "time, and answered each time, under another `prediction_id`.",
        body=bodies.EventsRequest,
        success=202,
        answer=bodies.WriteAnswer,
        problems=(problems.NOT_FOUND, problems.NOT_WRITABLE, problems.INVALID_RECORDS, *_OF_LOG),
    ),
    Operation(
        "POST",
        "/v1/labels",
        "write_labels",
        Scope.LABEL,
        "Write labels",
        "As for events: a label that is sent twice counts once. A label never reaches a model but through the log and "
        "the join.",
        body=bodies.LabelsRequest,
        success=202,
        answer=bodies.WriteAnswer,
        problems=(problems.NOT_FOUND, problems.NOT_WRITABLE, problems.INVALID_RECORDS, *_OF_LOG),
    ),
    Operation(
        "GET",
        "/v1/events",
        "events",
        Scope.READ,
        "Predictions and what happens to models, as they come",
        "Server-sent events: `prediction` as on its topic, `model-event` for promotions, drift, snapshots and so on. "
        "A comment every 15 s keeps the connection open. An id comes first, and every event has one; a client that "
        "comes back with Last-Event-ID misses nothing that the log still holds. `gap` tells of what it holds no more. "
        "The server ends the stream when it stops: come back; and when the token counts no more.",
        parameters=(
            LOOP,
            Parameter(
                "types", "list", "Which events, parted by commas; without it all.", choices=STREAMS, default=STREAMS
            ),
            LAST_EVENT_ID,
        ),
        media_type=EVENT_STREAM,
        problems=(problems.NOT_FOUND, *_OF_LOG),
        events=(
            ("prediction", bodies.PredictionBody),
            ("model-event", bodies.ModelEventBody),
            ("gap", bodies.GapBody),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page beside the API, for orchestrators and Prometheus.

    Attributes:
        media_types: Of its answer; the first is what is answered where nothing else is asked for.
        is_probe: It says 503 where something is not well, and lists its checks with `?verbose`.
    """

    path: str
    summary: str
    meaning: str
    media_types: tuple[str, ...] = ("text/plain",)
    is_probe: bool = True


PAGES: Final = (
    Page("/livez", "Whether this process lives", "The event loop turns; 503 means: restart the process."),
    Page("/readyz", "Whether this process works", "Every role can do its work; 503 means: send it nothing yet."),
    Page("/startupz", "Whether this process has started", "As /readyz until that was true once, then always 200."),
    Page(
        "/metrics",
        "Metrics for Prometheus",
        "Prometheus' text, or OpenMetrics where Accept asks for it; made once for all who ask within a second.",
        ("text/plain", "application/openmetrics-text"),
        is_probe=False,
    ),
)

OPEN_PATHS: Final = (*(page.path for page in PAGES), *(each.path for each in OPERATIONS if each.scope is None))
"""Everything that answers without a token."""


PROBLEMS_OF_ALL: Final = (
    problems.METHOD_NOT_ALLOWED,
    problems.MISDIRECTED,
    problems.HEAD_TOO_LARGE,
    problems.INTERNAL,
)
"""What every operation and every page may end with."""


def problems_of(operation: Operation) -> list[Kind]:
    """Return every kind of problem that an operation may end with."""
    found = [*operation.problems, *PROBLEMS_OF_ALL, problems.INVALID_PARAMETER]
    if operation.scope is not None:
        found += [
            problems.UNAUTHORIZED,
            problems.FORBIDDEN,
            problems.TOO_MANY_REQUESTS,
            problems.BUSY,
        ]
    if operation.body is not None:
        found += [
            problems.NOT_JSON,
            problems.INVALID_BODY,
            problems.BODY_TOO_LARGE,
            problems.UNSUPPORTED_MEDIA_TYPE,
            problems.REQUEST_TIMEOUT,
        ]
    return list(dict.fromkeys(found))

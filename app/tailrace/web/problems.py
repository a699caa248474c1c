"""Problems of the API as RFC 9457 has them: what was found, what is allowed, what to do next.

Each kind has a code that programs may rely on. The text of a problem never repeats a value of a feature, a target or
a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    Attributes:
        code: Stable; programs decide by it.
        hint: What to do next, unless the case says it better.
    """

    code: str
    status: HTTPStatus
    title: str
    hint: str

    @property
    def type(self) -> str:
        """The `type` of RFC 9457: a name, not an address."""
        return f"urn:tailrace:problem:{self.code}"


INVALID_PARAMETER: Final = Kind(
    "invalid_parameter",
    HTTPStatus.BAD_REQUEST,
    "A query parameter cannot be used.",
    "Correct the parameter; /openapi.json lists those that there are.",
)
NOT_JSON: Final = Kind(
    "not_json", HTTPStatus.BAD_REQUEST, "The body is not JSON.", "Send one JSON object, UTF-8 encoded."
)
NO_HTTP: Final = Kind(
    "no_http",
    HTTPStatus.BAD_REQUEST,
    "What came is no request of HTTP/1.1.",
    "Send a request as RFC 9112 has it, with a head that is not too large.",
)
UNAUTHORIZED: Final = Kind(
    "unauthorized",
    HTTPStatus.UNAUTHORIZED,
    "No token that counts was presented.",
    "Send the header `Authorization: Bearer TOKEN`; `tailrace tokens create` makes one.",
)
FORBIDDEN: Final = Kind(
    "forbidden",
    HTTPStatus.FORBIDDEN,
    "The token does not have the scope that this needs.",
    "Use a token that has it; `tailrace tokens create --scope …` makes one.",
)
NOT_FOUND: Final = Kind(
    "not_found", HTTPStatus.NOT_FOUND, "There is no such resource.", "/openapi.json lists what there is."
)
METHOD_NOT_ALLOWED: Final = Kind(
    "method_not_allowed",
    HTTPStatus.METHOD_NOT_ALLOWED,
    "The resource does not take this method.",
    "Use one that the Allow header names.",
)
REQUEST_TIMEOUT: Final = Kind(
    "request_timeout", HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time.", "Send it again, faster."
)
NO_SNAPSHOT: Final = Kind(
    "no_snapshot",
    HTTPStatus.NOT_FOUND,
    "There is no such snapshot that counts.",
    "GET /v1/models/{name}/versions lists those that there are.",
)
NOT_WRITABLE: Final = Kind(
    "not_writable",
    HTTPStatus.CONFLICT,
    "Records of this topic cannot be written as JSON.",
    "Write them to the topic with a client of Kafka.",
)
BODY_TOO_LARGE: Final = Kind(
    "body_too_large",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The body is larger than is taken.",
    "Send less at once; api.max_body sets the bound.",
)
UNSUPPORTED_MEDIA_TYPE: Final = Kind(
    "unsupported_media_type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The body is of another media type than is read here.",
    "Send `Content-Type: application/json` and no Content-Encoding.",
)
MISDIRECTED: Final = Kind(
    "misdirected",
    HTTPStatus.MISDIRECTED_REQUEST,
    "The Host header names another host than this one.",
    "Ask for localhost, 127.0.0.1 or [::1]; behind a proxy set api.behind_tls_proxy = true.",
)
INVALID_BODY: Final = Kind(
    "invalid_body",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The body is JSON and not what is asked for.",
    "Correct what `errors` lists; /openapi.json has the schema.",
)
INVALID_RECORDS: Final = Kind(
    "invalid_records",
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Some of the records break the contract; none was written.",
    "Correct what `errors` lists and send all of them again; GET /v1/models/{name} has the contract.",
)
HEAD_TOO_LARGE: Final = Kind(
    "head_too_large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The head of the request is larger than is taken.",
    "Send fewer or shorter headers and parameters.",
)
TOO_MANY_REQUESTS: Final = Kind(
    "too_many_requests",
    HTTPStatus.TOO_MANY_REQUESTS,
    "More requests came than are taken.",
    "Wait for as long as Retry-After says; api.rate sets the bound.",
)
INTERNAL: Final = Kind(
    "internal_error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "The answer could not be made.",
    "The log of this process says why, under the request id.",
)
NOT_READY: Final = Kind(
    "model_not_ready",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "This process has no model to answer with.",
    "Ask again soon; where it stays so, ask a process with the role score. `tailrace status` says what runs.",
)
LOG_UNAVAILABLE: Final = Kind(
    "log_unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The log does not answer.",
    "Send the request again: what is written twice is learned once, by its id and time.",
)
STORE_UNAVAILABLE: Final = Kind(
    "store_unavailable",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The store of snapshots does not answer.",
    "Ask again soon; where it stays so, the log of this process says why, under the request id.",
)
BUSY: Final = Kind(
    "busy", HTTPStatus.SERVICE_UNAVAILABLE, "As much is under way as this process takes at once.", "Ask again soon."
)

KINDS: Final = (
    INVALID_PARAMETER,
    NOT_JSON,
    NO_HTTP,
    UNAUTHORIZED,
    FORBIDDEN,
    NOT_FOUND,
    NO_SNAPSHOT,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    NOT_WRITABLE,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    MISDIRECTED,
    INVALID_BODY,
    INVALID_RECORDS,
    TOO_MANY_REQUESTS,
    HEAD_TOO_LARGE,
    INTERNAL,
    NOT_READY,
    LOG_UNAVAILABLE,
    STORE_UNAVAILABLE,
    BUSY,
)
"""Every kind, by status."""


def harmless(content: bytes) -> bytes:
    """Return the same JSON without a character that means something in HTML, wherever somebody may paste it."""
    return content.replace(b"<", rb"\u003c").replace(b">", rb"\u003e").replace(b"&", rb"\u0026")


class ProblemError(Exception):
    """Ends a request with a problem.

    Attributes:
        detail: What was found and what is allowed.
        hint: What to do next; "" takes the kind's.
        headers: Of the answer, e.g. Retry-After.
        errors: What is wrong with single parts of the request.
        who: Id of the token that was presented, for the log; "" where it is not about one.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        who: str = "",
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint or kind.hint
        self.headers = dict(headers or {})
        self.errors = errors
        self.who = who

    def response(self, request_id: str) -> Response:
        """Return the answer, which says the id of the request twice: for programs, and for whoever reads the body."""
        problem: dict[str, Any] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status.value,
            "detail": self.detail,
            "instance": f"urn:tailrace:request:{request_id}",
            "code": self.kind.code,
            "hint": self.hint,
        }
        if self.errors:
            problem["errors"] = list(self.errors)
        headers = {**self.headers, "x-request-id": request_id}
        return Response(harmless(orjson.dumps(problem)), self.kind.status.value, headers, MEDIA_TYPE)

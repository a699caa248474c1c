"""OpenAPI 3.1, made from the tables of operations and pages and the classes of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import tailrace
from tailrace.domain.access import SCOPE_MEANINGS
from tailrace.web import bodies, problems
from tailrace.web.problems import Kind
from tailrace.web.routes import JSON, OPERATIONS, PAGES, PROBLEMS_OF_ALL, Operation, Page, Parameter, problems_of

_REFERENCE: Final = "#/components/schemas/{model}"

_INTRODUCTION: Final = (
    "Models that learn from Kafka topics while they serve. Every operation under /v1 needs a bearer token with the "
    "scope that it names (`tailrace tokens create --scope …`). Errors are problems as RFC 9457 has them: decide by "
    "`code`, read `detail` and `hint`. Nothing here changes a model: events and labels are written to the log, and "
    "only the log is learned. Writing again after a lost answer is safe, because records count once by their id; there "
    "is no need for an idempotency key."
)


def description() -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    paths |= {page.path: {"get": _page(page)} for page in PAGES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tailrace",
            "version": tailrace.__version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": _scopes()},
            },
        },
    }


def _scopes() -> str:
    return "Scopes: " + "; ".join(f"`{scope}`: {meaning}" for scope, meaning in SCOPE_MEANINGS.items()) + "."


def _schemas() -> dict[str, Any]:
    asked = [operation.body for operation in OPERATIONS if operation.body is not None]
    told: list[type[BaseModel]] = [operation.answer for operation in OPERATIONS if operation.answer is not None]
    of_streams = [data for operation in OPERATIONS for _, data in operation.events]
    models = [(each, "validation") for each in dict.fromkeys((*asked, *told, *of_streams, bodies.ProblemBody))]
    _, schema = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
    found: dict[str, Any] = schema["$defs"]
    return dict(sorted(found.items()))


def _operation(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.meaning,
        "security": [] if operation.scope is None else [{"token": [operation.scope.value]}],
    }
    parameters = [_parameter(each) for each in operation.parameters]
    if "{name}" in operation.path:
        parameters.insert(0, _NAME)
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    made["responses"] = {str(operation.success): _success(operation)} | _problem_answers(problems_of(operation))
    return made


def _page(page: Page) -> dict[str, Any]:
    content = {each: {"schema": {"type": "string"}} for each in page.media_types}
    made: dict[str, Any] = {
        "operationId": page.path.removeprefix("/"),
        "summary": page.summary,
        "description": page.meaning,
        "security": [],
    }
    answers: dict[str, Any] = {"200": {"description": page.summary, "content": content}}
    if page.is_probe:
        made["parameters"] = [_VERBOSE]
        answers["503"] = {"description": "Something is not well: the checks, with their reasons.", "content": content}
    made["responses"] = answers | _problem_answers(PROBLEMS_OF_ALL)
    return made


_VERBOSE: Final = {
    "name": "verbose",
    "in": "query",
    "required": False,
    "allowEmptyValue": True,
    "description": "List the checks with their reasons, whatever its value.",
    "schema": {"type": "string"},
}

_NAME: Final = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The name of the loop.",
    "schema": {"type": "string", "pattern": bodies.LOOP_NAME, "maxLength": 64},
}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": False,
        "description": parameter.meaning,
        "schema": _schema(parameter),
    }
    if parameter.type == "list":
        made |= {"style": "form", "explode": False}
    return made


def _schema(parameter: Parameter) -> dict[str, Any]:
    default = {} if parameter.default is None else {"default": parameter.default}
    if parameter.type == "integer":
        return {"type": "integer", "minimum": parameter.minimum, "maximum": parameter.maximum} | default
    if parameter.type == "boolean":
        return {"type": "boolean"} | default
    if parameter.type == "list":
        items = {"type": "string", "enum": list(parameter.choices)}
        return {"type": "array", "items": items, "minItems": 1, "default": list(parameter.default)}
    return {"type": "string", "pattern": parameter.pattern}


def _success(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    if operation.answer is not None:
        content = {"schema": _reference(operation.answer)}
    elif operation.events:
        content = _stream(operation)
    elif operation.media_type == JSON:
        content = {"schema": {"type": "object"}}
    return {
        "description": operation.summary,
        "headers": _REQUEST_ID | {name: _header(meaning) for name, meaning in operation.headers},
        "content": {operation.media_type: content},
    }


def _stream(operation: Operation) -> dict[str, Any]:
    """Return what OpenAPI 3.1 has no words for: which events there are, and the schema of the data of each."""
    listed = ", ".join(f"`{name}`: `{data.__name__}`" for name, data in operation.events)
    return {
        "schema": {
            "type": "string",
            "description": f"`id:`, `event:` and, as JSON on one line, `data:` of each event, by its name: {listed}.",
        },
        "example": 'retry: 1000\n\nid: 4.5/6\n\nid: 5.5/6\nevent: prediction\ndata: {"event_id":"p1", …}\n\n',
        "x-events": {name: _reference(data) for name, data in operation.events},
    }


def _problem_answers(kinds: Iterable[Kind]) -> dict[str, Any]:
    by_status: dict[int, list[Kind]] = {}
    for kind in sorted(kinds, key=lambda each: (each.status.value, each.code)):
        by_status.setdefault(kind.status.value, []).append(kind)
    return {
        str(status): {
            "description": " Or: ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
            "headers": _REQUEST_ID | _OF_STATUS.get(status, {}),
            "content": {problems.MEDIA_TYPE: {"schema": _reference(bodies.ProblemBody)}},
        }
        for status, kinds in by_status.items()
    }


def _header(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "required": True, "schema": {"type": "string"}}


_REQUEST_ID: Final = {
    "X-Request-Id": _header("As the request had it, else made here; the log of the process has it too.")
}

_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 0}}
}
_OF_STATUS: Final[Mapping[int, dict[str, Any]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": _header("`Bearer`: what the API asks for.")},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": _header("The methods that the resource takes.")},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}
"""Status of a problem → the headers that it always has."""


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}

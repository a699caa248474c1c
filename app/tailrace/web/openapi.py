"""OpenAPI 3.1, made from the table of operations and the classes of bodies."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import tailrace
from tailrace.domain.access import SCOPE_MEANINGS
from tailrace.web import bodies, problems
from tailrace.web.routes import JSON, OPERATIONS, Operation, Parameter, problems_of

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
    models = [(each, "validation") for each in (*asked, *told, bodies.ProblemBody)]
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
    made["responses"] = {str(operation.success): _success(operation)} | _problem_answers(operation)
    return made


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
    if operation.answer is not None:
        schema: dict[str, Any] = _reference(operation.answer)
    elif operation.media_type == JSON:
        schema = {"type": "object"}
    else:
        schema = {"type": "string"} if operation.is_stream else {"type": "string", "format": "binary"}
    return {
        "description": operation.summary,
        "headers": _REQUEST_ID,
        "content": {operation.media_type: {"schema": schema}},
    }


def _problem_answers(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[problems.Kind]] = {}
    for kind in problems_of(operation):
        by_status.setdefault(kind.status.value, []).append(kind)
    return {
        str(status): {
            "description": " Or: ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
            "headers": _REQUEST_ID,
            "content": {problems.MEDIA_TYPE: {"schema": _reference(bodies.ProblemBody)}},
        }
        for status, kinds in by_status.items()
    }


_REQUEST_ID: Final = {
    "x-request-id": {
        "description": "As the request had it, else made here; the log of the process has it too.",
        "schema": {"type": "string"},
    }
}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}

"""The description of the API (OpenAPI 3.1), made of the same table as its routes."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

import execution_logger
from execution_logger.web.queries import Query
from execution_logger.web.refusal import Failure

_REFERENCES = "#/components/schemas/{name}"
_REFUSALS = {
    "400": "A parameter cannot be used; the message names it.",
    "403": "You may not see this, or another site asks.",
    "404": "There is no such run or entry.",
    "405": "This path has no such method.",
    "413": "The body is too long.",
    "414": "The query is too long.",
    "415": "The body is no JSON.",
    "431": "The headers are too long.",
    "503": "The database cannot be read now; `Retry-After` says when to ask again.",
}


@dataclass(frozen=True, slots=True)
class Resource:
    """A path of the API, and what answers there.

    Attributes:
        path: where, relative to the application.
        answer_to: makes the answer; its docstring is the description.
        query: what may be asked; of a POST, its body.
        answers: the type of the answer; None where it is no JSON.
        media_types: of the answer, where it is no JSON.
        method: of HTTP.
    """

    path: str
    answer_to: Callable[..., Awaitable[Any]]
    query: type[Query]
    answers: type[msgspec.Struct] | None = None
    media_types: tuple[str, ...] = ("application/json",)
    method: str = "GET"


def describe(resources: Iterable[Resource]) -> dict[str, Any]:
    """The document."""
    listed = list(resources)
    types = [Failure, *(each.query for each in listed), *(each.answers for each in listed if each.answers)]
    references, schemas = msgspec.json.schema_components(types, ref_template=_REFERENCES)
    of = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for resource in listed:
        paths.setdefault(resource.path, {})[resource.method.lower()] = _operation(resource, of, schemas)
    used = {each.query.__name__ for each in listed if each.method == "GET"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "celery-execution-logger",
            "version": execution_logger.__version__,
            "description": "Reads the runs and their entries. The API is new, and may still change.",
        },
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": {name: each for name, each in schemas.items() if name not in used}},
    }


def _operation(resource: Resource, of: dict[Any, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    answer = {} if resource.answers is None else {"schema": of[resource.answers]}
    operation: dict[str, Any] = {
        "operationId": resource.answer_to.__name__,
        "summary": (resource.answer_to.__doc__ or "").strip(),
        "responses": {
            "200": {
                "description": "The answer.",
                "content": dict.fromkeys(resource.media_types, answer),
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": of[Failure]}}}
                for status, text in _REFUSALS.items()
            },
        },
    }
    if resource.method == "POST":
        body = {"application/json": {"schema": of[resource.query]}}
        operation["requestBody"] = {"required": True, "content": body}
    else:
        operation["parameters"] = list(map(dict, _parameters(schemas[resource.query.__name__])))
    return operation


def _parameters(schema: dict[str, Any]) -> Iterable[dict[str, Any]]:
    required = schema.get("required", ())
    for name, each in schema["properties"].items():
        # A URL has no null: a parameter is there or not.
        kinds = [kind for kind in each.get("anyOf", [each]) if kind.get("type") != "null"]
        yield {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds},
            "style": "form",
            "explode": True,
        }

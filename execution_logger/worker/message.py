"""The shape of a Celery message, and what is wrong with one."""

import base64
import json
from typing import Any, Literal

import msgspec

_JSON = "application/json"


class _Properties(msgspec.Struct):
    delivery_tag: str
    delivery_info: dict[str, Any]
    body_encoding: Literal["base64"]


class _Headers(msgspec.Struct):
    task: str
    id: str
    compression: None = None
    timelimit: tuple[float | None, float | None] | None = None
    stamps: dict[str, Any] | None = None
    stamped_headers: list[str] | None = None


class _Envelope(msgspec.Struct, rename={"content_type": "content-type"}):
    body: str
    content_type: str
    properties: _Properties
    headers: _Headers


class _Embed(msgspec.Struct):
    """The tasks that Celery is to call next."""

    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    chord: dict[str, Any] | None = None


_Body = tuple[list[Any], dict[str, Any], _Embed | None]


def problem_of(item: str | bytes) -> str | None:
    """Why no worker should be given this item of a queue; None for what Celery's producers send.

    Strict where Celery is not: what it reads of a message before the task runs can end the whole
    worker. A compressed message counts as wrong, because batches never are compressed, and because
    a small one can fill the memory.
    """
    try:
        envelope = msgspec.convert(json.loads(item), _Envelope)
    except msgspec.ValidationError as error:
        return f"it is not a Celery message: {error}"
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"
    return _problem_of_body(envelope)


def _problem_of_body(envelope: _Envelope) -> str | None:
    try:
        body = base64.b64decode(envelope.body)
    except ValueError as error:
        return f"its body is not base64: {error}"
    if envelope.content_type != _JSON:
        return None  # refused by the worker, which goes on
    try:
        msgspec.convert(json.loads(body), _Body)
    except msgspec.ValidationError as error:
        return f"its body is not a task's arguments: {error}"
    except (ValueError, RecursionError) as error:
        return f"its body is not JSON: {error}"
    return None

"""The shape of a Celery message, and what is wrong with one."""

import base64
from datetime import datetime
from typing import Any, Literal

import msgspec
from kombu.utils.json import loads


class _DeliveryInfo(msgspec.Struct):
    exchange: str
    routing_key: str
    priority: int | None = None
    redelivered: bool | None = None


class _Properties(msgspec.Struct):
    delivery_tag: str
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"] | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None


class _Headers(msgspec.Struct):
    task: str
    id: str
    shadow: str | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    retries: int | None = None
    timelimit: tuple[float | None, float | None] | None = None
    group: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    ignore_result: bool | None = None
    compression: None = None
    stamps: dict[str, Any] | None = None
    stamped_headers: list[str] | None = None


class _Envelope(
    msgspec.Struct, rename={"content_type": "content-type", "content_encoding": "content-encoding"}
):
    body: str
    content_type: Literal["application/json"]
    content_encoding: Literal["utf-8"]
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
    envelope = _read(item, _Envelope, "it")
    if isinstance(envelope, str):
        return envelope
    if not _is_encodable(envelope):
        return "it is not of Celery's making: it holds half of a character"
    try:
        body = decode_body(envelope.body, envelope.properties.body_encoding)
    except ValueError as error:
        return f"its body is not base64: {error}"
    problem = _read(body, _Body, "its body")
    return problem if isinstance(problem, str) else None


def decode_body(body: str, encoding: str | None) -> str | bytes:
    """The JSON that a body holds: as it is in messages of ours, in base64 in those of kombu's producers.

    Raises:
        ValueError: it is not base64.
    """
    return body if encoding is None else base64.b64decode(body)


def _read(item: str | bytes, kind: Any, name: str) -> Any:
    """What the JSON holds, or a text that says what is wrong with it."""
    try:
        # As the worker reads it, which makes more than JSON out of some objects.
        value = loads(item)
    except Exception as error:  # noqa: BLE001 - whatever it is, it would end a worker
        return f"{name} is not JSON: {_first_line(error)}"
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeError) as error:
        return f"{name} is not of Celery's making: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_encodable(value: Any) -> bool:
    """Whether Redis takes its texts for keys, and a log its lines."""
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True

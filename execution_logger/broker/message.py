"""The Celery message that carries a batch: how it is composed, what it tells, and what is wrong with one.

It is the one that `send_task` would send, without what comes with it: the environment's result backend, an
event sender's connection, retries, and signals by which the host's instrumentation would trace each batch.
"""

import base64
import time
from dataclasses import dataclass
from datetime import datetime
from socket import gethostname
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from kombu.utils.json import loads

from execution_logger.broker.connection import TASK_NAME
from execution_logger.entry.batch import Batch

if TYPE_CHECKING:
    from celery import Celery  # which who only reads messages does without

_EXCHANGED = bytes.maketrans(b"\"'", b"'\"")
_EXCHANGED_ARRAY = "[{'"
"""How an array of objects begins then. No JSON does."""


def exchange_quotes(text: str) -> str:
    """The text with each `"` as `'`, and the other way round."""
    return text.encode(errors="surrogatepass").translate(_EXCHANGED).decode(errors="surrogatepass")


def restore_quotes(array: str) -> str:
    """The JSON array that was given to `exchange_quotes`; any other text as it is."""
    return exchange_quotes(array) if array.startswith(_EXCHANGED_ARRAY) else array


CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"

_TASK_ID_CHARS = 40
_CLOCKS_DIFFER_SECONDS = 600.0
"""How much the clocks of two hosts may differ before what only waits in the queue is sent again."""


class _Sent(msgspec.Struct):
    """What a message in the queue tells of itself."""

    sent_at: float | None = None
    origin: str = ""
    """Of whom, as Celery writes it: gen<pid>@<host name>."""


class _SentMessage(msgspec.Struct):
    headers: _Sent


class _Described(msgspec.Struct):
    """What a message's description tells of an entry."""

    task_id: str = ""


_encode = msgspec.json.Encoder().encode
_decode_sent = msgspec.json.Decoder(_SentMessage).decode
_decode_described = msgspec.json.Decoder(_Described).decode


@dataclass(frozen=True, slots=True)
class Message:
    """A task of Celery's protocol 2, encoded once: what a broker of any kind is given."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, app: "Celery", batch: Batch, *, is_awaited: bool) -> "Message":
        """Compose the message of a batch, to be sent now; `app` is asked for nothing but the protocol."""
        headers, properties, body, _ = app.amqp.as_task_v2(
            batch.id,
            TASK_NAME,
            [exchange_quotes(batch.to_json())],
            {"process": batch.process, "first": batch.first} if batch.process else {},
            argsrepr=describe(batch),
            kwargsrepr="{}",
            ignore_result=not is_awaited,
        )
        headers["sent_at"] = time.time()
        return cls(headers, properties, _encode(body))


def sent_at(message: bytes | None) -> float | None:
    """When a message was sent, in seconds since 1970; None when it does not tell."""
    return _told(message).sent_at


def earliest_sent_at(message: bytes | None) -> float | None:
    """When a message was sent, at the earliest, by the clock of this host; None when it does not tell."""
    told = _told(message)
    is_own = told.origin.rpartition("@")[2] == gethostname()
    return told.sent_at if is_own or told.sent_at is None else told.sent_at - _CLOCKS_DIFFER_SECONDS


def _told(message: bytes | None) -> _Sent:
    try:
        return _decode_sent(message).headers if message else _Sent()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Sent()


def describe(batch: Batch) -> str:
    """What Flower and worker events show of a batch: "50 entries, 17 kB, task-1…"."""
    noun = "entry" if len(batch) == 1 else "entries"
    first = _decode_described(batch.entries[0]).task_id[:_TASK_ID_CHARS]
    more = "…" if len(batch) > 1 else ""
    return f"{len(batch)} {noun}, {max(1, round(batch.size_bytes / 1000))} kB, {first}{more}"


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

_MOST_LOGGED_CHARS = 255


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
    headers = envelope.headers
    if problem := problem_of_logged(headers.id, headers.task, headers.shadow or ""):
        return problem
    try:
        body = decode_body(envelope.body, envelope.properties.body_encoding)
    except ValueError as error:
        return f"its body is not base64: {error}"
    problem = _read(body, _Body, "its body")
    return problem if isinstance(problem, str) else None


def problem_of_logged(*texts: str) -> str | None:
    """Why Celery must not log these texts of a message, which it does as they are; None when it may."""
    for text in texts:
        if not text.isprintable() or len(text) > _MOST_LOGGED_CHARS:
            return f"its id or name is not printable, or too long: {text[:_MOST_LOGGED_CHARS]!a}"
    return None


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

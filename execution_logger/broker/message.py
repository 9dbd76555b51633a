"""The Celery message that carries a batch: the one that `send_task` would send, without what comes with it.

That is: the environment's result backend, an event sender's connection, retries, and signals by
which the host's instrumentation would trace each batch.
"""

import time
from dataclasses import dataclass
from socket import gethostname
from typing import Any

import msgspec
from celery import Celery

from execution_logger.broker.connection import TASK_NAME
from execution_logger.entry.batch import Batch

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


class _Headers(msgspec.Struct):
    """What a message in the queue tells of itself."""

    sent_at: float | None = None
    origin: str = ""
    """Of whom, as Celery writes it: gen<pid>@<host name>."""


class _Envelope(msgspec.Struct):
    headers: _Headers


class _Described(msgspec.Struct):
    """What a message's description tells of an entry."""

    task_id: str = ""


_encode = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_described = msgspec.json.Decoder(_Described).decode


@dataclass(frozen=True, slots=True)
class Message:
    """A task of Celery's protocol 2, encoded once: what a broker of any kind is given."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, app: Celery, batch: Batch, *, is_awaited: bool) -> "Message":
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
    try:
        return _decode_envelope(message).headers.sent_at if message else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def earliest_sent_at(message: bytes | None) -> float | None:
    """When a message was sent, at the earliest, by the clock of this host; None when it does not tell."""
    try:
        headers = _decode_envelope(message).headers if message else _Headers()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_own = headers.origin.rpartition("@")[2] == gethostname()
    return headers.sent_at if is_own or headers.sent_at is None else headers.sent_at - _CLOCKS_DIFFER_SECONDS


def describe(batch: Batch) -> str:
    """What Flower and worker events show of a batch: "50 entries, 17 kB, task-1…"."""
    noun = "entry" if len(batch) == 1 else "entries"
    first = _decode_described(batch.entries[0]).task_id[:_TASK_ID_CHARS]
    more = "…" if len(batch) > 1 else ""
    return f"{len(batch)} {noun}, {max(1, round(batch.size_bytes / 1000))} kB, {first}{more}"

"""Forged messages: a valid one of Celery's, with something wrong in every way that comes to mind."""

import base64
import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 2**63, 2**70, 1e308, float("nan"), "", "x", "\0", "\ud800", "x" * 100_000,
    [], [[]], {}, [None], {"x": None}, [1, 2, 3], {"__type__": "datetime", "__value__": "x"}, "2020-01-01",
    "2999-01-01T00:00:00+00:00", "99999999-99-99",
)  # fmt: skip

RAW = (
    b"", b" ", b"null", b"5", b'"x"', b"[]", b"{}", b"[{}]", b"\xff\xfe", b"{" * 1000, b"[" * 100_000,
    b'{"body": ""}', b'{"properties": {}}', b'{"a": NaN}', b"\0" * 100,
)  # fmt: skip

HEADERS = (
    "task", "id", "lang", "eta", "expires", "retries", "timelimit", "root_id", "parent_id", "group",
    "group_index", "shadow", "argsrepr", "kwargsrepr", "origin", "ignore_result", "stamps",
    "stamped_headers", "replaced_task_nesting", "compression", "redelivered", "reply_to",
    "correlation_id", "hostname", "delivery_info", "properties", "chord", "chain", "callbacks",
    "errbacks", "is_eager", "called_directly", "sent_at", "utc", "args", "kwargs", "loglevel", "logfile",
    "meta", "taskset",
)  # fmt: skip
"""Those that Celery knows, and those that its request object would take for its own."""

CONTENT_TYPES = (
    "application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "application/data",
    "text/plain", "application/nonsense", "application/json; charset=x", "APPLICATION/JSON", "",
)  # fmt: skip
CONTENT_ENCODINGS = ("utf-8", "binary", "ascii-8bit", "base64", "nonsense", "utf-16", "", "us-ascii")

Envelope = dict[str, Any]


class Forger:
    """Makes forged messages out of a valid one, the same for the same seed."""

    def __init__(self, valid: Envelope, seed: int = 0) -> None:
        self._valid = valid
        self._random = random.Random(seed)
        self._forgeries: tuple[Callable[[Envelope], bytes | Envelope], ...] = (
            self._flip, self._cut, self._raw, self._anywhere, self._anywhere, self._drop, self._header,
            self._header, self._property, self._body, self._body, self._body_text, self._content,
            self._compressed, self._embed, self._span, self._task,
        )  # fmt: skip

    def messages(self, count: int) -> Iterator[bytes]:
        """So many of them."""
        for _ in range(count):
            forged = self._random.choice(self._forgeries)(copy.deepcopy(self._valid))
            yield forged if isinstance(forged, bytes) else json.dumps(forged).encode()

    def _flip(self, envelope: Envelope) -> bytes:
        item = bytearray(json.dumps(envelope).encode())
        for _ in range(self._random.choice((1, 1, 3, 20))):
            item[self._random.randrange(len(item))] ^= 1 << self._random.randrange(8)
        return bytes(item)

    def _cut(self, envelope: Envelope) -> bytes:
        item = json.dumps(envelope).encode()
        return item[: self._random.randrange(len(item))]

    def _raw(self, _: Envelope) -> bytes:
        return self._random.choice(RAW)

    def _strange(self) -> Any:
        return self._random.choice(STRANGE)

    def _anywhere(self, envelope: Envelope) -> Envelope:
        holder, key = self._random.choice(list(_places(envelope)))
        holder[key] = self._strange()
        return envelope

    def _drop(self, envelope: Envelope) -> Envelope:
        holder, key = self._random.choice(list(_places(envelope)))
        del holder[key]
        return envelope

    def _header(self, envelope: Envelope) -> Envelope:
        for _ in range(self._random.choice((1, 1, 2))):
            envelope["headers"][self._random.choice(HEADERS)] = self._strange()
        return envelope

    def _property(self, envelope: Envelope) -> Envelope:
        names = (*envelope["properties"], "expiration", "message_id", "timestamp", "type", "x-death")
        envelope["properties"][self._random.choice(names)] = self._strange()
        return envelope

    def _body(self, envelope: Envelope) -> Envelope:
        body = json.loads(envelope["body"])
        holder, key = self._random.choice(list(_places(body)))
        if self._random.random() < 0.2:
            del holder[key]
        else:
            holder[key] = self._strange()
        if self._random.random() < 0.1:
            body = self._strange()
        envelope["body"] = json.dumps(body)
        return envelope

    def _body_text(self, envelope: Envelope) -> Envelope:
        body = bytearray(envelope["body"].encode())
        choice = self._random.randrange(4)
        if choice == 0:
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        elif choice == 1:
            del body[self._random.randrange(len(body)) :]
        elif choice == 2:
            body = bytearray(self._random.choice(RAW))
        else:
            envelope["body"] = envelope["body"][: self._random.randrange(len(envelope["body"]))]
            return envelope
        return _with_body(envelope, bytes(body))

    def _content(self, envelope: Envelope) -> Envelope:
        envelope["content-type"] = self._random.choice(CONTENT_TYPES)
        envelope["content-encoding"] = self._random.choice(CONTENT_ENCODINGS)
        return envelope

    def _compressed(self, envelope: Envelope) -> Envelope:
        envelope["headers"]["compression"] = self._random.choice(("application/x-gzip", "gzip", "nonsense"))
        body = gzip.compress(b"[" * self._random.choice((10, 5_000_000)))
        return _with_body(envelope, body) if self._random.random() < 0.5 else envelope

    def _embed(self, envelope: Envelope) -> Envelope:
        args, kwargs, embed = json.loads(envelope["body"])
        signature: dict[str, Any] = {
            "task": "forged",
            "args": [],
            "kwargs": {},
            "options": {},
            "subtask_type": None,
        }
        key = self._random.choice(("callbacks", "errbacks", "chain", "chord"))
        embed[key] = self._random.choice((signature, [signature], [{}], [5], {}, "x", [[]]))
        envelope["body"] = json.dumps([args, kwargs, embed])
        return envelope

    def _span(self, envelope: Envelope) -> Envelope:
        args, _, embed = json.loads(envelope["body"])
        kwargs = {"process": self._strange(), "first": self._strange()}
        envelope["body"] = json.dumps([args, kwargs, embed])
        return envelope

    def _task(self, envelope: Envelope) -> Envelope:
        names = (
            "celery.backend_cleanup",
            "celery.chord_unlock",
            "celery.map",
            "celery.accumulate",
            "os.system",
        )
        envelope["headers"]["task"] = self._random.choice(names)
        return envelope


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in it that holds something."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _with_body(envelope: Envelope, body: bytes) -> Envelope:
    """With any bytes for its body, as kombu's producers write it."""
    envelope["body"] = base64.b64encode(body).decode()
    envelope["properties"]["body_encoding"] = "base64"
    return envelope

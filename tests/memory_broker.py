"""kombu's broker in memory, looked at from outside: what a message really holds."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.transport.memory import Transport

from execution_logger.broker.message import restore_quotes

URL = "memory://user:kTi7w2@localhost/"
PASSWORD = "kTi7w2"
"""Part of the URL; it must not be found in any message."""


@dataclass(frozen=True)
class Envelope:
    """A message as it is in the queue."""

    raw: dict[str, Any]

    @property
    def headers(self) -> dict[str, Any]:
        """Those of Celery's protocol: task, id, argsrepr ..."""
        headers: dict[str, Any] = self.raw["headers"]
        return headers

    @property
    def body(self) -> list[Any]:
        """Arguments, keyword arguments, and what Celery adds."""
        body: list[Any] = json.loads(base64.b64decode(self.raw["body"]))
        return body

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Those of the batch."""
        entries: list[dict[str, Any]] = json.loads(restore_quotes(self.body[0][0]))
        return entries


class MemoryBroker:
    """All queues of this process."""

    url = URL

    def queue(self, name: str = "logs") -> list[Envelope]:
        """The messages that wait in a queue, oldest first."""
        return [Envelope(raw) for raw in list(Transport.Channel.queues[name].queue)] if name in self else []

    def take(self, name: str = "logs") -> Envelope:
        """The oldest message of a queue, which is then gone."""
        return Envelope(Transport.Channel.queues[name].get(block=False))

    def __contains__(self, name: str) -> bool:
        return name in Transport.Channel.queues

    def entries(self) -> list[dict[str, Any]]:
        """Those of all batches in the queue `logs`."""
        return [entry for envelope in self.queue() for entry in envelope.entries]


@contextmanager
def empty_broker() -> Iterator[MemoryBroker]:
    """A broker without queues, before and after."""
    Transport.Channel.queues.clear()
    yield MemoryBroker()
    Transport.Channel.queues.clear()

"""What the workers of a broker say of themselves, by Celery's remote control."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kombu.pidbox import Mailbox

from execution_logger.broker.confirmations import result_backend_url
from execution_logger.broker.connection import TASK_NAME
from execution_logger.broker.queue import open_channel
from execution_logger.settings import Settings
from execution_logger.text import public_url

COMMAND = "execution_logger"
"""The name of the command: `celery -A tasks inspect execution_logger` asks, too."""


def describe(settings: Settings) -> dict[str, str | None]:
    """Where this worker writes to and where it leaves confirmations; nothing in it is secret."""
    return {
        "broker": public_url(settings.broker_url),
        "queue": settings.queue,
        "database": public_url(settings.database_url or ""),
        "table": settings.table,
        "time_zone": settings.time_zone,
        "result_backend": public_url(result_backend_url(settings) or "") or None,
    }


def answer_when_asked() -> None:
    """Let this worker process know the command; called once it is a worker, before it listens."""
    # Imported here: an application that only sends tasks registers ours, too.
    from celery.worker.control import inspect_command  # noqa: PLC0415

    inspect_command(name=COMMAND, help="Where the execution log goes, and what time it is here.")(_answer)


def _answer(state: Any, **_: Any) -> dict[str, Any]:
    """The description that `register_tasks` has left on the task, and what only the process knows."""
    task, pool = state.app.tasks.get(TASK_NAME), type(state.consumer.pool).__module__
    return {**getattr(task, "description", {}), "pool": pool.rpartition(".")[2], "time": time.time()}


_ANSWER_SECONDS = 1.0
_INSPECTION_SECONDS = 1.5
_CELERY_MAILBOX = "celery"


def workers_online(settings: Settings) -> list[str]:
    """The names of the workers that take from the queue and answer within a second, sorted.

    Workers of one name, as several on one host have unless they are given `--hostname`, count once.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    answers = ask_workers(settings, "active_queues")
    return sorted({name for name, queues in answers if settings.queue in _queue_names(queues)})


def ask_workers(settings: Settings, command: str) -> list[tuple[str, Any]]:
    """What each worker answers to a command of Celery's `inspect` within a second.

    Over a connection of its own instead of a pool's.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        answers = _mailbox(channel).multi_call(command, timeout=_ANSWER_SECONDS, channel=channel)
    return [item for answer in answers for item in answer.items()]


def _mailbox(channel: Any) -> Any:
    return Mailbox(_CELERY_MAILBOX, type="fanout", accept=["json"])(channel.connection.client)


def _queue_names(queues: Any) -> list[str]:
    """Those that a worker takes from; no list is the answer of one that has failed to tell."""
    return sorted(str(queue["name"]) for queue in queues) if isinstance(queues, list) else []


@dataclass(frozen=True, slots=True)
class Inspected:
    """One worker, of ours or of anybody else; what it has not answered is empty, or None."""

    name: str
    queues: tuple[str, ...]
    tasks: frozenset[str] | None = None
    configuration: dict[str, Any] | None = None
    """What differs from Celery's defaults, without passwords."""
    description: dict[str, Any] = field(default_factory=dict)
    """See `worker.description`; empty for workers without the task."""
    described_between: tuple[float, float] = (0.0, 0.0)
    """When it was asked for its description, and when the answer was there, by our clock."""

    @property
    def transport_options(self) -> dict[str, Any]:
        """Those of its connection to the broker, as far as it has any."""
        return (self.configuration or {}).get("broker_transport_options") or {}

    @property
    def has_task(self) -> bool:
        """Whether it can write batches, as far as is known."""
        return self.tasks is None or TASK_NAME in self.tasks


def inspect_workers(settings: Settings, now: Callable[[], float] = time.time) -> list[Inspected]:
    """Ask all workers of the broker's database, whatever queue they take from; about two seconds.

    A worker that hangs, is busy in the pool `solo`, or runs without remote control does not answer.

    Args:
        settings: name the broker.
        now: this machine's clock, in seconds since 1970.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    with open_channel(settings) as channel:
        mailbox = _mailbox(channel)
        first = mailbox.multi_call("active_queues", timeout=_INSPECTION_SECONDS, channel=channel) or []
        names = [name for answer in first for name in answer]

        def ask(command: str, names: Sequence[str], **arguments: Any) -> dict[str, list[Any]]:
            # By name, so that it need not be waited for others.
            limit = {"timeout": _INSPECTION_SECONDS, "channel": channel}
            return _by_name(mailbox.call(list(names), command, arguments, **limit) or [])

        if not names:
            return []
        queues, tasks = _by_name(first), ask("registered", names)
        # Not "stats": what is no JSON in a connection's options is a traceback in the worker's log there.
        configurations = ask("conf", names)
        # To others it would be an unknown command, and a traceback in their logs.
        ours = [name for name in names if any(TASK_NAME in (_tasks(found) or ()) for found in tasks[name])]
        asked_at = now()
        descriptions = ask(COMMAND, ours) if ours else defaultdict(list)
        answered_at = now()
    return [
        Inspected(
            name=name,
            queues=tuple(_queue_names(_next(queues, name))),
            tasks=_tasks(_next(tasks, name)),
            configuration=_next(configurations, name),
            description=_usable(_next(descriptions, name)),
            described_between=(asked_at, answered_at),
        )
        for name in sorted(names)
    ]


def _by_name(answers: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Several workers may have one name."""
    found: dict[str, list[Any]] = defaultdict(list)
    for answer in answers:
        for name, value in answer.items():
            found[name].append(value)
    return found


def _next(found: dict[str, list[Any]], name: str) -> Any:
    return found[name].pop(0) if found[name] else None


def _tasks(registered: Any) -> frozenset[str] | None:
    """The names, without what Celery says of each in brackets."""
    if registered is None:
        return None
    return frozenset(str(task).partition(" ")[0] for task in registered)


def _usable(description: Any) -> dict[str, Any]:
    """Empty for a worker of a version that does not know the command."""
    return description if isinstance(description, dict) and "error" not in description else {}

"""`execution-logger dead`: what neither the database nor a worker would take."""

import asyncio
import json
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

import click

from execution_logger.cli.terminal import day_and_time, echo_json, open_console, print_rows
from execution_logger.errors import ExecutionLoggerError
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from execution_logger.store.dead_letters import DeadLetter, DeadLetters, retry
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt
from execution_logger.text import printable
from execution_logger.worker.poison import (
    ID_PREFIX,
    DeadMessage,
    dead_messages,
    delete_messages,
    find_message,
    put_back,
)

_PAGE = 100
_A_DAY = timedelta(days=1)  # the clock of the database may be ahead
_T = TypeVar("_T")


class UnknownLetterError(ExecutionLoggerError):
    """There is no dead letter and no message with this id."""

    exit_code = 1


class Entries:
    """The entries that the database has refused; for use in a `with` statement, over one connection."""

    def __init__(self, settings: Settings) -> None:
        settings.require_database("dead")
        self._settings = settings
        self._letters = DeadLetters(settings)
        self._engine = create_engine(settings, pool_size=1)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._runner:
            self._runner.run(self._engine.dispose())

    def page(self, limit: int, offset: int = 0) -> Sequence[DeadLetter]:
        """Some of them, newest first."""

        async def read() -> Sequence[DeadLetter]:
            async with self._engine.connect() as connection:
                return await self._letters.list(connection, limit, offset)

        return self._run(read())

    def ids(self) -> Sequence[str]:
        """Those of all, newest first."""

        async def read() -> Sequence[str]:
            async with self._engine.connect() as connection:
                return await self._letters.ids(connection)

        return self._run(read())

    def find(self, letter_ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Some of them; those that are there no more are left out."""

        async def read() -> Sequence[DeadLetter]:
            async with self._engine.connect() as connection:
                return await self._letters.get(connection, letter_ids)

        return self._run(read())

    def retry(self, letters: Sequence[DeadLetter]) -> Mapping[str, str]:
        """Store some; the reasons when they are refused again, by their ids."""
        return self._runner.run(retry(self._engine, self._settings, letters))

    def delete(self, letter_ids: Sequence[str] | None) -> int:
        """Delete these, or all; how many there were."""

        async def delete() -> int:
            async with transaction(self._engine) as connection:
                if letter_ids is None:
                    return await self._letters.delete_before(connection, datetime.now(UTC) + _A_DAY)
                return await self._letters.delete(connection, letter_ids)

        return self._run(delete())

    def _run(self, using: Coroutine[Any, Any, _T]) -> _T:
        async def run() -> _T:
            async with attempt(self._engine, self._settings.database_timeout_seconds):
                return await using

        return self._runner.run(run())


@click.group()
def command() -> None:
    """Look after what was refused for good.

    That is entries that the database refuses, in the table execution_log_dead_letters, and messages
    that can end a worker, which `execution-logger worker` moves to the Redis list QUEUE.quarantine.
    """


@command.command("list", context_settings={"show_default": True})
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--limit", type=click.IntRange(min=1), default=50, help="Most of each kind, newest first.")
def list_command(as_json: bool, limit: int) -> None:  # noqa: FBT001 - click passes it by name
    """List the newest ones, with their reasons."""
    settings = Settings.from_environment()
    with Entries(settings) as entries:
        found: list[DeadLetter | DeadMessage] = [*entries.page(limit), *_messages(settings, limit)]
    if as_json:
        echo_json([_facts(each) for each in found])
    elif found:
        _print(found)
    else:
        click.echo("No entry was refused, and no message was moved aside.")


@command.command("show")
@click.argument("letter_id", metavar="ID")
def show_command(letter_id: str) -> None:
    """Print one of them whole, as JSON."""
    settings = Settings.from_environment()
    with Entries(settings) as entries:
        found = _find(settings, entries, letter_id)
    content = {"entry": found.entry} if isinstance(found, DeadLetter) else {"message": _text(found)}
    echo_json({**_facts(found), **content}, ensure_ascii=False)


@command.command("retry")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All of them.")
def retry_command(letter_ids: tuple[str, ...], is_all: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Try again: store entries, and put messages back on the queue.

    A message that is still wrong stays where it is. The exit code is 1 when one was refused again.
    """
    settings = Settings.from_environment()
    _require_choice(letter_ids, is_all=is_all)
    count = refused = 0
    with Entries(settings) as entries:
        for found in _to_retry(settings, entries, letter_ids):
            count += len(found)
            for letter_id, problem in _retry(settings, entries, found):
                refused += 1
                click.echo(f"{printable(letter_id)}: {printable(problem)}", err=True)
    click.echo(f"Retried with success: {count - refused}. Refused again: {refused}.")
    sys.exit(bool(refused))


@command.command("purge")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge_command(letter_ids: tuple[str, ...], is_all: bool, yes: bool) -> None:  # noqa: FBT001 - as above
    """Delete them for good."""
    settings = Settings.from_environment()
    _require_choice(letter_ids, is_all=is_all)
    if is_all and not yes:
        click.confirm("Delete all dead letters and all messages that were moved aside?", abort=True)
    with Entries(settings) as entries:
        if is_all:
            deleted = entries.delete(None) + delete_messages(settings, _messages(settings))
        else:
            found = [_find(settings, entries, letter_id) for letter_id in letter_ids]
            deleted = entries.delete([each.id for each in found if isinstance(each, DeadLetter)])
            deleted += delete_messages(settings, [each for each in found if isinstance(each, DeadMessage)])
    click.echo(f"Deleted: {deleted}.")


def _require_choice(letter_ids: Sequence[str], *, is_all: bool) -> None:
    if bool(letter_ids) == is_all:
        raise click.UsageError("name the ids, or --all")


def _messages(settings: Settings, limit: int | None = None) -> list[DeadMessage]:
    return dead_messages(settings, limit) if settings.celery_enabled else []


def _find(settings: Settings, entries: Entries, letter_id: str) -> DeadLetter | DeadMessage:
    is_message = letter_id.startswith(ID_PREFIX) and settings.celery_enabled
    found = find_message(settings, letter_id) if is_message else next(iter(entries.find([letter_id])), None)
    if found is None:
        raise UnknownLetterError(f"{letter_id}: there is none with this id. See: execution-logger dead list")
    return found


def _to_retry(
    settings: Settings, entries: Entries, letter_ids: Sequence[str]
) -> Iterator[Sequence[DeadLetter | DeadMessage]]:
    """These, or else all, in pieces."""
    if letter_ids:
        yield from ([_find(settings, entries, letter_id)] for letter_id in letter_ids)
        return
    ids = entries.ids()
    for start in range(0, len(ids), _PAGE):
        yield entries.find(ids[start : start + _PAGE])
    yield _messages(settings)


def _retry(
    settings: Settings, entries: Entries, found: Sequence[DeadLetter | DeadMessage]
) -> list[tuple[str, str]]:
    """Why some of these are refused again, each with its id; equal messages have the same."""
    problems = entries.retry([each for each in found if isinstance(each, DeadLetter)])
    messages = [each for each in found if isinstance(each, DeadMessage)]
    refused = [(each.id, problem) for each in messages if (problem := put_back(settings, each))]
    return [*problems.items(), *refused]


def _facts(each: DeadLetter | DeadMessage) -> dict[str, Any]:
    if isinstance(each, DeadLetter):
        return {
            "id": each.id,
            "kind": "entry",
            "task_id": _task_id(each.entry),
            "batch_id": each.batch_id,
            "at": each.created_at.isoformat(),
            "reason": each.reason,
        }
    reason = each.problem or "none by now: it can be retried"
    return {"id": each.id, "kind": "message", "bytes": len(each.item), "reason": reason}


def _task_id(entry: str) -> str | None:
    """The run of an entry; what was refused need not even be JSON."""
    try:
        return str(json.loads(entry)["task_id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _text(message: DeadMessage) -> str:
    return message.item.decode("utf-8", "backslashreplace")


def _print(found: Sequence[DeadLetter | DeadMessage]) -> None:
    rows = []
    for each in found:
        facts = _facts(each)
        at = day_and_time(each.created_at) if isinstance(each, DeadLetter) else "(a message)"
        rows.append([each.id, at, facts.get("task_id") or "-", facts["reason"]])
    print_rows(open_console(), ("id", "refused at", "run", "reason"), rows, folded={"reason": 40})

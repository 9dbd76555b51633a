"""`execution-logger dead`: what neither the database nor a worker would take."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.cli.options import Integer, json_option
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

Dead = DeadLetter | DeadMessage


class UnknownLetterError(ExecutionLoggerError):
    """There is no dead letter and no message with this id."""

    exit_code = 1


class Refused:
    """Entries that the database has refused, and messages that were moved aside; for use in a `with`."""

    def __init__(self) -> None:
        self._settings = Settings.from_environment()
        self._settings.require_database("dead")
        self._letters = DeadLetters(self._settings)
        self._engine = create_engine(self._settings, pool_size=1)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._runner:
            self._runner.run(self._engine.dispose())

    def newest(self, limit: int) -> list[Dead]:
        """The newest of each kind."""
        letters = self._ask(self._engine.connect(), lambda connection: self._letters.list(connection, limit))
        return [*letters, *self._messages(limit)]

    def find(self, letter_id: str) -> Dead:
        """One of them; raises UnknownLetterError."""
        is_message = letter_id.startswith(ID_PREFIX) and self._settings.celery_enabled
        letter = None if is_message else next(iter(self._get([letter_id])), None)
        found = find_message(self._settings, letter_id) if is_message else letter
        if found is None:
            hint = "See: execution-logger dead list"
            raise UnknownLetterError(f"{letter_id}: there is none with this id. {hint}")
        return found

    def in_pieces(self) -> Iterator[Sequence[Dead]]:
        """All of them."""
        ids = self._ask(self._engine.connect(), self._letters.ids)
        for start in range(0, len(ids), _PAGE):
            yield self._get(ids[start : start + _PAGE])
        yield self._messages()

    def retry(self, found: Sequence[Dead]) -> list[tuple[str, str]]:
        """Why some of these are refused again, each with its id; equal messages have the same."""
        letters, messages = _by_kind(found)
        problems = self._runner.run(retry(self._engine, self._settings, letters))
        refused = [(each.id, problem) for each in messages if (problem := put_back(self._settings, each))]
        return [*problems.items(), *refused]

    def delete(self, found: Sequence[Dead]) -> int:
        """Delete these; how many there were."""
        letters, messages = _by_kind(found)
        ids = [each.id for each in letters]
        deleted = self._ask(
            transaction(self._engine), lambda connection: self._letters.delete(connection, ids)
        )
        return deleted + delete_messages(self._settings, messages)

    def delete_all(self) -> int:
        """Delete all; how many there were."""
        before = datetime.now(UTC) + _A_DAY
        deleted = self._ask(
            transaction(self._engine), lambda connection: self._letters.delete_before(connection, before)
        )
        return deleted + delete_messages(self._settings, self._messages())

    def _get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return self._ask(self._engine.connect(), lambda connection: self._letters.get(connection, ids))

    def _messages(self, limit: int | None = None) -> list[DeadMessage]:
        return dead_messages(self._settings, limit) if self._settings.celery_enabled else []

    def _ask(
        self,
        opening: AbstractAsyncContextManager[AsyncConnection],
        question: Callable[[AsyncConnection], Awaitable[_T]],
    ) -> _T:
        async def ask() -> _T:
            async with attempt(self._engine, self._settings.database_timeout_seconds), opening as connection:
                return await question(connection)

        return self._runner.run(ask())


def _by_kind(found: Sequence[Dead]) -> tuple[list[DeadLetter], list[DeadMessage]]:
    letters = [each for each in found if isinstance(each, DeadLetter)]
    return letters, [each for each in found if isinstance(each, DeadMessage)]


@click.group()
def command() -> None:
    """Look after what was refused for good.

    That is entries that the database refuses, in the table execution_log_dead_letters, and messages
    that can end a worker, which `execution-logger worker` moves to the Redis list QUEUE.quarantine.
    """


@command.command("list", context_settings={"show_default": True})
@json_option
@click.option("--limit", type=Integer(min=1), default=50, help="Most of each kind, newest first.")
def list_command(as_json: bool, limit: int) -> None:
    """List the newest ones, with their reasons."""
    with Refused() as refused:
        found = refused.newest(limit)
    if as_json:
        echo_json([_facts(each) for each in found])
    elif found:
        rows = [_row(each) for each in found]
        print_rows(open_console(), ("id", "refused at (UTC)", "run", "reason"), rows, folded={"reason": 40})
    else:
        click.echo("No entry was refused, and no message was moved aside.")


@command.command("show")
@click.argument("letter_id", metavar="ID")
def show_command(letter_id: str) -> None:
    """Print one of them whole, as JSON."""
    with Refused() as refused:
        found = refused.find(letter_id)
    if isinstance(found, DeadLetter):
        content = {"entry": found.entry}
    else:
        content = {"message": found.item.decode("utf-8", "backslashreplace")}
    echo_json({**_facts(found), **content}, ensure_ascii=False)


_ids = click.argument("letter_ids", metavar="[ID]...", nargs=-1)
_all = click.option("--all", "is_all", is_flag=True, help="All of them.")


@command.command("retry")
@_ids
@_all
def retry_command(letter_ids: tuple[str, ...], is_all: bool) -> None:
    """Try again: store entries, and put messages back on the queue.

    A message that is still wrong stays where it is. The exit code is 1 when one was refused again.
    """
    _require_choice(letter_ids, is_all=is_all)
    count, again = 0, 0
    with Refused() as refused:
        for found in refused.in_pieces() if is_all else ([refused.find(each)] for each in letter_ids):
            count += len(found)
            for letter_id, problem in refused.retry(found):
                again += 1
                click.echo(f"{printable(letter_id)}: {printable(problem)}", err=True)
    click.echo(f"Retried with success: {count - again}. Refused again: {again}.")
    sys.exit(bool(again))


@command.command("purge")
@_ids
@_all
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge_command(letter_ids: tuple[str, ...], is_all: bool, yes: bool) -> None:
    """Delete them for good."""
    _require_choice(letter_ids, is_all=is_all)
    if is_all and not yes:
        click.confirm("Delete all dead letters and all messages that were moved aside?", abort=True)
    with Refused() as refused:
        deleted = (
            refused.delete_all() if is_all else refused.delete([refused.find(each) for each in letter_ids])
        )
    click.echo(f"Deleted: {deleted}.")


def _require_choice(letter_ids: Sequence[str], *, is_all: bool) -> None:
    if bool(letter_ids) == is_all:
        raise click.UsageError("name the ids, or --all")


def _facts(each: Dead) -> dict[str, Any]:
    if isinstance(each, DeadLetter):
        return {
            "id": each.id,
            "kind": "entry",
            "task_id": each.task_id,
            "batch_id": each.batch_id,
            "at": each.created_at.isoformat(),
            "reason": each.reason,
        }
    reason = each.problem or "none by now: it can be retried"
    return {"id": each.id, "kind": "message", "bytes": len(each.item), "reason": reason}


def _row(each: Dead) -> list[str]:
    facts = _facts(each)
    at = day_and_time(each.created_at) if isinstance(each, DeadLetter) else "(a message)"
    return [each.id, at, facts.get("task_id") or "-", facts["reason"]]

"""The bisection: a batch that is refused, or too slow, is stored in pieces, and a verdict on the rest.

A server that answers is at work, whatever it says of these entries: they must not be in the way of others.
"""

import itertools
import random
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from execution_logger.diagnostics import Seldom, logger
from execution_logger.errors import BatchHeldError, TableRefusesError
from execution_logger.store.dead_letters import DeadLetters, dead_letter_id
from execution_logger.store.engine import in_transactions
from execution_logger.store.faults import (
    cause_of,
    is_for_good,
    is_foreign_key,
    is_missing_partition,
    is_of_other_rows,
    is_refusal,
    is_timeout,
    may_be_refusal,
    reason_of,
    summary_of,
)
from execution_logger.store.insert import insert_entries, join
from execution_logger.store.table import LogTable

_Refused = list[tuple[str, DBAPIError]]

_LONG_SECONDS = 300.0
"""How long an entry waits for what is elsewhere: an asynchronous log overtakes its host's commit, and another
server, which a trigger asks, may be away."""
_REFUSAL_SECONDS = 10.0
"""How long an entry waits for a host that may be in the middle of a migration."""
_MOST_REMEMBERED = 10_000
_VERDICT_SECONDS = 60.0
_PLENTY = 100_000
_MOST_CAUSES = 20
_NAMES = ("task_id", "roadmap_id", "concept_id", "step", "agent_name")
"""What is the host's own in an entry."""


class Pace:
    """How many entries a statement may have: half as many when it takes too long, more when it is quick.

    Args:
        limit_seconds: what a statement may take.
        now: a clock in seconds.
    """

    def __init__(self, limit_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.most: int | None = None
        """None: any number of them."""
        self._limit_seconds = limit_seconds
        self._now = now
        self._stored_at: float | None = None
        self._seldom = Seldom(now)

    def takes(self, count: int) -> bool:
        """Whether a statement may have so many; if not that is logged, once an hour."""
        if self.most is None or count <= self.most:
            return True
        if self._seldom.may_say("slow"):
            logger.warning(
                "batches took too long for the database, and are stored in pieces: of %d entries now. "
                "EXECUTION_LOGGER_DATABASE_TIMEOUT_SECONDS limits them",
                self.most,
            )
        return False

    def stored(self, count: int, seconds: float) -> None:
        """So many entries took so long."""
        self._stored_at = self._now()
        if self.most is not None and count >= self.most and seconds < self._limit_seconds / 4:
            self.most = self.most * 2 if self.most < _PLENTY else None

    def failed(self, count: int, error: BaseException) -> None:
        """So many entries failed.

        Raises:
            BatchHeldError: they took too long for the server, and fewer will not, or others do not.
            CancelledError: it is `error`, with such a BatchHeldError as its cause: they took too long for us,
                which is an outage if the server does not answer either.
        """
        was_cut_off = isinstance(error, CancelledError)
        if not was_cut_off and not is_timeout(error):
            return
        self.most = max(1, min(count, self.most or count) // 2)
        is_idle = self._stored_at is None or self._now() - self._stored_at > 2 * self._limit_seconds
        if count == 1 and is_idle:
            return
        why = "no answer in time" if was_cut_off else summary_of(error)
        held = BatchHeldError(f"{count} entries took too long: {why}")
        if was_cut_off:
            raise error from held  # who has cancelled the task waits for this very error
        raise held from error


class Bisection:
    """Stores what can be stored of a batch, and decides on the rest; any number of batches at a time.

    Args:
        dead_letters: take what is refused for good.
        store: stores some entries, all or none, and commits.
        pace: how many at once.
        limit_seconds: of an attempt. After half of it no other piece is begun.
        now: a clock in seconds.
    """

    def __init__(
        self,
        dead_letters: DeadLetters,
        store: Callable[[AsyncConnection, LogTable, Sequence[str]], Awaitable[int]],
        pace: Pace,
        limit_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.accepted: msgspec.Raw | str | None = None
        """An entry that the database has taken: others like it will do, unless the table was changed."""
        self._dead_letters = dead_letters
        self._store = store
        self._pace = pace
        self._limit_seconds = limit_seconds
        self._now = now
        self._since: dict[str, float] = {}
        self._seldom = Seldom(now)
        self._verdict: tuple[str, ...] | None = None
        """Why every entry is refused, as far as that was found out within the last minute."""
        self._verdict_ends_at = 0.0

    async def run(
        self,
        connection: AsyncConnection,
        table: LogTable,
        batch_id: str,
        entries: list[str],
        error: Exception | None,
        *,
        one_by_one: bool,
    ) -> tuple[int, int]:
        """Store a batch in pieces: halves of halves, until those that are refused are alone.

        Each piece is committed, and each dead letter kept, at once: an attempt that runs out of time
        is followed by one that has less to do.

        Args:
            connection: with no transaction open; it has transactions from now on.
            table: as it is now.
            batch_id: kept with the dead letters.
            entries: of the batch.
            error: why they were refused all at once; None when that was not tried.
            one_by_one: begin with each alone.

        Returns:
            How many rows are new, and how many entries are dead letters now or were before.

        Raises:
            BatchHeldError: some of them must wait; the batch is to be written again, with the same id.
        """
        await in_transactions(connection)
        if error is not None and self._verdict == cause_of(error) and self._now() < self._verdict_ends_at:
            # Not once more entry by entry: the server's log would note each of them.
            await self._hold_if_all_are(connection, table, [error])
        dead = await self._buried(connection, batch_id)
        living = [entry for entry in entries if dead_letter_id(entry) not in dead]
        waiting = living if self._pace.most is None else await _without_stored(connection, table, living)
        stored, refused, pause = await self._store_pieces(connection, table, waiting, one_by_one=one_by_one)
        if refused:
            # The table may have been changed in the middle: for a verdict each reason must hold now.
            await self._hold_if_all_are(connection, table, [error for _, error in refused])
            self._verdict = None
            if len(refused) == len(living):
                self._hold_if_no_partition(refused)
            outdated = await self._outdated(connection, table, refused)
            await self._bury(connection, batch_id, refused, outdated)
        if pause is not None:
            raise pause
        self._since.pop(batch_id, None)
        return stored, len(entries) - len(living) + len(refused)

    async def has_refused(self, connection: AsyncConnection, table: LogTable, error: BaseException) -> bool:
        """Whether a server that works has refused these entries: it says so, or takes another one.

        A trigger of the host's that asks another server may fail as if this one were away.
        """
        if is_refusal(error):
            return True
        if not may_be_refusal(error) or connection.invalidated:
            return False
        try:
            await connection.rollback()
            await in_transactions(connection)
            return await refusal_of(connection, table, await self._good_entry(connection, table)) is None
        except DBAPIError:
            return False

    async def _buried(self, connection: AsyncConnection, batch_id: str) -> set[str]:
        try:
            return await self._dead_letters.ids_of(connection, batch_id)
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            # Without the table, or the right to read it, good entries are stored all the same.
            await connection.rollback()
            return set()

    async def _store_pieces(
        self, connection: AsyncConnection, table: LogTable, entries: list[str], *, one_by_one: bool
    ) -> tuple[int, _Refused, BatchHeldError | None]:
        """How many rows are new, what is refused alone, and why not all was tried."""
        began_at, stored, refused = self._now(), 0, _Refused()
        pieces = self._cut(entries, one_by_one=one_by_one)
        while pieces:
            if (stored or refused) and self._now() - began_at > self._limit_seconds / 2:
                return stored, refused, BatchHeldError("it takes long, and goes on")
            piece = pieces.pop()
            try:
                stored += await self._store(connection, table, piece)
                self.accepted = piece[0]
            except BatchHeldError as error:
                await connection.rollback()
                return stored, refused, error
            except DBAPIError as error:
                if not await self.has_refused(connection, table, error):
                    raise
                await connection.rollback()
                if len(piece) > 1:
                    middle = len(piece) // 2
                    pieces += [piece[middle:], piece[:middle]]
                else:
                    refused.append((piece[0], error))
        return stored, refused, None

    def _cut(self, entries: list[str], *, one_by_one: bool) -> list[list[str]]:
        size = 1 if one_by_one else self._pace.most or len(entries)
        if size < len(entries) and not one_by_one:
            # One that is slow even alone must not be in the way of the same others each time.
            start = random.randrange(len(entries))  # noqa: S311 - no secret
            entries = entries[start:] + entries[:start]
        starts = range(0, len(entries), max(1, size))
        return [entries[start : start + size] for start in reversed(starts)]

    # The verdict -----------------------------------------------------------------------------

    async def _hold_if_all_are(
        self, connection: AsyncConnection, table: LogTable, errors: Sequence[Exception]
    ) -> None:
        """Hold the batch when the table refuses a good entry for one of these reasons as well."""
        causes = {cause_of(error): error for error in errors if not is_of_other_rows(error)}
        if not causes:
            return
        refusal = await refusal_of(connection, table, await self._good_entry(connection, table))
        if refusal is None or (cause := cause_of(refusal)) not in causes:
            return
        if self._verdict is None or self._now() >= self._verdict_ends_at:
            self._verdict, self._verdict_ends_at = cause, self._now() + _VERDICT_SECONDS
        self._say(refusal)
        raise TableRefusesError(f"every entry is refused: {summary_of(refusal)}") from causes[cause]

    async def _good_entry(self, connection: AsyncConnection, table: LogTable) -> str:
        """One that the table takes, if it takes any.

        Before the first one is accepted, it has the names of a row: a policy may be about them.
        """
        if self.accepted is not None:
            return good_entry(self.accepted)
        return good_entry(**await _names_in_use(connection, table))

    def _hold_if_no_partition(self, refused: _Refused) -> None:
        """Hold a batch that has no partition, all of it: others have one, so that a good entry is taken."""
        error = refused[0][1]
        if is_missing_partition(error) and {cause_of(other) for _, other in refused} == {cause_of(error)}:
            self._say(error)
            raise BatchHeldError(f"every entry of the batch is refused: {summary_of(error)}") from error

    async def _outdated(
        self, connection: AsyncConnection, table: LogTable, refused: _Refused
    ) -> set[tuple[str, ...]]:
        """The causes that do not hold any more: an entry would be taken now, or refused for another one."""
        causes = {cause_of(error): entry for entry, error in refused if is_for_good(error)}
        outdated = set()
        for cause, entry in itertools.islice(causes.items(), _MOST_CAUSES):
            refusal = await refusal_of(connection, table, entry)
            if refusal is None or cause_of(refusal) != cause:
                outdated.add(cause)
        return outdated

    async def _bury(
        self,
        connection: AsyncConnection,
        batch_id: str,
        refused: _Refused,
        outdated: set[tuple[str, ...]],
    ) -> None:
        """Keep as dead letters those that have waited for long enough; hold the batch for the others."""
        doomed, later = _Refused(), _Refused()
        for entry, error in refused:
            seconds = _REFUSAL_SECONDS if cause_of(error) in outdated else _seconds_to_wait_after(error)
            is_doomed = not seconds or self._waited_seconds(batch_id) >= seconds
            (doomed if is_doomed else later).append((entry, error))
        for entry, error in doomed:
            await self._dead_letters.add(connection, batch_id, entry, reason_of(error))
        if doomed:
            logger.warning(
                "%d entries of batch %s are refused, and are dead letters now; the first one: %s",
                len(doomed),
                batch_id,
                summary_of(doomed[0][1]),
            )
        if later:
            reason = summary_of(later[0][1])
            raise BatchHeldError(f"{len(later)} entries are refused and tried again: {reason}")

    def _waited_seconds(self, batch_id: str) -> float:
        """Since this process has seen the batch refused for the first time."""
        now = self._now()
        if batch_id not in self._since and len(self._since) >= _MOST_REMEMBERED:
            oldest = next(iter(self._since))
            if now - self._since[oldest] < 2 * _LONG_SECONDS:
                return _LONG_SECONDS  # no room to remember that it waits
            del self._since[oldest]
        return now - self._since.setdefault(batch_id, now)

    def _say(self, error: DBAPIError) -> None:
        if self._seldom.may_say(cause_of(error)):
            logger.error(
                "the database refuses all entries of a batch, which are held until that is put right: %s. "
                "See: execution-logger doctor",
                summary_of(error),
            )


async def refusal_of(connection: AsyncConnection, table: LogTable, entry: str) -> DBAPIError | None:
    """Why the database would refuse an encoded entry; None when it would take it.

    The transaction is rolled back. What outlives that stays: a number that the insert took from a sequence,
    and what a host's trigger does outside of the transaction.

    Args:
        connection: in a transaction (`in_transactions`) in which nothing is to be kept.
        table: as it is now.
        entry: of `good_entry`.
    """
    try:
        await insert_entries(connection, table, join([entry]))
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # as a commit would
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        return error
    finally:
        await connection.rollback()
    return None


def good_entry(like: msgspec.Raw | str | None = None, **changed: str) -> str:
    """An entry, encoded, that nothing is wrong with: a new one with known values, or the same again as new.

    Args:
        like: an encoded entry that the database has taken.
        changed: fields that have other values.
    """
    id_ = str(uuid7())
    usual = {"task_id": id_, "level": "info", "category": "agent", "message": "probe", "details": {}}
    entry: dict[str, Any] = usual if like is None else msgspec.json.decode(like)
    now = datetime.now(UTC).isoformat()
    return msgspec.json.encode({**entry, **changed, "id": id_, "created_at": now}).decode()


def _seconds_to_wait_after(error: DBAPIError) -> float:
    if is_for_good(error):
        return 0.0
    is_elsewhere = is_foreign_key(error) or not is_refusal(error)
    return _LONG_SECONDS if is_elsewhere else _REFUSAL_SECONDS


async def _names_in_use(connection: AsyncConnection, table: LogTable) -> dict[str, str]:
    """Those of a row, mostly the newest: one that an index finds."""
    names = [table.columns[name] for name in _NAMES if name in table.columns]
    order = [table.columns[name].desc() for name in table.key]
    try:
        row = (await connection.execute(select(*names).order_by(*order).limit(1))).first()
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        row = None  # without the right to read
    await connection.rollback()
    return {} if row is None else {name: str(value) for name, value in row._mapping.items() if value}  # noqa: SLF001


async def _without_stored(connection: AsyncConnection, table: LogTable, entries: list[str]) -> list[str]:
    """Those that are no rows yet: what is slow must not be done twice."""
    ids = {entry: id_of(entry) for entry in entries}
    column = table.columns["id"]
    wanted = [table.id_value(id_) for id_ in ids.values() if id_ is not None]
    found = (await connection.execute(select(column).where(column.in_(wanted)))).scalars()
    stored = {UUID(str(id_)) for id_ in found}
    return [entry for entry, id_ in ids.items() if id_ not in stored]


class _Identified(msgspec.Struct):
    id: UUID


def id_of(entry: str) -> UUID | None:
    """The id of an encoded entry; None when it has none."""
    try:
        return msgspec.json.decode(entry, type=_Identified).id
    except msgspec.DecodeError:
        return None

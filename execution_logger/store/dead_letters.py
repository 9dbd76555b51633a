"""The dead letters: what the database refuses for good, kept with its reason to be tried again."""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

import msgspec
from sqlalchemy import ColumnElement, and_, delete, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.diagnostics import Seldom, logger
from execution_logger.errors import BatchHeldError
from execution_logger.settings import Settings
from execution_logger.store.engine import transaction
from execution_logger.store.faults import (
    attempt,
    cause_of,
    explanation_of,
    is_refusal,
    reason_of,
    sqlstate_of,
)
from execution_logger.store.insert import insert_entries, join
from execution_logger.store.ledger import Ledger
from execution_logger.store.schema import batch_key, dead_letter_table, escape, storable
from execution_logger.store.sql import statement
from execution_logger.store.table import look_up_table

_NAMESPACE = UUID("5f2c9a54-6d0b-4c0e-9a55-0d1a3f7c6b21")
_MAX_ENTRY_CHARS = 16 * 1024 * 1024
_MAX_REASON_CHARS = 2000
_MOST_FAILED_ALONE = 3
"""So many letters, and nothing stored before: it is not they that are slow, nothing can be stored now."""


def dead_letter_id(entry: str) -> str:
    """The same for the same text: however often it is delivered, it is one dead letter."""
    return str(uuid5(_NAMESPACE, storable(entry)))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that the database has refused.

    Attributes:
        id: made of the entry's text.
        batch_id: the batch that it first came with.
        entry: as it came, usually a JSON object; the whole text of what was no batch.
        reason: the database's words.
        created_at: when it was refused, in UTC.
    """

    id: str
    batch_id: str
    entry: str
    reason: str
    created_at: datetime

    @property
    def task_id(self) -> str | None:
        """The run of the entry; what was refused need not even be JSON."""
        try:
            task_id = json.loads(self.entry)["task_id"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return None if task_id is None else str(task_id)


def _forms(entry: str, reason: str) -> Iterator[tuple[str, str]]:
    """As it is; in ASCII; and what is kept of an entry whose text cannot be."""
    yield entry, reason
    yield escape(entry), escape(reason)
    digest = hashlib.sha256(entry.encode()).hexdigest()
    yield f'{{"sha256":"{digest}","characters":{len(entry)}}}', escape(reason)


class DeadLetters:
    """Keeps the dead letters of all batches.

    Args:
        settings: names the schema.
        now: a clock in seconds.

    Raises:
        sqlalchemy.exc.DBAPIError: from every method. `attempt` of `store.faults` explains it.
    """

    def __init__(self, settings: Settings, now: Callable[[], float] = time.monotonic) -> None:
        self._table = dead_letter_table(settings)
        self._seldom = Seldom(now)

    async def add(self, connection: AsyncConnection, batch_id: str, entry: str, reason: str) -> None:
        """Keep an entry, and commit; nothing happens when it is kept already.

        What the database does not take as it is, it takes in ASCII; at last its id and what it was
        refused for.

        Args:
            connection: with no transaction open.
            batch_id: the batch that it came with.
            entry: any text; beyond 16 Mi characters, which no entry has, it is cut.
            reason: why it was refused.

        Raises:
            BatchHeldError: the database works, and refuses whatever is to be kept; that is logged.
        """
        insert = text(statement("insert_dead_letter", connection.dialect, table=self._table))
        if len(entry) > _MAX_ENTRY_CHARS:
            reason = f"(cut from {len(entry)} characters) {reason}"
        values = {"id": dead_letter_id(entry), "batch_id": batch_key(batch_id)}
        refusal: DBAPIError | None = None
        for kept, why in _forms(storable(entry)[:_MAX_ENTRY_CHARS], storable(reason)[:_MAX_REASON_CHARS]):
            try:
                await connection.execute(insert, {**values, "entry": kept, "reason": why})
                await connection.commit()
            except DBAPIError as error:
                if not is_refusal(error):
                    raise
                await connection.rollback()
                refusal = error
            else:
                return
        if refusal is not None:
            self._say(refusal)
            raise BatchHeldError(f"dead letters cannot be kept: {explanation_of(refusal)}") from refusal

    def _say(self, refusal: DBAPIError) -> None:
        if self._seldom.may_say(cause_of(refusal)):
            logger.error(
                "the database refuses to keep dead letters; batches that have any are held until that is put "
                "right: %s. See: execution-logger doctor",
                explanation_of(refusal),
            )

    async def ids_of(self, connection: AsyncConnection, batch_id: str) -> set[str]:
        """The ids of the dead letters that this batch has left already."""
        query = select(self._table.c.id).where(self._table.c.batch_id == batch_key(batch_id))
        return set((await connection.execute(query)).scalars())

    async def list(
        self,
        connection: AsyncConnection,
        limit: int = 100,
        offset: int = 0,
        batch_id: str | None = None,
        after: tuple[datetime, str] | None = None,
    ) -> Sequence[DeadLetter]:
        """The dead letters, newest first; with a batch's id only those that came with it.

        `after` is `created_at` and the id of a letter: only those behind it.
        """
        columns = self._table.c
        query = (
            select(self._table).order_by(columns.created_at.desc(), columns.id).limit(limit).offset(offset)
        )
        if batch_id is not None:
            query = query.where(columns.batch_id == batch_key(batch_id))
        if after is not None:
            moment, letter_id = after
            is_of_moment = and_(columns.created_at == moment, columns.id > letter_id)
            query = query.where(or_(columns.created_at < moment, is_of_moment))
        return [DeadLetter(*row) for row in await connection.execute(query)]

    async def ids(self, connection: AsyncConnection) -> Sequence[str]:
        """Those of all, newest first."""
        columns = self._table.c
        query = select(columns.id).order_by(columns.created_at.desc(), columns.id)
        return (await connection.execute(query)).scalars().all()

    async def get(self, connection: AsyncConnection, letter_ids: Iterable[str]) -> Sequence[DeadLetter]:
        """Those with these ids, in their order; less when there are none with some of them."""
        wanted = list(letter_ids)
        rows = await connection.execute(select(self._table).where(self._table.c.id.in_(wanted)))
        found = {row.id: DeadLetter(*row) for row in rows}
        return [found[letter_id] for letter_id in wanted if letter_id in found]

    async def delete(self, connection: AsyncConnection, letter_ids: Iterable[str]) -> int:
        """Delete those with these ids, in the connection's transaction; return how many there were."""
        return await self._delete(connection, self._table.c.id.in_(list(letter_ids)))

    async def delete_before(self, connection: AsyncConnection, moment: datetime) -> int:
        """Delete those that were refused before `moment` (aware); return how many there were."""
        return await self._delete(connection, self._table.c.created_at < moment)

    async def _delete(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
        return (await connection.execute(delete(self._table).where(condition))).rowcount


async def retry(engine: AsyncEngine, settings: Settings, letters: Sequence[DeadLetter]) -> Mapping[str, str]:
    """Store the entries of dead letters and delete the letters, each with its entry or not at all.

    All go at once, and in halves of halves when that is refused or takes too long. A dead letter that holds
    a whole batch is stored as such. An entry that is in the table by now is not stored again, and its letter
    is deleted.

    Returns:
        The database's words about those that are still refused, or too slow alone, by their ids.

    Raises:
        StoreUnavailableError: the database cannot take any rows now; what is not stored stays a letter.
    """
    refused: dict[str, str] = {}
    entries = [letter for letter in letters if _is_entry(letter)]
    pieces = deque([letter] for letter in letters if letter not in entries)
    if entries:
        pieces.appendleft(entries)
    most, patience = len(letters), min(len(letters), _MOST_FAILED_ALONE)
    while pieces:
        piece = pieces.popleft()
        # Halves go to the end of the line, and what fails alone comes last: it is in nobody's way.
        middle = len(piece) // 2
        halves = [piece[:middle], piece[middle:]]
        if len(piece) > most:
            pieces += halves
            continue
        async with attempt(engine, settings.database_timeout_seconds):
            try:
                async with transaction(engine) as connection:
                    await _store(connection, settings, piece)
                patience = len(letters)
            except DBAPIError as error:
                if not is_refusal(error):
                    most = max(1, middle)
                    if len(piece) == 1:
                        patience -= 1
                    if not sqlstate_of(error) or not patience:
                        raise
                if len(piece) == 1:
                    refused[piece[0].id] = reason_of(error)
                else:
                    pieces += halves
    return refused


async def _store(connection: AsyncConnection, settings: Settings, letters: Sequence[DeadLetter]) -> None:
    table = await look_up_table(connection, settings)
    (first, *others) = letters
    is_batch = not others and first.entry.lstrip().startswith("[")
    entries = first.entry if is_batch else join(letter.entry for letter in letters)
    await insert_entries(connection, table, entries)
    deleted = await DeadLetters(settings).delete(connection, [letter.id for letter in letters])
    ledger = Ledger(settings)
    # Somebody else may have retried some of them: better to forgive too few than too many.
    if deleted == len(letters) and not is_batch and await ledger.problem(connection) is None:
        for batch_id, number in Counter(letter.batch_id for letter in letters).items():
            await ledger.forgive(connection, batch_id, number)


def _is_entry(letter: DeadLetter) -> bool:
    """Whether its text is one JSON value that may stand in an array with others."""
    try:
        msgspec.json.decode(letter.entry, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True

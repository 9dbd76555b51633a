"""Trying a dead letter again, once the cause is gone."""

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import DeadLetter, DeadLetters
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt, is_data_error, reason_of
from execution_logger.store.insert import insert_entries
from execution_logger.store.ledger import Ledger
from execution_logger.store.table import look_up_table


async def retry(engine: AsyncEngine, settings: Settings, letter: DeadLetter) -> str | None:
    """Store the entry of a dead letter and delete the letter, both or neither.

    A dead letter that holds a whole batch is stored as such. An entry that is in the table by now
    is not stored again, and its letter is deleted.

    Returns:
        None when it is stored; otherwise the database's words why it still is not.

    Raises:
        StoreUnavailableError: the database cannot take any rows now; the letter stays.
    """
    async with attempt(engine, settings.database_timeout_seconds):
        try:
            await _store(engine, settings, letter)
        except DBAPIError as error:
            if not is_data_error(error):
                raise
            return reason_of(error)
    return None


async def _store(engine: AsyncEngine, settings: Settings, letter: DeadLetter) -> None:
    ledger = Ledger(settings)
    async with transaction(engine) as connection:
        table = await look_up_table(connection, settings)
        is_batch = letter.entry.lstrip().startswith("[")
        await insert_entries(connection, table, letter.entry if is_batch else f"[{letter.entry}]")
        deleted = await DeadLetters(settings).delete(connection, [letter.id])
        if deleted and not is_batch and await ledger.problem(connection) is None:
            await ledger.forgive(connection, letter.batch_id)

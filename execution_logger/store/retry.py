"""Trying dead letters again, once the cause is gone."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from execution_logger.settings import Settings
from execution_logger.store.dead_letters import DeadLetter, DeadLetters
from execution_logger.store.engine import transaction
from execution_logger.store.faults import attempt, is_refusal, reason_of
from execution_logger.store.insert import insert_entries, join
from execution_logger.store.ledger import Ledger
from execution_logger.store.table import look_up_table


async def retry(engine: AsyncEngine, settings: Settings, letters: Sequence[DeadLetter]) -> Mapping[str, str]:
    """Store the entries of dead letters and delete the letters, each with its entry or not at all.

    All go at once, and in halves of halves when that is refused. A dead letter that holds a whole batch
    is stored as such. An entry that is in the table by now is not stored again, and its letter is deleted.

    Returns:
        The database's words about those that are still refused, by their ids.

    Raises:
        StoreUnavailableError: the database cannot take any rows now; what is not stored stays a letter.
    """
    refused: dict[str, str] = {}
    entries = [letter for letter in letters if _is_entry(letter)]
    pieces = [[letter] for letter in letters if letter not in entries] + [entries]
    while pieces:
        piece = pieces.pop()
        if not piece:
            continue
        async with attempt(engine, settings.database_timeout_seconds):
            try:
                async with transaction(engine) as connection:
                    await _store(connection, settings, piece)
            except DBAPIError as error:
                if not is_refusal(error):
                    raise
                if len(piece) == 1:
                    refused[piece[0].id] = reason_of(error)
                else:
                    middle = len(piece) // 2
                    pieces += [piece[middle:], piece[:middle]]
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

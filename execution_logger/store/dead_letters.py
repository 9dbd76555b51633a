"""The dead letters: entries that the database refuses for good, kept with its reason."""

from uuid import UUID, uuid5

from sqlalchemy import Column, DateTime, MetaData, Table, Text, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from execution_logger.settings import Settings
from execution_logger.store.sql import read_sql
from execution_logger.store.table import schema_and_name
from execution_logger.store.text import batch_key, storable

NAME = "execution_log_dead_letters"

_NAMESPACE = UUID("5f2c9a54-6d0b-4c0e-9a55-0d1a3f7c6b21")
_MAX_ENTRY_CHARS = 16 * 1024 * 1024
_MAX_REASON_CHARS = 2000


def dead_letter_table(settings: Settings) -> Table:
    """The table, which is in the same schema as that of the entries."""
    schema, _ = schema_and_name(settings.table)
    return Table(
        NAME,
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("batch_id", Text, nullable=False),
        Column("entry", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        schema=schema,
    )


def dead_letter_id(entry: str) -> str:
    """The same for the same text: however often it is delivered, it is one dead letter."""
    return str(uuid5(_NAMESPACE, storable(entry)))


class DeadLetters:
    """Keeps the dead letters of all batches."""

    def __init__(self, settings: Settings) -> None:
        self._table = dead_letter_table(settings)

    async def add(self, connection: AsyncConnection, batch_id: str, entry: str, reason: str) -> None:
        """Keep an entry; nothing happens when it is kept already.

        Args:
            connection: whose transaction it belongs to.
            batch_id: the batch that it came with.
            entry: any text; beyond 16 Mi characters, which no entry has, it is cut.
            reason: why it was refused.
        """
        name = connection.dialect.identifier_preparer.format_table(self._table)
        if len(entry) > _MAX_ENTRY_CHARS:
            reason = f"(cut from {len(entry)} characters) {reason}"
        values = {
            "id": dead_letter_id(entry),
            "batch_id": batch_key(batch_id),
            "entry": storable(entry)[:_MAX_ENTRY_CHARS],
            "reason": storable(reason)[:_MAX_REASON_CHARS],
        }
        await connection.execute(text(read_sql("insert_dead_letter.sql").format(table=name)), values)

    async def ids_of(self, connection: AsyncConnection, batch_id: str) -> set[str]:
        """The ids of the dead letters that this batch has left already."""
        rows = await connection.execute(
            select(self._table.c.id).where(self._table.c.batch_id == batch_key(batch_id))
        )
        return set(rows.scalars())

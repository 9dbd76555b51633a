"""The driver: a statement straight to asyncpg, past the layers of SQLAlchemy."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

AUTOCOMMIT = "execution_logger_autocommit"
"""The execution option of an engine on whose connections each statement commits itself."""


async def execute(connection: AsyncConnection, statement: str, values: Sequence[Any]) -> int:
    """Carry out a statement on PostgreSQL, in the connection's transaction.

    Where each statement commits itself there is no transaction that SQLAlchemy had to know of. Its
    layers, which serve any statement and result, would take longer than asyncpg does.

    Args:
        connection: of an engine of `create_engine`, to PostgreSQL.
        statement: with parameters `$1`, `$2` and so on.
        values: of the parameters.

    Returns:
        How many rows it has touched.

    Raises:
        asyncpg.PostgresError, sqlalchemy.exc.DBAPIError: `is_refusal` knows both.
    """
    own: Any = connection.sync_connection
    if own.get_execution_options().get(AUTOCOMMIT):
        status: str = await own.connection.driver_connection.execute(statement, *values)
        return int(status.rpartition(" ")[2])
    return (await connection.exec_driver_sql(statement, tuple(values))).rowcount

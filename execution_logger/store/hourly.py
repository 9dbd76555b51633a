"""The table of the hourly statistics: a few rows that are read instead of millions."""

from functools import cache

from sqlalchemy import BigInteger, Column, Float, MetaData, Table, Text

from execution_logger.settings import Settings
from execution_logger.store.columns import Moment
from execution_logger.store.table import table_beside

NAME = "execution_log_statistics"


@cache
def statistics_table(settings: Settings) -> Table:
    """The table, which is in the same schema as that of the entries.

    One object for each settings: SQLAlchemy keeps 500 compiled statements, and each new table has its own.
    """
    schema, name = table_beside(settings, NAME)
    return Table(
        name,
        MetaData(),
        Column("hour", Moment, primary_key=True),
        Column("dimension", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("entries", BigInteger, nullable=False),
        Column("errors", BigInteger, nullable=False),
        Column("runs", BigInteger),
        Column("timed", BigInteger, nullable=False),
        Column("p50_ms", Float),
        Column("p95_ms", Float),
        schema=schema,
    )

"""How many rows a second the store takes, against other ways to store the same batches.

    python benchmarks/store.py [--rows 20000] [--rounds 5]

1. Batches of 1, 50, 500 and 5,000 entries, on PostgreSQL and on SQLite. `Writer.write` is what a worker
   calls. It and all others are given the JSON array that a message carries, and commit its rows to the
   same table with the same indexes.
2. Whose time that is: this process's or PostgreSQL's.
3. What the ledger and the indexes cost, and the columns of an entry's place in its run.

One connection, batch after batch, into empty tables. Rounds alternate between the ways, so that a
machine that becomes slower meanwhile slows all of them; the tables show medians of rounds, and medians
of the ratios within a round. PostgreSQL does not wait for the disk, SQLite does what it does by default.
Every row is counted. In batches of 1 a round stores a tenth of `--rows`.
"""

import argparse
import asyncio
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils import uuid4

from entries import PROCESS, EncodedBatch
from execution_logger import Settings
from execution_logger.store import Writer
from figures import Figures, Target, main, progress
from store_peers import COPY, COPY_AT_HAND, ORM, OURS, STATEMENT, Way, Ways, postgresql_ways, sqlite_ways
from store_site import Site, open_site
from system import running_postgres

SHARES = {1: 0.1, 50: 1.0, 500: 1.0, 5000: 1.0}
"""The sizes of batches, and the share of `--rows` that is stored in such."""

OWN = "the library's own"
OWN_INDEXES = ("task_id, created_at, id", "created_at")
HOSTS_INDEXES = (
    *("task_id", "roadmap_id", "concept_id", "level", "category", "step", "agent_name", "created_at"),
    *("task_id, created_at", "task_id, level", "task_id, category"),
)
INDEXES = {
    OWN: OWN_INDEXES,
    "without the ledger": OWN_INDEXES,
    "primary key only": (),
    "eleven indexes, as hosts have": HOSTS_INDEXES,
}

NO_COLUMNS = "no such columns"
TREE = ("operation_id", "parent_id")
TRACE = ("trace_id", "span_id")
PLACES: dict[str, tuple[str, ...]] = {
    "the columns, empty": (),
    "operation and parent": TREE,
    "and a trace": (*TREE, *TRACE),
}

PEERS_NOTE = """\
In brackets: against `Writer.write` in the same round. All parse the JSON that a message carries, except
"rows at hand". COPY has no ON CONFLICT: a batch that comes again is an error to it, and it notes nothing
in a ledger."""


async def measure_ways(
    url: str,
    open_ways: Callable[[AsyncEngine, Settings], AbstractAsyncContextManager[Ways]],
    options: argparse.Namespace,
) -> Site:
    """All ways to store batches in this database, in turn."""
    async with open_site(url) as site, open_ways(site.engine, site.settings) as ways:
        for turn in range(options.rounds + 1):
            progress(f"{site.engine.dialect.name}: round {turn}/{options.rounds}")
            for size, share in SHARES.items():
                for name, way in ways.items():
                    await site.measure(name, way, max(size, int(options.rows * share)), size)
            if turn == 0:  # it warms up
                site.rounds.clear()
        return site


async def measure_indexes(url: str, options: argparse.Namespace) -> Site:
    """The writer with other indexes than those of the library, and without the ledger."""
    async with open_site(url) as site:
        writer = Writer(site.engine, site.settings)
        noted = Way(lambda batch: writer.write(batch.id, batch.entries, process=PROCESS, first=batch.first))
        bare = Way(lambda batch: writer.write(batch.id, batch.entries))
        for turn in range(options.rounds):
            progress(f"indexes: round {turn + 1}/{options.rounds}")
            for name, indexes in INDEXES.items():
                await site.set_indexes(indexes)
                for size in (50, 500):
                    way = bare if name == "without the ledger" else noted
                    await site.measure(name, way, int(options.rows * SHARES[size]), size)
        return site


async def measure_places(url: str, options: argparse.Namespace) -> Site:
    """The writer with entries that have a place in their run, and with others."""
    async with open_site(url) as site:
        writer = Writer(site.engine, site.settings)
        for turn in range(options.rounds):
            progress(f"places: round {turn + 1}/{options.rounds}")
            for name, fields in PLACES.items():
                prepare = partial(_with_ids, fields=fields)
                way = Way(lambda batch: writer.write(batch.id, batch.entries), prepare)
                await site.measure(name, way, options.rows, 500)
        await site.drop_columns(*TREE, *TRACE)
        writer = Writer(site.engine, site.settings)
        for _ in range(options.rounds):
            way = Way(lambda batch: writer.write(batch.id, batch.entries))
            await site.measure(NO_COLUMNS, way, options.rows, 500)
        return site


def _with_ids(batch: EncodedBatch, fields: Collection[str]) -> EncodedBatch:
    """Nine of ten entries are within an operation, one begins or ends it."""
    if not fields:
        return batch
    entries = msgspec.json.decode(batch.entries)
    for number, entry in enumerate(entries):
        entry |= {name: uuid4().hex[:16] if name == "span_id" else str(uuid4()) for name in fields}
        if number % 10:
            del entry["operation_id"]
    return replace(batch, entries=msgspec.json.encode(entries).decode())


def targets(site: Site) -> list[Target]:
    """What was aimed at, on PostgreSQL."""
    return [
        Target(
            f"rows/s of {peer}, batches of {size}", site.ratio(OURS, peer, size), least, "x", is_least=True
        )
        for peer, least in ((COPY, 0.9), (COPY_AT_HAND, 0.9), (ORM, 4.0))
        for size in (50, 500)
    ]


def measure(options: argparse.Namespace) -> Figures:
    """Measure PostgreSQL, SQLite, and the indexes."""
    if options.quick:
        options.rows, options.rounds = 5_000, 1
    with running_postgres() as postgres, TemporaryDirectory() as folder:
        postgresql = asyncio.run(measure_ways(postgres.url(), postgresql_ways, options))
        indexes = asyncio.run(measure_indexes(postgres.url(), options))
        places = asyncio.run(measure_places(postgres.url(postgres.create_database()), options))
        sqlite = asyncio.run(measure_ways(f"sqlite:///{Path(folder) / 'logs.db'}", sqlite_ways, options))
    compared = (OURS, STATEMENT, COPY, ORM)
    return Figures(
        tables=[
            postgresql.rates("Rows a second, PostgreSQL", OURS, PEERS_NOTE),
            postgresql.costs("Whose time, batches of 50, PostgreSQL", compared, 50),
            postgresql.costs("Whose time, batches of 500, PostgreSQL", compared, 500),
            sqlite.rates("Rows a second, SQLite", OURS),
            indexes.rates("What ledger and indexes cost, rows a second of `Writer.write`, PostgreSQL", OWN),
            places.costs(
                "What an entry's place in its run costs, batches of 500, PostgreSQL",
                (NO_COLUMNS, *PLACES),
                500,
            ),
        ],
        plots=[postgresql.plot("Rows a second, PostgreSQL"), sqlite.plot("Rows a second, SQLite")],
        targets=targets(postgresql),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """How much to measure."""
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)


if __name__ == "__main__":
    main(__doc__, measure, add_options)

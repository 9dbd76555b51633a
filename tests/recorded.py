"""What the ready instance has recorded, as it comes out of a database."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from execution_logger import LogEntry, execution_logger
from execution_logger.read.timeline import Timeline
from execution_logger.read.tree import Node, tree_of
from execution_logger.settings import Settings
from execution_logger.store import create_engine
from sqlite_site import make_tables


class Recorded:
    """A SQLite file that the ready instance writes to, by the worker's writer."""

    def __init__(self, path: Path) -> None:
        self.settings = Settings(database_url=f"sqlite:///{path}")

    @property
    def entries(self) -> list[LogEntry]:
        """All that has been recorded, in the order of the rows."""

        async def read() -> list[LogEntry]:
            engine = create_engine(self.settings, pool_size=1)
            try:
                pages = Timeline(engine, self.settings, None).pages()
                return [entry async for page in pages for entry in page]
            finally:
                await engine.dispose()

        assert execution_logger.sync.flush(30, until="stored").waiting == 0
        # A thread of its own, because the caller may be inside an event loop.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, read()).result()

    @property
    def trees(self) -> list[Any]:
        """Operations as lists of their names with their states, and what is within them."""
        return [_shown(item) for item in tree_of(self.entries).items()]

    def of(self, name: str) -> list[LogEntry]:
        """The entries at the start and the end of the only operation of that name."""
        (node,) = [node for node in tree_of(self.entries).nodes() if node.name == name]
        return node.own


@contextmanager
def recorded_in(folder: Path) -> Iterator[Recorded]:
    """Have the ready instance write to a database in this folder, in English."""
    path = folder / "recorded.db"
    make_tables(path)
    variables = {
        "CELERY_ENABLED": "false",
        "DATABASE_URL": f"sqlite:///{path}",
        "EXECUTION_LOGGER_LANGUAGE": "en",
    }
    host = execution_logger._host
    with patch.dict("os.environ", variables):
        before = host.replace(None)
        try:
            yield Recorded(path)
        finally:
            execution_logger.sync.shutdown()
            host.replace(before)


def _shown(item: LogEntry | Node) -> Any:
    if isinstance(item, LogEntry):
        return item.message
    return [f"{item.name}: {item.state}", *map(_shown, item.items())]

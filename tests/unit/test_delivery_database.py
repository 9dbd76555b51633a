"""Delivery straight to the database, from the shipper's thread, to the very end of the process."""

import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from batches import encoded
from children import run_script
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, Settings, SettingsError
from execution_logger.delivery.database import DatabaseDelivery
from execution_logger.delivery.interface import Guarantee
from execution_logger.entry.batch import Batch
from execution_logger.errors import BatchHeldError, DeliveryError
from execution_logger.store import WriteResult
from rows import upgrade_database
from sqlite_site import make_tables
from waiting import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A SQLite file with the library's tables."""
    path = tmp_path / "logs.db"
    make_tables(path)
    return path


def rows(
    path: Path, columns: str = "message", table: str = "execution_logs", where: str = "true"
) -> list[Any]:
    """What is in the file."""
    statement = f"SELECT {columns} FROM {table} WHERE {where} ORDER BY rowid"
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(statement)]


def settings(path: Path, **others: Any) -> Settings:
    """Those of a host without Celery."""
    return Settings(celery_enabled=False, database_url=f"sqlite:///{path}", **others)


def test_a_logger_without_celery(path: Path) -> None:
    """From the call to the row; after a shutdown it begins anew."""
    logger = ExecutionLogger(settings(path)).sync
    for message in ("first", "second"):
        logger.info("t", "agent", message)
        assert logger.shutdown(DEADLINE_SECONDS).complete
    assert rows(path) == ["first", "second"]


def test_what_the_database_refuses_takes_nothing_with_it(path: Path) -> None:
    """It is a dead letter, and the batch is delivered."""
    delivery = DatabaseDelivery(settings(path))
    delivery.deliver(Batch((encoded(message="good").encode(), encoded(message=...).encode())))
    delivery.close()
    assert rows(path) == ["good"]
    assert len(rows(path, "reason", "execution_log_dead_letters")) == 1


def test_a_locked_database_is_an_outage(path: Path) -> None:
    """Within the timeout of the settings; the batch is written when the lock is gone."""
    delivery = DatabaseDelivery(settings(path, database_timeout_seconds=0.4))
    batch = Batch((encoded(message="waits").encode(),))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began_at = time.monotonic()
        with pytest.raises(DeliveryError, match="cannot be used now"):
            delivery.deliver(batch)
        assert time.monotonic() - began_at < DEADLINE_SECONDS

    def is_written() -> bool:
        with suppress(DeliveryError):  # a slow machine may need more than one attempt
            delivery.deliver(batch)
        return rows(path) != []

    wait_until(is_written)
    delivery.close()
    assert rows(path) == ["waits"]


def test_missing_tables_are_an_outage_that_says_what_to_do(tmp_path: Path) -> None:
    """And the rows land once they are there."""
    path = tmp_path / "logs.db"
    delivery = DatabaseDelivery(settings(path))
    batch = Batch((encoded(message="waits").encode(),))
    with pytest.raises(DeliveryError, match="execution-logger db upgrade"):
        delivery.deliver(batch)
    upgrade_database(f"sqlite:///{path}")
    delivery.deliver(batch)
    delivery.close()
    assert rows(path) == ["waits"]


class Refusing:
    """A writer whose database works, and takes nothing for now."""

    async def write(self, *_: Any, **__: Any) -> WriteResult:
        """Nothing is written."""
        raise BatchHeldError("not now")


class Holding:
    """A delivery that holds `count` batches, over a database that works again, and is due to try them.

    Args:
        path: of the database.
        count: each batch has one entry, its number.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.now = 0.0
        self.delivery = DatabaseDelivery(settings(path), now=lambda: self.now)
        self.batches = [Batch((encoded(message=str(number)).encode(),)) for number in range(count)]
        writer, self.delivery._writer = self.delivery._writer, cast("Any", Refusing())
        for batch in self.batches:
            assert self.delivery.deliver(batch).guarantee is Guarantee.AWAITED
        self.delivery._writer = writer
        self.now += 6

    def collect(self, *batches: Batch) -> dict[str, bool]:
        """Of those that are held or stored: whether they are stored."""
        outcomes = self.delivery.collect([batch.id for batch in batches])
        return {batch_id: outcome.is_stored for batch_id, outcome in outcomes.items()}


def test_a_held_batch_is_tried_again_when_somebody_asks(path: Path) -> None:
    """One at a time, those first that are asked for; it is said once."""
    holding = Holding(path, 3)
    first, second, third = holding.batches
    assert holding.collect(second, third) == {second.id: True, third.id: False}
    assert holding.collect(second, third) == {third.id: True}
    assert rows(path) == ["1", "2"]
    assert holding.collect(first) == {first.id: True}
    holding.delivery.close()


def test_a_held_batch_that_nobody_asks_for_makes_room(path: Path) -> None:
    """As one that a worker has stored meanwhile: it was sent to the broker as well, in doubt."""
    holding = Holding(path, 20)
    assert holding.delivery.look_at_queue().waiting == 20
    for _ in holding.batches:
        assert holding.collect() == {}
    assert holding.delivery.look_at_queue().waiting == 0
    assert rows(path) == [str(number) for number in range(20)]
    holding.delivery.close()


def test_connections_that_cannot_be_closed_leave_no_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptors would stay open."""
    delivery = DatabaseDelivery(settings(path))
    delivery.deliver(Batch((encoded().encode(),)))
    dispose = delivery._engine.dispose

    async def dispose_and_fail() -> None:
        await dispose()
        raise ConnectionResetError

    monkeypatch.setattr(type(delivery._engine), "dispose", lambda _: dispose_and_fail())
    with pytest.raises(ConnectionResetError):
        delivery.close()


def test_a_url_for_another_kind_of_database_is_an_error_of_the_settings() -> None:
    """Without the password that is in it."""
    with pytest.raises(SettingsError, match="mysql") as failed:
        DatabaseDelivery(Settings(celery_enabled=False, database_url="mysql://user:kTi7w2@host/database"))
    assert "kTi7w2" not in str(failed.value)


def test_a_script_that_ends_at_once(path: Path) -> None:
    """Its first batch is delivered while the interpreter exits, and no executor works any more.

    Python 3.12 starts no thread then, and aiosqlite needs one: the next process sends what is left.
    """
    waits_in_vain = sys.version_info[:2] == (3, 12)
    output = run_script(
        """
        import sys
        from execution_logger import ExecutionLogger, Settings
        url, seconds = sys.argv[1:]
        settings = Settings(celery_enabled=False, database_url=url, shutdown_timeout_seconds=float(seconds))
        logger = ExecutionLogger(settings).sync
        for number in range(120):
            logger.info("t", "agent", str(number))
        """,
        f"sqlite:///{path}",
        "1" if waits_in_vain else "60",
    )
    if waits_in_vain:
        assert "entries stay on disk for the next one to send: 0 delivered, 120 waiting" in output
        send_what_is_left(path, 120)
    else:
        assert output == ""
    assert rows(path, where="task_id = 't'") == [str(number) for number in range(120)]


def send_what_is_left(path: Path, count: int) -> None:
    """Be the next process: log, and adopt the entries of a dead one."""
    logger = ExecutionLogger(settings(path))
    logger.sync.info("next", "agent", "adopts")
    wait_until(lambda: logger.stats()["adopted"] == count)
    assert logger.sync.shutdown().complete

"""Writing batches: every entry ends as one row or as one dead letter, whatever comes and however often."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from batches import batch, encoded, fields
from execution_logger.errors import StoreUnavailableError
from execution_logger.store import WriteResult, engine, upgrade
from sqlite_site import SqliteSite


async def test_an_entry_is_stored_as_it_is(site: SqliteSite) -> None:
    """Every field has its column; times are stored as SQLAlchemy stores them, in UTC."""
    entry = fields(
        roadmap_id="r",
        concept_id="c",
        step="s",
        agent_name="a",
        duration_ms=7,
        details={"z": [1, None], "a": "学"},
        operation_id="01a22505-c189-7200-be65-eeb94327379a",
        parent_id="01a22505-c189-7200-be65-eeb856039154",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
    )
    assert await site.write(encoded(entry)) == WriteResult(stored=1)
    (row,) = site.rows()
    assert json.loads(row.pop("details")) == entry.pop("details")
    assert row == {**entry, "created_at": "2026-11-22 02:13:53.123456"}


async def test_absent_fields_are_null(site: SqliteSite) -> None:
    """Not an empty text, and not the JSON null."""
    await site.write(encoded(created_at="2026-11-22T02:13:53Z"))
    (row,) = site.rows()
    optional = ("roadmap_id", "concept_id", "step", "agent_name", "details", "duration_ms")
    assert [row[name] for name in optional] == [None] * 6
    assert row["created_at"] == "2026-11-22 02:13:53.000000"


async def test_a_batch_can_be_stored_entry_by_entry(site: SqliteSite) -> None:
    """What its predecessors have choked on is alone then; the ledger knows the batch all the same."""
    entries = [encoded(message=str(number)) for number in range(3)]
    batch = f"[{','.join([*entries, '5'])}]"
    assert await site.writer.write("b", batch, process="p", first=1, one_by_one=True) == WriteResult(
        stored=3, dead_lettered=1
    )
    assert [row["message"] for row in site.rows()] == ["0", "1", "2"]


async def test_a_dead_letter_holds_the_entry_and_the_databases_reason(site: SqliteSite) -> None:
    """Who looks after it sees what came, byte for byte, and why it was refused."""
    entry = ' {"id":"x",  "message":"学" } '
    await site.write(encoded(), entry)
    (letter,) = site.dead()
    assert letter["entry"] == entry.strip()
    assert letter["reason"] == "IntegrityError: NOT NULL constraint failed: execution_logs.task_id"
    written_at = datetime.fromisoformat(letter["created_at"]).replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - written_at).total_seconds()) < 60


async def test_an_empty_batch_is_nothing(site: SqliteSite) -> None:
    """It is no error, and leaves nothing."""
    assert await site.writer.write("b", " [ ] ") == WriteResult()
    assert site.rows() == site.dead() == []


async def test_an_attempt_that_was_cut_off_leaves_less_for_the_next_one(site: SqliteSite) -> None:
    """A batch of many bad entries gets done at last, however slow the database is."""
    entries = [encoded(message=None, step=str(number)) for number in range(8)]
    attempts: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO execution_log_dead_letters" in statement:
            attempts.append(statement)
            if len(attempts) == 4:
                raise OSError("too slow")

    event.listen(site.engine.sync_engine, "before_cursor_execute", note)
    with pytest.raises(StoreUnavailableError, match="too slow"):
        await site.write(*entries)
    assert len(site.dead()) == 3
    assert await site.write(*entries) == WriteResult(dead_lettered=8)
    assert len(site.dead()) == 8
    assert len(attempts) == 4 + 5


async def test_without_tables_nothing_is_lost(tmp_path: Path) -> None:
    """The batch is kept, the error says what to do, and the same writer works once it is done."""
    async with SqliteSite(tmp_path / "logs.db") as site:
        with pytest.raises(StoreUnavailableError, match="Run: execution-logger db upgrade"):
            await site.write(encoded())
        await upgrade(site.engine, site.settings)
        assert await site.write(encoded()) == WriteResult(stored=1)
        site.execute("DROP TABLE execution_log_dead_letters")
        with pytest.raises(StoreUnavailableError, match="Run: execution-logger db upgrade"):
            await site.write("5")
        await upgrade(site.engine, site.settings)
        assert await site.write("5") == WriteResult(dead_lettered=1)


async def test_a_missing_folder_is_waited_for(tmp_path: Path) -> None:
    """A volume that is mounted late costs nothing; the error names the file."""
    async with SqliteSite(tmp_path / "volume" / "logs.db") as site:
        with pytest.raises(
            StoreUnavailableError, match=r"volume/logs\.db cannot be used now: unable to open"
        ):
            await site.write(encoded())
        site.path.parent.mkdir()
        await upgrade(site.engine, site.settings)
        assert await site.write(encoded()) == WriteResult(stored=1)


async def test_a_locked_file_is_waited_for_within_the_timeout(
    site: SqliteSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program that holds the file delays the batch and does not lose it."""
    # So short a share that SQLite's own timeout comes before the attempt's on any machine.
    monkeypatch.setattr(engine, "_SQLITE_SHARE_OF_TIMEOUT", 0.01)
    async with SqliteSite(site.path) as hurried:
        await check_waits_for_lock(hurried)


async def check_waits_for_lock(site: SqliteSite) -> None:
    """Whoever holds the file has the batch come back, and nothing is lost."""
    with closing(sqlite3.connect(site.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            await site.write(encoded())
        other.execute("ROLLBACK")
    assert await site.write(encoded()) == WriteResult(stored=1)


async def test_a_full_disk_is_waited_for(site: SqliteSite) -> None:
    """No entry is to blame for it, so none becomes a dead letter."""
    limit = ["PRAGMA max_page_count=1"]

    def note(connection: Any, _record: Any, _proxy: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(limit[0])
        cursor.close()

    event.listen(site.engine.sync_engine, "checkout", note)
    entry = encoded(message="x" * 100_000)
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await site.write(entry)
    assert site.dead() == []
    limit[0] = "PRAGMA max_page_count=100000"
    assert await site.write(entry) == WriteResult(stored=1)


async def test_what_a_hosts_trigger_refuses_is_a_dead_letter(site: SqliteSite) -> None:
    """The host's rules are the host's reason."""
    site.execute(
        "CREATE TRIGGER t BEFORE INSERT ON execution_logs WHEN NEW.level = 'loud' "
        "BEGIN SELECT RAISE(ABORT, 'too loud'); END"
    )
    assert await site.write(encoded(), encoded(level="loud")) == WriteResult(stored=1, dead_lettered=1)
    assert "too loud" in site.dead()[0]["reason"]


async def test_what_a_hosts_trigger_takes_away_is_a_dead_letter(site: SqliteSite) -> None:
    """It is nowhere else, however often it comes; the ledger has the others."""
    site.execute(
        "CREATE TABLE away (id TEXT); "
        "CREATE TRIGGER t AFTER INSERT ON execution_logs WHEN NEW.level = 'error' "
        "BEGIN INSERT INTO away VALUES (NEW.id); DELETE FROM execution_logs WHERE id = NEW.id; END"
    )
    entries = batch(encoded(), encoded(level="error"), encoded())
    result = await site.writer.write("b", entries, process="p", first=1)
    assert result == WriteResult(stored=2, dead_lettered=1)
    result = await site.writer.write("b", entries, process="p", first=1)
    assert result == WriteResult(duplicates=2, dead_lettered=1)
    assert "the trigger t takes entries elsewhere" in site.dead()[0]["reason"]
    assert (len(site.rows()), site.rows("SELECT * FROM away")) == (2, [])
    (noted,) = site.rows("SELECT entries, dead_lettered FROM execution_log_batches")
    assert noted == {"entries": 3, "dead_lettered": 1}

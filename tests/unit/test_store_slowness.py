"""What takes longer than our own patience is no outage, as long as the server answers something else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from batches import encoded
from execution_logger.errors import BatchHeldError, StoreUnavailableError
from execution_logger.store import WriteResult, upgrade, writer
from execution_logger.store.insert import insert_entries
from sqlite_site import SqliteSite


class SlowSite(SqliteSite):
    """An attempt to store more than so many entries at once is cut off; it is quick at first."""

    most = 1000

    def cut_off(self, deadline: asyncio.Timeout) -> None:
        """Let the time of the attempt be over."""
        deadline.reschedule(asyncio.get_running_loop().time())


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowSite]:
    """The time of an attempt is over when the site says so, and never before."""
    deadlines: list[asyncio.Timeout] = []
    slow = SlowSite(tmp_path / "logs.db")
    timeout = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        deadlines.append(timeout(60 * seconds))
        return deadlines[-1]

    async def insert(connection: Any, table: Any, entries: str) -> int:
        if entries.count('"id"') > slow.most:
            slow.cut_off(deadlines[-1])
            await asyncio.Event().wait()
        return await insert_entries(connection, table, entries)

    async with slow:
        await upgrade(slow.engine, slow.settings)
        monkeypatch.setattr(asyncio, "timeout", noted)
        monkeypatch.setattr(writer, "insert_entries", insert)
        yield slow


def answer_nobody(site: SlowSite) -> None:
    """Let the question fail whether anybody is there."""

    def fail(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "SELECT 1":
            raise OSError("nobody")

    event.listen(site.engine.sync_engine, "before_cursor_execute", fail)


async def test_a_batch_that_is_cut_off_is_halved(site: SlowSite, caplog: pytest.LogCaptureFixture) -> None:
    """It is held until pieces of it are quick enough, which is said once; nothing is buried."""
    site.most = 3
    entries = [encoded() for _ in range(8)]
    for count in (8, 4):
        with pytest.raises(BatchHeldError, match=f"{count} entries took too long: no answer in time"):
            await site.write(*entries)
    assert await site.write(*entries) == WriteResult(stored=8)
    assert site.dead() == []
    (message,) = caplog.messages
    assert "stored in pieces: of 4 entries now" in message


async def test_a_server_that_does_not_answer_either_is_away(site: SlowSite) -> None:
    """That is an outage, whoever else was answered a moment ago."""
    await site.write(encoded(), batch_id="a")
    answer_nobody(site)
    site.most = 0
    for count in (8, 1):
        with pytest.raises(StoreUnavailableError, match="no answer within 10 s") as away:
            await site.write(*(encoded() for _ in range(count)))
        assert not isinstance(away.value, BatchHeldError)


async def test_one_entry_that_is_cut_off_alone(site: SlowSite) -> None:
    """When others were stored a moment ago it is to blame; when none are, nothing can be stored now."""
    site.most = 0
    with pytest.raises(StoreUnavailableError) as away:
        await site.write(encoded())
    assert not isinstance(away.value, BatchHeldError)
    site.most = 1
    await site.write(encoded(), batch_id="a")
    site.most = 0
    with pytest.raises(BatchHeldError, match="1 entries took too long"):
        await site.write(encoded())


async def test_who_cancels_a_write_sees_it_cancelled(site: SlowSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no slow batch, also in the middle of a statement."""
    site.most = 0
    began = asyncio.Event()
    monkeypatch.setattr(site, "cut_off", lambda _: began.set())
    write = asyncio.create_task(site.write(encoded(), encoded()))
    await began.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write

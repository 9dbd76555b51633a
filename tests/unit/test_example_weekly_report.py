"""The example of a weekly report, on SQLite."""

import runpy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app

from batches import encoded
from execution_logger.worker.jobs import Runner
from execution_logger.worker.schedule import STATISTICS
from sqlite_site import SqliteSite, make_tables

EXAMPLE = Path(__file__).parents[2] / "examples" / "weekly_report.py"


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, Any]]:
    """What it defines; its application is not the current one of later tests."""
    before = current_app._get_current_object()
    yield runpy.run_path(str(EXAMPLE))
    before.set_current()


async def test_the_week_and_the_one_before(tmp_path: Path, example: dict[str, Any]) -> None:
    """As a text: how much there was, of what, and what took long."""
    now = datetime.now(UTC)
    async with SqliteSite(tmp_path / "logs.db") as site:
        make_tables(site.path)
        for days, fields in (
            (10, {"task_id": "a", "level": "error"}),
            (9, {"task_id": "a"}),
            (2, {"task_id": "b", "step": "search", "duration_ms": 300}),
            (2, {"task_id": "b", "step": "search", "duration_ms": 300}),
            (1, {"task_id": "c", "level": "error", "category": "tool", "step": "plan", "duration_ms": 50}),
        ):
            await site.write(encoded(created_at=(now - timedelta(days=days)).isoformat(), **fields))
        runner = Runner(site.engine, site.settings)
        while (await runner.run(STATISTICS, is_by_hand=True)).outcome == "unfinished":
            pass
        until = now.replace(minute=0, second=0, microsecond=0)
        statistics = await example["read"](site.settings, until - 2 * example["WEEK"], until)
    lines = example["report"](statistics, until).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["runs", "2", "(+100%", "against", "the", "week", "before)"],
        ["entries", "3", "(+50%", "against", "the", "week", "before)"],
        ["errors", "1", "(+0%", "against", "the", "week", "before)"],
    ]
    assert lines[4:] == [
        "level: info 2, error 1",
        "category: agent 2, tool 1",
        "step search: p95 300 ms (2 times)",
        "step plan: p95 50 ms (1 times)",
    ]


def test_it_is_sent_once_a_week(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    example: dict[str, Any],
) -> None:
    """By a Beat of the host's; an empty week is no error."""
    make_tables(tmp_path / "logs.db")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'logs.db'}")
    (entry,) = example["app"].conf.beat_schedule.values()
    example["app"].tasks[entry["task"]]()
    assert capsys.readouterr().out.startswith("Execution logs from ")

"""The demonstration: its pipeline does its work and logs it as hosts do, and its sums are right."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from execution_logger import ExecutionLogger, Settings
from execution_logger.cli import main
from execution_logger.cli.demo import (
    MeteredLogger,
    compare,
    demo_environment,
    plant_legacy_file,
    share_out,
)
from execution_logger.cli.demo_host import MAX_BYTES, DocumentPipeline, find_documents
from execution_logger.errors import ExecutionLoggerError
from execution_logger.testing import MemoryDelivery


class Site:
    """A pipeline over a folder of documents, whose entries come into a list."""

    def __init__(self, folder: Path, make_logger: Callable[..., ExecutionLogger]) -> None:
        self.folder = folder
        self._delivery = MemoryDelivery()
        self._logger = make_logger(self._delivery, language="en")
        self.pipeline = DocumentPipeline(self._logger, folder)

    async def run(self, *paths: Path) -> list[dict[str, Any]]:
        """The entries of a run over files."""
        await self.pipeline.run("run", paths)
        await self._logger.flush()
        return self._delivery.entries

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path


@pytest.fixture
def site(tmp_path: Path, make_logger: Callable[..., ExecutionLogger]) -> Site:
    """One without documents yet."""
    return Site(tmp_path, make_logger)


def messages(entries: list[dict[str, Any]], **fields: str) -> list[str]:
    """The messages of those entries that have these fields."""
    return [entry["message"] for entry in entries if fields.items() <= entry.items()]


async def test_every_step_is_logged(site: Site) -> None:
    """From the start of the run to its end, with each agent and each tool call between."""
    entries = await site.run(site.write("README.md", "Fish and fish"), site.write("engine.py", "import os"))
    assert {entry["task_id"] for entry in entries} == {"run"}
    assert (entries[0]["message"], entries[-1]["message"]) == ("documents started", "documents completed")
    assert (entries[1]["message"], entries[-2]["message"]) == ("Processing 2 files", "Processed 2 files")
    assert entries[1]["details"] == {"files": ["README.md", "engine.py"]}
    assert list(dict.fromkeys(each["agent_name"] for each in entries if "agent_name" in each)) == [
        "reader",
        "counter",
    ]
    assert messages(entries, category="tool", level="debug") == ["README.md", "engine.py"]
    assert messages(entries, step="counting") == ["counting started", "counting completed"]
    (counted,) = (each for each in entries if each["message"] == "counting completed")
    assert counted["details"] == {"words": 4, "most_frequent": {"fish": 2, "and": 1, "import": 1}}
    assert site.pipeline.runs_completed == 1


async def test_a_file_in_an_older_encoding_is_an_error_and_a_retry(site: Site) -> None:
    """The demonstration plants such a file; nothing about the failure is acted."""
    entries = await site.run(plant_legacy_file(site.folder))
    (error,) = (entry for entry in entries if entry["level"] == "error")
    assert error["message"] == "legacy-notes.txt is not UTF-8"
    assert "can't decode byte" in error["details"]["error"]
    assert messages(entries, category="retry") == ["Trying an older encoding", "Read as windows-1252"]


async def test_what_is_wrong_with_a_file_does_not_end_a_run(site: Site) -> None:
    """One that cannot be read is an error, one without words a warning."""
    entries = await site.run(site.folder / "gone.md", site.write("a.txt", "1 2"))
    assert messages(entries, level="error") == ["gone.md cannot be read"]
    assert messages(entries, level="warning") == ["a.txt: no words"]
    assert entries[-2]["message"] == "Processed 1 files"


def test_documents_are_found_below_a_folder(tmp_path: Path) -> None:
    """Markdown first; hidden, generated and other files are left out."""
    names = ("b.py", "a.txt", "z.md", "sub/c.sql", ".git/x.md", "node_modules/x.js", "x.png", ".hidden.md")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (tmp_path / "huge.txt").write_text("x" * (MAX_BYTES + 1))
    found = [path.relative_to(tmp_path).as_posix() for path in find_documents(tmp_path)]
    assert found == ["z.md", "a.txt", "b.py", "sub/c.sql"]


def test_a_folder_without_documents_is_an_error(tmp_path: Path) -> None:
    """That says which files are looked for."""
    with pytest.raises(ExecutionLoggerError, match=r"no text files in this folder .*\.md"):
        find_documents(tmp_path)


def test_the_files_are_shared_out_evenly() -> None:
    """Each file belongs to one run, and no run is without."""
    paths = [Path(str(number)) for number in range(10)]
    shares = share_out(paths, 3)
    assert [name[-2:] for name in shares] == ["-1", "-2", "-3"]
    assert sorted(path for share in shares.values() for path in share) == paths
    assert {len(share) for share in shares.values()} == {3, 4}
    assert len(share_out(paths[:2], 3)) == 2


def test_the_meter_has_every_call() -> None:
    """With its id and its time."""
    logger = MeteredLogger(Settings())
    logger.configure(Settings(), make_delivery=MemoryDelivery)
    entries = [logger.sync.info("t", "c", "m")]
    with logger.timed_operation("t", "c", "work"):
        entries.append(logger.sync.log_tool_call("t", "a", "tool", "m"))
    assert len(logger.ids) == len(set(logger.ids)) == len(logger.nanoseconds) == 4
    assert {each.id for each in entries} < set(logger.ids)
    assert min(logger.nanoseconds) > 0
    assert logger.sync.shutdown().complete


@pytest.mark.parametrize("option", ["--ui", "--open"])
def test_a_page_that_is_not_installed_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Before anything is made."""
    monkeypatch.delitem(sys.modules, "execution_logger.cli.ui", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = CliRunner().invoke(main, ["demo", option])
    assert result.exit_code == 3
    assert result.stderr == (
        'execution-logger: uvicorn is not installed: pip install "celery-execution-logger[ui]"\n'
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stored_ids", "lost", "duplicates"),
    [("cba", 0, 0), ("ab", 1, 0), ("abcc", 0, 1), ("", 3, 0), ("aab", 1, 1)],
)
def test_lost_and_duplicate_rows_are_counted(stored_ids: str, lost: int, duplicates: int) -> None:
    """In whichever order they are read; one does not make up for the other."""
    assert compare("abc", stored_ids) == (lost, duplicates)


def test_the_demonstration_keeps_to_its_own_broker_and_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment names is the user's; only the language is taken from it."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://production")
    monkeypatch.setenv("EXECUTION_LOGGER_DATABASE_URL", "postgresql://production/logs")
    monkeypatch.setenv("CELERY_ENABLED", "false")
    settings = Settings.from_environment(demo_environment(tmp_path, None, None))
    assert settings.broker_url == f"embedded://{tmp_path}/broker"
    assert settings.database_url == f"sqlite:///{tmp_path}/logs.db"
    assert settings.celery_enabled
    assert settings.language == "en"
    assert settings.queue.startswith("demo-")
    monkeypatch.setenv("EXECUTION_LOGGER_LANGUAGE", "zh")
    settings = Settings.from_environment(demo_environment(tmp_path, "redis://real", "sqlite:////real"))
    assert (settings.broker_url, settings.database_url) == ("redis://real", "sqlite:////real")
    assert settings.language == "zh"

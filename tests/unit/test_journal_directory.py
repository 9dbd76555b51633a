"""Where journals are, and which of them a process may ship."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from children import FORKS, close_to_this_process, in_fork, run_script
from execution_logger import Settings
from execution_logger.cli import main
from execution_logger.journal import Adoption, Destination, directory, find_destination
from execution_logger.journal.directory import service_folder, state_directory
from journals import DyingProcess

BROKER = "redis://:secret@broker/0"
DATABASE = "postgresql://user:secret@database/logs"


def destination_of(folder: Path, broker: str | None = None, **settings: Any) -> Destination:
    """The destination of these settings, in this folder."""
    return find_destination(Settings(journal_directory=str(folder), **settings), broker)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in passwd."""

    def nobody(*_: object) -> None:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    directory._temporary_directory.cache_clear()


def test_it_says_where_to_without_passwords(tmp_path: Path) -> None:
    """For people who look into the folder."""
    assert destination_of(tmp_path, broker_url=BROKER).description == "redis://broker/0 logs"
    direct = destination_of(tmp_path, celery_enabled=False, database_url=DATABASE)
    assert direct.description == "postgresql://database/logs execution_logs"


def test_a_relative_directory_is_where_it_was_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever folder the process changes to afterwards, and whoever is handed the settings."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(journal_directory="journal", service_directory="services")
    monkeypatch.chdir("/")
    assert find_destination(settings).folder.parent == tmp_path / "journal"
    assert find_destination(replace(settings, queue="q")).folder.parent == tmp_path / "journal"
    assert service_folder(settings) == tmp_path / "services"


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of that name is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(journal_directory="~/journal", service_directory="~/services")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert state_directory(settings) == tmp_path / "journal"
    assert service_folder(settings) == tmp_path / "services"


@pytest.mark.parametrize("chosen", [None, "~/journal", "~nobody-of-this-name/journal"])
def test_without_a_home_directory_it_is_among_the_temporary_files(
    tmp_path: Path,
    homeless: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    chosen: str | None,
) -> None:
    """Of this user only, the same for every process, and one warning says so."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    settings = Settings(journal_directory=chosen)
    for _ in range(3):
        assert state_directory(settings) == tmp_path / f"execution-logger-{os.geteuid()}"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "set EXECUTION_LOGGER_JOURNAL_DIRECTORY" in record.getMessage()


@pytest.mark.skipif(not FORKS, reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("home", ["a file", "closed"])
def test_a_home_directory_that_cannot_be_used_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """As where a process has left root, and HOME is root's still."""
    folder = tmp_path / "home"
    folder.mkdir(0o700) if home == "closed" else folder.touch()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("TMPDIR", "/elsewhere")

    def directories() -> tuple[str, str]:
        if home == "closed":
            close_to_this_process(folder)
        return str(state_directory(Settings())), str(service_folder(Settings()))

    of_journals, of_services = in_fork(directories)
    assert of_journals.startswith("/elsewhere/execution-logger-")
    assert of_services.startswith("/elsewhere/execution-logger-services-")


def test_a_current_folder_that_is_gone_is_survived(
    tmp_path: Path, homeless: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A relative directory leads nowhere then."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert state_directory(Settings(journal_directory="journal")).is_relative_to(tmp_path)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("command", [("recover",), ("status", "--json"), ("config",)])
def test_commands_work_without_a_home_directory(
    tmp_path: Path, homeless: None, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """They look where a host without one has its journal."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    result = CliRunner().invoke(main, command)
    assert not isinstance(result.exception, RuntimeError), result.exc_info
    assert "Traceback" not in result.output


def test_a_call_works_without_a_home_directory(tmp_path: Path) -> None:
    """Its entry is on the disk, and one warning says where."""
    output = run_script(
        """
        import os, pwd, sys

        def nobody(*_):
            raise KeyError

        pwd.getpwuid = nobody
        from execution_logger import ExecutionLogger
        from execution_logger.testing import MemoryDelivery

        for name in ("HOME", "XDG_STATE_HOME"):
            os.environ.pop(name, None)
        logger = ExecutionLogger()
        logger.sync.info("t", "agent", "hello")
        logger.sync.info("t", "agent", "hello")
        os.chdir("/")
        print(logger.stats()["journal_bytes"] > 0, logger.stats()["journal_error"])
        os._exit(0)
        """,
        environment={"TMPDIR": str(tmp_path), "CELERY_BROKER_URL": "redis://127.0.0.1:1/0"},
    )
    assert output.splitlines()[-1] == "True None", output
    assert output.count("EXECUTION_LOGGER_JOURNAL_DIRECTORY") == 1
    assert list(tmp_path.glob("execution-logger-*/logs-*/*/0*.entries"))


def test_a_host_that_is_switched_ships_what_it_had_left(tmp_path: Path) -> None:
    """Both ways of one set of settings are each other's."""
    on = destination_of(tmp_path, broker_url=BROKER, database_url=DATABASE)
    off = destination_of(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=False)
    assert on.folder != off.folder
    assert on.folders == (on.folder, off.folder)
    assert off.folders == (off.folder, on.folder)


def test_a_database_that_is_not_named_is_no_other_way(tmp_path: Path) -> None:
    """Most hosts know their broker only."""
    on = destination_of(tmp_path, broker_url=BROKER)
    assert on.folders == (on.folder,)


def test_the_default_broker_may_be_another_hosts(tmp_path: Path) -> None:
    """Who has never named one has left nothing there; what lies there belongs into another database."""
    off = destination_of(tmp_path, database_url=DATABASE, celery_enabled=False)
    assert off.folders == (off.folder,)
    broker = "redis://localhost:6379/0"
    of_application = destination_of(tmp_path, broker, database_url=DATABASE, celery_enabled=False)
    assert len(of_application.folders) == 2


@pytest.mark.parametrize("is_on", [True, False])
def test_what_was_left_before_the_switch_is_adopted(tmp_path: Path, *, is_on: bool) -> None:
    """By the first process that runs the other way."""
    ways = [
        destination_of(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=way)
        for way in (is_on, not is_on)
    ]
    DyingProcess(tmp_path, to=ways[0]).log(3).die()
    adoption = Adoption(ways[1], "living", Settings())
    (journal,) = adoption.look()
    assert (journal.process, journal.pending) == ("dead", 3)
    adoption.close()


def test_journals_of_the_living_are_left_alone(tmp_path: Path) -> None:
    """A host that is not switched yet ships for itself."""
    on = destination_of(tmp_path, broker_url=BROKER, database_url=DATABASE)
    off = destination_of(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=False)
    living = DyingProcess(tmp_path, "living", to=on).log(1)
    adoption = Adoption(off, "other", Settings())
    assert adoption.look() == []
    adoption.close()
    living.die()

"""`execution-logger health`."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import main
from execution_logger.operate import facts
from sqlite_site import make_tables

NAME = f"celery@{socket.gethostname()}"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An embedded broker, and a SQLite file with the tables."""
    variables = {
        "CELERY_BROKER_URL": f"embedded://{tmp_path / 'broker'}",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}",
    }
    make_tables(tmp_path / "logs.db")
    return variables


def check(environment: dict[str, str], *options: str) -> Result:
    """The outcome of the command."""
    return CliRunner().invoke(main, ["health", *options], env=environment)


def online(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these workers answer."""
    monkeypatch.setattr(facts, "workers_online", lambda settings: list(names))


def test_a_worker_that_works(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is that of the machine, or a given one."""
    online(monkeypatch, NAME, "logs-2@elsewhere")
    assert (check(environment).exit_code, check(environment).output) == (0, f"{NAME} works\n")
    assert check(environment, "--name", "logs-2@elsewhere").exit_code == 0


def test_a_worker_that_does_not_answer(environment: dict[str, str]) -> None:
    """The real question, to which there is no answer."""
    result = check(environment)
    assert result.exit_code == 1
    assert f"{NAME} does not take from the queue 'logs'" in result.output


def test_others_are_named(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has given the worker another name."""
    online(monkeypatch, "logs-2@elsewhere")
    assert "others do: logs-2@elsewhere" in check(environment).output


@pytest.mark.parametrize(
    ("database", "complaint", "code"),
    [
        ("sqlite:////nowhere/logs.db", "unable to open", 1),
        ("sqlite:///{}/empty.db", "execution_logs", 1),
        ("", "DATABASE_URL", 2),
    ],
)
def test_a_worker_without_its_table(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
    complaint: str,
    code: int,
) -> None:
    """It answers, and can write nothing."""
    online(monkeypatch, NAME)
    result = check({**environment, "DATABASE_URL": database.format(tmp_path)})
    assert result.exit_code == code
    assert complaint in result.output
    assert result.output.count("\n") == 1


def test_a_broker_that_is_away(environment: dict[str, str]) -> None:
    """One line, without the password."""
    result = check({**environment, "CELERY_BROKER_URL": "redis://:secret@127.0.0.1:1/0"})
    assert result.exit_code == 1
    assert "redis://127.0.0.1:1/0" in result.output

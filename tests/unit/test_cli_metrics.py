"""`execution-logger metrics`."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import main
from scraping import parse
from sqlite_site import make_tables

NOBODY = "redis://:secret@127.0.0.1:1/0"


@pytest.fixture
def environment(tmp_path: Path, patient_looks: None) -> dict[str, str]:
    """An embedded broker, and a SQLite file with the tables."""
    variables = {
        "CELERY_BROKER_URL": f"embedded://{tmp_path / 'broker'}",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}",
    }
    make_tables(tmp_path / "logs.db")
    return variables


def metrics(environment: dict[str, str], *options: str) -> Result:
    """The outcome of the command."""
    return CliRunner().invoke(main, ["metrics", *options], env=environment)


def test_once_prints_them(environment: dict[str, str]) -> None:
    """What does not belong to this kind of broker is absent."""
    result = metrics(environment, "--once")
    assert result.exit_code == 0
    found = parse(result.stdout)
    for name in ("broker_up", "database_up", "journals_up"):
        assert found[f"execution_logger_{name}"] == 1
    for name in ("queue_messages", "workers_online", "dead_letters"):
        assert found[f"execution_logger_{name}"] == 0
    assert found["execution_logger_queue_limit_messages"] == 10_000
    assert "execution_logger_queue_in_flight_messages" not in found


def test_a_broker_that_is_away_is_told(environment: dict[str, str]) -> None:
    """Why is in the log, without the password; the database answers all the same."""
    result = metrics({**environment, "CELERY_BROKER_URL": NOBODY}, "--once")
    assert result.exit_code == 0
    found = parse(result.stdout)
    assert (found["execution_logger_broker_up"], found["execution_logger_database_up"]) == (0, 1)
    assert "execution_logger_queue_messages" not in found
    assert "execution_logger_workers_online" not in found, "nobody knows how many there are"


def test_a_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    """It names address and port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = metrics(environment, "--port", str(port))
    assert result.exit_code == 3
    assert f"execution-logger: 127.0.0.1:{port} cannot be used: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broker_url_that_cannot_be_read_is_an_error_of_the_start(environment: dict[str, str]) -> None:
    """Not of every scrape; and it is not shown."""
    result = metrics({**environment, "CELERY_BROKER_URL": "nope://secret@host"}, "--once")
    assert result.exit_code == 2
    assert "CELERY_BROKER_URL=(hidden)" in result.stderr
    assert "secret" not in result.output

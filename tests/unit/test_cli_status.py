"""`execution-logger status` and `health`."""

import json
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from execution_logger import ExecutionLogger, Settings
from execution_logger.cli import main
from execution_logger.cli import status as cli_status
from execution_logger.cli.status import _shown
from execution_logger.operate import facts
from sqlite_site import make_tables

NOBODY = "redis://:secret@127.0.0.1:1/0"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An embedded broker, and a SQLite file with the tables."""
    variables = {
        "CELERY_BROKER_URL": f"embedded://{tmp_path / 'broker'}",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}",
    }
    make_tables(tmp_path / "logs.db")
    return variables


def status(environment: dict[str, str], *options: str) -> Result:
    """The outcome of the command."""
    return CliRunner().invoke(main, ["status", *options], env=environment)


def parts(environment: dict[str, str], exit_code: int) -> dict[str, Any]:
    """What `--json` tells, after a look at the exit code."""
    result = status(environment, "--json")
    assert result.exit_code == exit_code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_all_that_answers_is_shown(environment: dict[str, str]) -> None:
    """Programs read JSON; without a worker the batches wait."""
    logger = ExecutionLogger(Settings(broker_url=environment["CELERY_BROKER_URL"]))
    logger.sync.info("t", "c", "m")
    assert logger.sync.shutdown().complete
    found = parts(environment, exit_code=0)
    assert found["broker"]["facts"]["waiting"] == 1
    assert found["workers"] == {"facts": {"online": []}, "error": None}
    database = found["database"]["facts"]
    assert (database["rows"], database["dead_letters"], database["newest"]) == (0, 0, None)


def test_people_get_a_table(environment: dict[str, str]) -> None:
    """With the same facts."""
    result = status(environment)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["waiting", "0"] in rows
    assert ["dead", "letters", "0"] in rows


def test_a_broker_that_is_away_hides_nothing_else(environment: dict[str, str]) -> None:
    """Each part has its own error, and no credentials are in it."""
    found = parts({**environment, "CELERY_BROKER_URL": NOBODY}, exit_code=1)
    assert "redis://127.0.0.1:1/0: " in found["broker"]["error"]
    assert "refused" in found["workers"]["error"]
    assert found["database"]["error"] is None
    assert "secret" not in json.dumps(found)


def test_tables_that_are_missing_are_the_databases_error(environment: dict[str, str], tmp_path: Path) -> None:
    """The error says what to do."""
    found = parts({**environment, "DATABASE_URL": f"sqlite:///{tmp_path / 'empty.db'}"}, exit_code=1)
    assert "execution-logger db upgrade" in found["database"]["error"]
    assert found["broker"]["error"] is None


@pytest.mark.parametrize("url", ["redis://:se#cret@host/0", "nope://secret@host", "redis://:secret@host:x/0"])
def test_a_broker_url_that_cannot_be_read_is_not_shown(environment: dict[str, str], url: str) -> None:
    """What looks like a port may be a part of the password."""
    result = status({**environment, "CELERY_BROKER_URL": url})
    assert result.exit_code in (1, 2)  # some are found when they are used
    assert "CELERY_BROKER_URL=(hidden)" in result.output
    assert "cret" not in result.output


def test_without_celery_no_broker_is_asked(environment: dict[str, str]) -> None:
    """There is none to be unreachable."""
    found = parts({**environment, "CELERY_ENABLED": "false", "CELERY_BROKER_URL": NOBODY}, exit_code=0)
    assert found["broker"]["facts"] == {"state": "not used: CELERY_ENABLED=false"}
    assert "workers" not in found


def test_a_wrong_setting_is_one_line(environment: dict[str, str]) -> None:
    """It is found before anything is asked."""
    result = status({**environment, "EXECUTION_LOGGER_BATCH_SIZE": "many"})
    assert result.exit_code == 2
    assert result.stderr == "execution-logger: EXECUTION_LOGGER_BATCH_SIZE='many': must be a whole number\n"


def test_what_is_not_written_yet_is_told_by_its_age(environment: dict[str, str]) -> None:
    """It is in the journal of this machine until it is stored; programs read the seconds."""
    logger = ExecutionLogger(Settings(broker_url=environment["CELERY_BROKER_URL"], confirmation="off"))
    assert parts(environment, exit_code=0)["unwritten"]["facts"] == {"oldest": None, "age_seconds": None}
    entry = logger.sync.info("t", "c", "m")
    found = parts(environment, exit_code=0)
    assert found["journal"]["facts"]["entries"] == found["journal"]["facts"]["processes"] == 1
    assert found["unwritten"]["facts"]["oldest"] == str(entry.created_at)
    assert 0 <= found["unwritten"]["facts"]["age_seconds"] < 60
    logger.sync.shutdown()


def test_what_is_kept_for_another_destination_is_told(environment: dict[str, str]) -> None:
    """It will not be sent to this one."""
    logger = ExecutionLogger(Settings(broker_url=environment["CELERY_BROKER_URL"], queue="other"))
    logger.sync.info("t", "c", "m")
    journal = parts(environment, exit_code=0)["journal"]["facts"]
    assert (journal["entries"], journal["other_destinations"]) == (0, 1)
    assert ["other", "destinations", "1"] in [
        line.split()[-3:] for line in status(environment).stdout.splitlines()
    ]
    logger.sync.shutdown()


def test_a_journal_that_cannot_be_read_hides_nothing_else(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """It may be another user's."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "logs-1").mkdir()
    (tmp_path / "state" / "logs-1" / "process").mkdir()
    (tmp_path / "state" / "logs-1" / "process" / "lock").mkdir()
    (tmp_path / "state" / "logs-1" / "process" / "00000000000000000001.ndjson").touch()
    found = parts({**environment, "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(tmp_path / "state")}, exit_code=1)
    assert "cannot be read: Is a directory" in found["journal"]["error"]
    assert found["unwritten"]["error"] == "not all is known: see journal"
    assert found["broker"]["error"] is found["database"]["error"] is None


def test_a_table_that_is_missing_hides_no_other(environment: dict[str, str], tmp_path: Path) -> None:
    """What is known of a database that is half set up is shown."""
    with closing(sqlite3.connect(tmp_path / "logs.db")) as connection:
        connection.execute("DROP TABLE execution_log_dead_letters")
    database = parts(environment, exit_code=1)["database"]
    assert database["facts"]["rows"] == 0
    assert database["facts"]["dead_letters"] is None
    assert "execution-logger db upgrade" in database["error"]


def test_watching_goes_on_until_it_is_ended(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a line for programs, and a table for people; Ctrl-C ends it in order."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) % 2 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_status, "_sleep", sleep)
    result = status(environment, "--watch", "3", "--json")
    assert (result.exit_code, result.stderr) == (130, "execution-logger: interrupted\n")
    looks = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(looks) == 2
    assert looks[0]["at"] < looks[1]["at"]
    assert looks[1]["parts"]["broker"]["facts"]["waiting"] == 0
    result = status(environment, "--watch")
    assert result.exit_code == 130
    assert result.stdout.count("execution-logger status, ") == 2
    assert "every 2 s; Ctrl-C ends it" in result.stdout
    assert pauses == [3.0, 3.0, 2.0, 2.0]


def test_what_waits_for_long_is_yellow() -> None:
    """The age of the oldest row is none of these."""
    moment = datetime.now(UTC) - timedelta(minutes=2)
    assert _shown("oldest", moment, is_waiting=True).style == "yellow"
    assert _shown("oldest", moment).style == ""
    assert _shown("oldest", datetime.now(UTC), is_waiting=True).style == ""


@pytest.mark.parametrize(
    ("age_seconds", "text"),
    [(0.2, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (200_000, "2 days ago")],
)
def test_the_age_of_an_entry_is_easy_to_read(age_seconds: float, text: str) -> None:
    """In the largest unit of which there are two."""
    assert _shown("newest", datetime.now(UTC) - timedelta(seconds=age_seconds)).plain.endswith(text)


def test_what_needs_attention_is_red() -> None:
    """Dead letters do; many rows do not."""
    assert _shown("dead_letters", 1).style == "red"
    assert _shown("dead_letters", 0).style == ""
    assert _shown("rows", 1).style == ""


NAME = f"logs@{socket.gethostname()}"
CELERYS_NAME = f"celery@{socket.gethostname()}"


def check(environment: dict[str, str], *options: str) -> Result:
    """The outcome of the command."""
    return CliRunner().invoke(main, ["health", *options], env=environment)


def online(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these workers answer."""
    monkeypatch.setattr(facts, "workers_online", lambda settings: list(names))


def test_a_worker_that_works(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is that of queue and machine, Celery's default, or a given one."""
    online(monkeypatch, NAME, "logs-2@elsewhere")
    assert (check(environment).exit_code, check(environment).output) == (0, f"{NAME} works\n")
    assert check(environment, "--name", "logs-2@elsewhere").exit_code == 0
    online(monkeypatch, CELERYS_NAME)
    assert check(environment).output == f"{CELERYS_NAME} works\n"


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

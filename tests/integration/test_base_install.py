"""The base install: a host's machine, which has neither the worker's extra nor the packages of any other."""

import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import execution_logger

WORKERS_EXTRA = ("aiosqlite", "alembic", "asyncpg", "rich", "sqlalchemy")
INSTALL = 'pip install "celery-execution-logger[worker]"'


HOST = """
    import os
    from execution_logger import execution_logger
    for number in range(3):
        execution_logger.sync.info("base-install", "workflow", f"entry {number}")
    os._exit(0)
"""


def requirements(name: str, extras: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What `pip install name[extras]` would install with it."""
    for text in importlib.metadata.requires(name) or ():
        required = Requirement(text)
        if not required.marker or any(required.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield required.name, tuple(required.extras)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a base install has in its site-packages, and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "execution_logger").symlink_to(Path(execution_logger.__file__).parent)
    wanted, seen = list(requirements("celery-execution-logger")), set()
    while wanted:
        if (found := wanted.pop()) in seen:
            continue
        seen.add(found)
        wanted += requirements(*found)
        distribution = importlib.metadata.distribution(found[0])
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    assert not any((folder / package).exists() for package in WORKERS_EXTRA)
    return folder


def run(site: Path, *arguments: str, code: int = 0, **environment: Any) -> subprocess.CompletedProcess[str]:
    """A Python that has only that: `-S` leaves out its own site-packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-P", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def command(site: Path, *arguments: str, code: int = 0, **environment: Any) -> str:
    """What `execution-logger arguments...` says."""
    done = run(site, "-m", "execution_logger.cli", *arguments, code=code, **environment)
    return done.stdout + done.stderr


def test_the_help_names_every_command_and_what_each_needs(site: Path) -> None:
    """Whoever finds the command finds out what the rest of it takes."""
    lines = {line.split()[0]: line for line in command(site, "--help").splitlines() if line.startswith("  ")}
    assert "not installed" in lines["audit"]
    assert "not installed" in lines["runs"]
    for name in ("beat", "config", "doctor", "recover", "worker"):
        assert "not installed" not in lines[name]


@pytest.mark.parametrize("name", ["audit", "db", "runs", "status"])
def test_a_command_that_needs_the_extra_says_so(site: Path, name: str) -> None:
    """In one line, whatever its options are, help included."""
    for options in ((), ("--help",), ("--since", "1h", "task-1")):
        said = command(site, name, *options, code=3)
        assert said.count("\n") == 1
        assert INSTALL in said


def test_config_shows_the_settings(site: Path) -> None:
    """As columns, and what is wrong or misspelt below."""
    said = command(
        site, "config", "--changed", code=2,
        EXECUTION_LOGGER_QUEUE="mine", EXECUTION_LOGGER_BATCH_SIZE="many", EXECUTION_LOGGER_XYZZY="1",
    )  # fmt: skip
    lines = said.splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    assert ["queue", "mine", "EXECUTION_LOGGER_QUEUE"] in [line.split() for line in lines]
    assert "wrong: EXECUTION_LOGGER_BATCH_SIZE='many': must be a whole number" in lines
    assert "no effect: EXECUTION_LOGGER_XYZZY is no setting." in said


def test_a_host_logs_and_recover_sends_what_was_left(site: Path, tmp_path: Path, redis_url: str) -> None:
    """All that a host needs is there: Celery, the journal, and who looks after it."""
    environment: dict[str, Any] = {
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(tmp_path / "journal"),
        "EXECUTION_LOGGER_QUEUE": "base-install",
        "EXECUTION_LOGGER_CONFIRMATION": "off",
        "CELERY_BROKER_URL": redis_url,
    }
    run(site, "-c", textwrap.dedent(HOST), **environment)
    said = command(site, "recover", "--dry-run", code=1, **environment)
    assert "0 entries of dead processes were sent, 3 are left." in said
    said = command(site, "recover", **environment)
    assert "3 entries of dead processes were sent, 0 are left." in said


def test_doctor_examines_all_but_the_database(site: Path, tmp_path: Path, redis_url: str) -> None:
    """Which it leaves to a machine that has the packages; a host by Celery does not need them."""
    environment: dict[str, Any] = {
        "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(tmp_path / "journal"),
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": "postgresql://host/database",
    }
    found = json.loads(command(site, "doctor", "--json", "--skip", "workers", **environment))["findings"]
    whats = {each["name"]: each for each in found}
    assert whats["broker.queue"]["level"] == "ok"
    assert whats["database.connection"]["level"] == "ok"
    assert INSTALL in whats["database.connection"]["what"]
    table = command(site, "doctor", "--skip", "workers", **environment)
    assert "not examined: aiosqlite, alembic, asyncpg, sqlalchemy is not installed" in table
    found = json.loads(command(site, "doctor", "--json", code=2, CELERY_ENABLED="false", **environment))
    assert [each["name"] for each in found["findings"] if each["level"] == "error"] == ["database.settings"]


def test_beat_and_flower_need_no_database(site: Path) -> None:
    """They send and look; the worker writes."""
    code = (
        "from execution_logger.worker import create_client; print(sorted(create_client().conf.beat_schedule))"
    )
    assert "execution_logger.health" in run(site, "-c", code).stdout

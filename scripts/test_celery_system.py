#!/usr/bin/env python3
"""Tries the whole system in less than a minute, on the servers that this environment names.

scripts/test_celery_system.py    CELERY_BROKER_URL and DATABASE_URL are read from the environment

Broker, database and its tables, a worker, Beat, a batch from the call to its rows, and Flower where it is
installed. It has a queue and processes of its own: workers that run already are not asked and not
disturbed. Missing tables are created, as `execution-logger db upgrade` does. Its rows, its queue and its
processes are gone at the end. The exit code is 1 when a step failed.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from project import use_environment

use_environment()

import asyncio  # noqa: E402 - it may need the other environment
from importlib.util import find_spec  # noqa: E402

import click  # noqa: E402
from sqlalchemy import delete  # noqa: E402
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: E402

from execution_logger import ExecutionLogger, LogCategory, Settings  # noqa: E402
from execution_logger.broker.connection import public_url  # noqa: E402
from execution_logger.broker.queue import delete_queue, queue_length  # noqa: E402
from execution_logger.cli.db import upgrade_database  # noqa: E402
from execution_logger.errors import ExecutionLoggerError  # noqa: E402
from execution_logger.store import ExecutionLogRepository, create_engine  # noqa: E402
from execution_logger.store.schema import ledger_table  # noqa: E402

ENTRIES = 50
STORED_SECONDS = 60.0
POLL_SECONDS = 0.2
READY_SECONDS = 120.0
STOP_SECONDS = 30.0
JOBS = ("HEALTH", "STATISTICS", "RETENTION")
COLOURS = {"ok": "green", "skipped": "yellow", "failed": "red"}

T = TypeVar("T")

READY = {"worker": "ready.", "beat": "beat: Starting...", "flower": "Visit me at"}
"""What each process says as soon as it works."""


class StepError(Exception):
    """A step has failed."""


class SkippedError(Exception):
    """A step cannot be tried here."""


class Trial:
    """One run, with a queue and folders that nobody else has."""

    def __init__(self, folder: Path) -> None:
        own = {
            "EXECUTION_LOGGER_QUEUE": f"{Settings.from_environment().queue}.trial-{uuid.uuid4().hex[:8]}",
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(folder / "journal"),
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder / "services"),
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": str(free_port()),
            "EXECUTION_LOGGER_CELERY_ENABLED": "true",
            "EXECUTION_LOGGER_FALLBACK": "keep",
            # A job that is due belongs to the workers of the system, not to one that is gone in a moment.
            **{f"EXECUTION_LOGGER_SCHEDULE_{job}": "off" for job in JOBS},
            # A worker of the machine may listen on the configured port.
            "EXECUTION_LOGGER_METRICS_PORT": "0",
        }
        self.environment = {**os.environ, **own}
        self.settings = Settings.from_environment(self.environment)
        self.task_id = f"trial-{uuid.uuid4().hex}"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.process = ""
        self.works: set[str] = set()
        self.failed = False

    def run(self) -> None:
        """Take all steps, and clean up whatever happens."""
        try:
            self.step("broker", (), self.ask_broker)
            self.step("database", (), self.ask_database)
            self.step("worker", ("broker", "database"), lambda: self.start("worker"))
            self.step("beat", ("broker", "database"), lambda: self.start("beat"))
            self.step("batch", ("worker",), self.store_batch)
            self.step("flower", ("broker", "database"), self.start_flower)
        finally:
            self.step("clean up", (), self.clean_up)

    def step(self, name: str, needed: tuple[str, ...], take: Callable[[], str]) -> None:
        """Take a step if those that it needs have worked, and say what came of it."""
        began_at = time.monotonic()
        missing = [each for each in needed if each not in self.works]
        try:
            outcome, said = ("skipped", f"{missing[0]} does not work") if missing else ("ok", take())
        except SkippedError as reason:
            outcome, said = "skipped", str(reason)
        except (StepError, ExecutionLoggerError) as error:
            outcome, said = "failed", str(error)
        self.works |= {name} if outcome == "ok" else set()
        self.failed |= outcome == "failed"
        seconds = time.monotonic() - began_at
        click.echo(f"{click.style(f'{outcome:8}', fg=COLOURS[outcome])}{name:10}{seconds:5.1f} s  {said}")

    def ask_broker(self) -> str:
        """See whether the broker answers."""
        queue_length(self.settings)
        return public_url(self.settings.broker_url)

    def ask_database(self) -> str:
        """See whether the database answers, and bring its tables up to date."""
        self.settings.require_database("the trial")
        return asyncio.run(upgrade_database(self.settings)) or "the tables are up to date"

    def start(self, name: str) -> str:
        """Start `execution-logger NAME`, and wait until it works."""
        output = self.folder / f"{name}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-P", "-m", "execution_logger.cli", name, "--stop-at-eof"],
                env=self.environment, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.processes.append(process)
        began_at = time.monotonic()
        while READY[name] not in (said := output.read_text(errors="replace")):
            if process.poll() is not None:
                raise StepError(said.strip().removeprefix("execution-logger: "))
            if time.monotonic() - began_at > READY_SECONDS:
                raise StepError(f"it does not work after {READY_SECONDS:g} s:\n{said}")
            time.sleep(POLL_SECONDS)
        return f"process {process.pid}"

    def stop(self) -> None:
        """Stop all processes, in order."""
        for process in reversed(self.processes):
            with process:  # which closes its input, and waits for its end
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    raise StepError(f"{process.args} did not end in {STOP_SECONDS:g} s") from None
                finally:
                    process.kill()

    def store_batch(self) -> str:
        """Log a batch, and wait until it is rows."""
        logger = ExecutionLogger(replace(self.settings, batch_size=ENTRIES))
        self.process = logger.stats()["process"]
        began_at = time.monotonic()
        try:
            for number in range(ENTRIES):
                logger.sync.info(self.task_id, LogCategory.WORKFLOW, f"entry {number}")
            report = logger.sync.flush(STORED_SECONDS, until="stored")
            milliseconds = 1000 * (time.monotonic() - began_at)
        finally:
            logger.sync.shutdown()
        # Without a result backend nobody has said yet that they are stored.
        while (rows := self.in_database(self.count_rows)) < ENTRIES:
            if time.monotonic() - began_at > STORED_SECONDS:
                raise StepError(f"{rows} of {ENTRIES} entries are rows: {report}")
            time.sleep(POLL_SECONDS)
        return f"{ENTRIES} calls were rows {milliseconds:.0f} ms after the first one"

    def start_flower(self) -> str:
        """Start Flower and wait until its page answers."""
        if find_spec("flower") is None:
            raise SkippedError('not installed: pip install "celery-execution-logger[flower]"')
        said, page = self.start("flower"), f"http://127.0.0.1:{self.environment['FLOWER_PORT']}/healthcheck"
        began_at = time.monotonic()
        while not answers(page):
            if time.monotonic() - began_at > READY_SECONDS:
                raise StepError(f"{page} does not answer")
            time.sleep(POLL_SECONDS)
        return said

    def clean_up(self) -> str:
        """Stop the processes, and remove the queue and the rows."""
        said = ["nothing to do"]
        if "broker" in self.works:
            self.stop()
            delete_queue(self.settings)
            said = ["processes stopped, queue removed"]
        if self.process:
            said.append(f"{self.in_database(self.delete_rows)} rows deleted")
        return ", ".join(said)

    def in_database(self, act: Callable[[AsyncConnection], Coroutine[Any, Any, T]]) -> T:
        """What `act` returns, in a transaction on a connection of its own."""

        async def run() -> T:
            engine = create_engine(self.settings, pool_size=1)
            try:
                async with engine.begin() as connection:
                    return await act(connection)
            except Exception as error:
                raise StepError(f"{self.settings.table}: {error}") from error
            finally:
                await engine.dispose()

        return asyncio.run(run())

    async def count_rows(self, connection: AsyncConnection) -> int:
        """How many entries are rows."""
        repository = ExecutionLogRepository(AsyncSession(connection), self.settings)
        return len(await repository.list_by_trace(self.task_id, limit=ENTRIES + 1))

    async def delete_rows(self, connection: AsyncConnection) -> int:
        """Delete the entries and what the ledger knows of them; the number of entries."""
        repository = ExecutionLogRepository(AsyncSession(connection), self.settings)
        removed = await repository.delete_logs_by_trace(self.task_id)
        ledger = ledger_table(self.settings)
        await connection.execute(delete(ledger).where(ledger.c.process == self.process))
        return removed


def answers(page: str) -> bool:
    """Whether a web page does."""
    with suppress(OSError), urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310 - our own Flower
        return bool(answer.status == HTTPStatus.OK)
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Take all steps; the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="execution-logger-") as folder:
            trial = Trial(Path(folder))
            trial.run()
    except ExecutionLoggerError as error:
        sys.exit(f"failed  {error}")
    click.echo("something does not work" if trial.failed else "all of it works")
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The example hosts of `examples/`: their processes, a client, and the count of calls and rows."""

import os
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import asyncpg
import httpx

import run_procfile
from processes import LocalProcess
from rows import fetch
from server import free_port
from waiting import PATIENCE, wait_until
from workers import BILLIARD_SECONDS

_AWAY = (OSError, asyncpg.PostgresError, sqlite3.OperationalError)
"""What is raised while a database is coming up, or is written to."""
_TESTS = Path(__file__).resolve().parent
EXAMPLES = _TESTS.parent / "examples"
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 20.0 * PATIENCE + BILLIARD_SECONDS
ANSWER_SECONDS = 10.0 * PATIENCE


class ExampleHost:
    """A host's processes, each a line of its Procfile, without what `examples/start.sh` installs.

    Every logging call that returns, in any of them, is counted outside of the host's code.

    >>> with ExampleHost("flask_host", tmp_path, DATABASE_URL=..., CELERY_BROKER_URL=...) as host:
    ...     host.start("logs")
    ...     host.start("web", ready="Listening")
    ...     host.client.post("/api/v1/...")
    ...     host.wait_until_stored()
    """

    def __init__(self, name: str, folder: Path, **environment: str) -> None:
        """Start nothing yet; `environment` is added to the tests' own and to what `start.sh` sets."""
        self.name = name
        self.folder = folder
        self.port = free_port()
        self.commands = run_procfile.read(EXAMPLES / name / "Procfile")
        self._returned = folder / "returned-calls.txt"
        self._returned.touch()
        self._processes: dict[str, LocalProcess] = {}
        self._ended: list[LocalProcess] = []
        path = [EXAMPLES, _TESTS / "count_calls", _TESTS / "without_flower"]
        (folder / "results").mkdir(exist_ok=True)
        self.environment = {
            **os.environ,
            "CELERY_BROKER_URL": f"embedded://{folder}/broker",
            "CELERY_RESULT_BACKEND": f"file://{folder}/results",
            "DATABASE_URL": f"sqlite:///{folder}/host.db",
            "DATA_DIRECTORY": str(folder),
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(folder / "journal"),
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder / "services"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PORT": str(self.port),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONUNBUFFERED": "1",
            "RETURNED_CALLS": str(self._returned),
            **environment,
        }
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=ANSWER_SECONDS)

    def start(self, process: str, *, ready: str | None = "ready", options: str = "") -> LocalProcess:
        """Start a line of the Procfile, again after its end, and wait until it has printed `ready`.

        `options` are added to its command.
        """
        output = self.folder / f"{process}-{len(self._ended)}.txt"
        command = f"exec {self.commands[process]} {options}"
        started = LocalProcess(
            ["/bin/sh", "-c", command], output=output, environment=self.environment, folder=self.folder
        )
        self._processes[process] = started
        self._ended.append(started)

        def is_ready() -> bool:
            assert started.is_running(), started.output
            return ready is None or ready in started.output

        wait_until(is_ready, START_TIMEOUT_SECONDS, message=lambda: started.output)
        return started

    def __getitem__(self, process: str) -> LocalProcess:
        """The process that was started last under this name."""
        return self._processes[process]

    def is_running(self, process: str) -> bool:
        """Whether it was started, and has not ended."""
        return process in self._processes and self._processes[process].is_running()

    def stop(self, process: str) -> None:
        """SIGTERM, and wait for the end."""
        self._processes[process].stop(timeout_seconds=STOP_TIMEOUT_SECONDS)

    def kill(self, process: str) -> None:
        """SIGKILL to it and all its children."""
        self._processes[process].kill()

    def calls(self) -> list[str]:
        """The ids of the entries whose calls have returned, in all processes, dead ones included."""
        return self._returned.read_text().split()

    def rows(self) -> list[str]:
        """The ids of all stored entries, those stored twice twice."""
        url = self.environment["DATABASE_URL"]
        statement = "SELECT id FROM execution_logs"
        if url.startswith("sqlite"):
            file = url.partition("///")[2]
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                return [row[0] for row in database.execute(statement)]
        return [str(row["id"]) for row in fetch(url, statement)]

    def wait_until_stored(self) -> None:
        """Wait until each call that has returned is a row, look that none is two, and print both numbers.

        What processes that were killed have left, another one of the host sends: start one first.
        """

        def missing() -> set[str]:
            with suppress(*_AWAY):
                return set(self.calls()) - set(self.rows())
            return {"?"}

        wait_until(lambda: not missing(), 60, message=lambda: f"missing: {len(missing())}. {self.output}")
        calls, rows = self.calls(), self.rows()
        print(f"{self.name}: {len(calls)} calls, {len(rows)} rows")
        assert len(set(calls)) == len(calls) > 0
        assert len(set(rows)) == len(rows)

    @property
    def output(self) -> str:
        """What all its processes have printed."""
        return "\n".join(process.output for process in self._ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, and show what all have printed: pytest does where a test failed."""
        self.client.close()
        for process in reversed(self._ended):
            process.kill()
        print(self.output)

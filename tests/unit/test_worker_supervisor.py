"""The supervisor, with small processes in the place of Celery."""

import asyncio
import logging
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger.broker.connection import Backoff
from execution_logger.worker.supervisor import Supervisor
from waiting import wait_until

COUNT = """
import os, signal, sys, time
with open(sys.argv[1], "a") as file:
    file.write("x")
n = os.path.getsize(sys.argv[1])
"""
"""Adds a character to the file for each start, which is the n-th."""


class Site:
    """A supervised process that counts its starts, and is told when it is not the first one."""

    def __init__(
        self, path: Path, script: str, backoff: Backoff | None = None, stop_seconds: float = 60
    ) -> None:
        self._path = path
        command = [sys.executable, "-c", COUNT + textwrap.dedent(script), str(path)]
        self._supervisor = Supervisor(
            command, [*command, "again"], stop_seconds=stop_seconds, backoff=backoff or Backoff(0.01)
        )

    @property
    def starts(self) -> int:
        """How often the process was started."""
        return self._path.stat().st_size if self._path.exists() else 0

    async def run(self) -> int:
        """Supervise to the end; the exit code."""
        return await asyncio.wait_for(self._supervisor.run(), DEADLINE_SECONDS)

    async def wait_for_starts(self, count: int) -> None:
        """Return when there have been that many."""
        await asyncio.to_thread(wait_until, lambda: self.starts >= count, DEADLINE_SECONDS)


async def test_a_process_that_crashes_is_started_again(tmp_path: Path) -> None:
    """It knows by its command that it is not the first, and a normal end is the end."""
    site = Site(
        tmp_path / "starts", "sys.exit(0 if n == 4 else 1 if sys.argv[2:] == ['again'] * (n > 1) else 2)"
    )
    assert await site.run() == 0
    assert site.starts == 4


async def test_a_crash_is_one_line_that_says_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Operators tell the kernel's memory killer from an error of Celery's."""
    script = "n == 1 and sys.exit(3); n == 2 and os.kill(os.getpid(), signal.SIGKILL)"
    with caplog.at_level(logging.ERROR):
        assert await Site(tmp_path / "starts", script).run() == 0
    first, second = caplog.messages
    assert first.startswith("the worker ended with exit code 3; it starts again in ")
    assert second.startswith("the worker was killed by SIGKILL; it starts again in ")


async def test_a_removed_cause_is_no_reason_to_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One message may be poison, and then another one: the pauses begin anew with each that is found."""
    pauses = Backoff(1e9, random_fraction=lambda: 0.0)
    for _ in range(30):
        pauses.next_pause_seconds()
    with caplog.at_level(logging.ERROR):
        assert await Site(tmp_path / "starts", "sys.exit(10 if n == 1 else 0)", pauses).run() == 0
    assert caplog.messages == ["the worker has moved aside what ended it; it starts again in 0.2 s"]


async def test_wrong_usage_is_not_repeated(tmp_path: Path) -> None:
    """An option that Celery does not know would be unknown the next time as well."""
    site = Site(tmp_path / "starts", "sys.exit(2)")
    assert await site.run() == 2
    assert site.starts == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_signals_reach_the_process(tmp_path: Path, number: signal.Signals) -> None:
    """It decides how to end; its exit code is the supervisor's, and it is not started again."""
    script = f"""
        signal.signal({int(number)}, lambda *_: sys.exit(5))
        open(sys.argv[1], 'a').write('x')
        time.sleep(60)
    """
    site = Site(tmp_path / "starts", script)
    running = asyncio.create_task(site.run())
    await site.wait_for_starts(2)
    os.kill(os.getpid(), number)
    assert await running == 5
    assert site.starts == 2


async def test_a_process_that_a_signal_ends_at_once_is_not_started_again(tmp_path: Path) -> None:
    """Celery installs its handlers late; the exit code is then the shells' for the signal."""
    site = Site(tmp_path / "starts", "time.sleep(60)")
    running = asyncio.create_task(site.run())
    await site.wait_for_starts(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 128 + signal.SIGTERM
    assert site.starts == 1


class Pauses(Backoff):
    """One that nobody waits for to its end."""

    def __init__(self) -> None:
        super().__init__(2 * DEADLINE_SECONDS)
        self.begun = False

    def next_pause_seconds(self) -> float:
        """Note that it begins."""
        self.begun = True
        return 2 * DEADLINE_SECONDS


async def test_a_signal_ends_a_pause(tmp_path: Path) -> None:
    """A service that is stopped while it waits ends at once."""
    pauses = Pauses()
    site = Site(tmp_path / "starts", "sys.exit(1)", pauses)
    running = asyncio.create_task(site.run())
    await asyncio.to_thread(wait_until, lambda: pauses.begun, DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert site.starts == 1


def test_afterwards_signals_mean_what_they_meant(tmp_path: Path) -> None:
    """The handlers are gone with the loop."""

    async def run() -> int:
        return await Site(tmp_path / "starts", "").run()

    assert asyncio.run(run()) == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_process_is_told_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    """Its standard input ends then, and it shuts down as by SIGTERM."""
    script = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
        from execution_logger.cli.options import stop_at_end_of_input
        stop_at_end_of_input()
        time.sleep(60)
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COUNT + textwrap.dedent(script), str(tmp_path / "starts"),
        stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == 9


async def test_a_process_that_does_not_stop_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Service managers would do so, too, and take the supervisor along."""
    script = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "a").write("x")
        time.sleep(600)
    """
    site = Site(tmp_path / "starts", script, stop_seconds=0.01)
    running = asyncio.create_task(site.run())
    await site.wait_for_starts(2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 128 + signal.SIGKILL
    assert "has not stopped after 0.01 s, and is killed" in caplog.text

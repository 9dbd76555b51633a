"""The supervisor, with small processes in the place of Celery."""

import asyncio
import logging
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from doubles import DEADLINE_SECONDS
from execution_logger.broker.backoff import Backoff
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
    """A supervised process that counts its starts, and what happened after each crash."""

    def __init__(
        self, path: Path, script: str, pause_seconds: float = 0.01, stop_seconds: float = 60
    ) -> None:
        self.crashes = 0
        self.cause_is_found = False
        self._path = path
        command = [sys.executable, "-c", COUNT + textwrap.dedent(script), str(path)]
        self.supervisor = Supervisor(
            command, self._after_crash, stop_seconds=stop_seconds, backoff=Backoff(pause_seconds)
        )

    @property
    def starts(self) -> int:
        """How often the process was started."""
        return self._path.stat().st_size if self._path.exists() else 0

    async def run(self) -> int:
        """Supervise to the end; the exit code."""
        return await asyncio.wait_for(self.supervisor.run(), DEADLINE_SECONDS)

    async def wait_for_starts(self, count: int) -> None:
        """Return when there have been that many."""
        await asyncio.to_thread(wait_until, lambda: self.starts >= count, DEADLINE_SECONDS)

    def _after_crash(self) -> bool:
        self.crashes += 1
        return self.cause_is_found


async def test_a_process_that_crashes_is_started_again(tmp_path: Path) -> None:
    """After each crash there is a look at the queue, and a normal end is the end."""
    site = Site(tmp_path / "starts", "sys.exit(0 if n == 4 else 1)")
    assert await site.run() == 0
    assert (site.starts, site.crashes) == (4, 3)


async def test_a_crash_is_one_line_that_says_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Operators tell the kernel's memory killer from an error of Celery's."""
    script = "n == 1 and sys.exit(3); n == 2 and os.kill(os.getpid(), signal.SIGKILL)"
    with caplog.at_level(logging.ERROR):
        assert await Site(tmp_path / "starts", script).run() == 0
    first, second = caplog.messages
    assert first.startswith("the worker ended with exit code 3; it starts again in ")
    assert second.startswith("the worker was killed by SIGKILL; it starts again in ")


async def test_pauses_are_short_while_causes_are_found(tmp_path: Path) -> None:
    """A queue full of malformed messages is soon empty."""
    site = Site(tmp_path / "starts", "sys.exit(0 if n == 5 else 1)", pause_seconds=60)
    site.cause_is_found = True
    site.supervisor._backoff = (backoff := Backoff(60, lambda: 0.0))
    assert await site.run() == 0
    assert site.starts == 5
    assert backoff.next_pause_seconds() == 0.5, "the second one since the last reset"


async def test_the_queue_is_looked_after_while_the_process_runs(tmp_path: Path) -> None:
    """Some messages end no worker, but keep it busy for ever; the looks end with the supervisor."""
    site = Site(tmp_path / "starts", "while not os.path.exists(sys.argv[1] + '.end'): time.sleep(0.01)")
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            Path(f"{tmp_path / 'starts'}.end").touch()

    site.supervisor._look_after, site.supervisor._look_after_seconds = look, 0.01
    assert await site.run() == 0
    assert len(looks) >= 3


async def test_a_look_that_fails_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the queue holds: the process is started again, and one failure is one line."""
    site = Site(tmp_path / "starts", "sys.exit(0 if n == 4 else 1)")

    def fail() -> None:
        raise KeyError("no such field")

    site.supervisor._after_crash = fail
    with caplog.at_level(logging.ERROR):
        assert await site.run() == 0
    assert site.starts == 4
    said = [record for record in caplog.records if "it starts again in" not in record.message]
    assert [record.message for record in said] == [
        "the queue cannot be looked after: KeyError: 'no such field'"
    ]
    assert said[0].exc_info is None


async def test_wrong_usage_is_not_repeated(tmp_path: Path) -> None:
    """An option that Celery does not know would be unknown the next time as well."""
    site = Site(tmp_path / "starts", "sys.exit(2)")
    assert await site.run() == 2
    assert (site.starts, site.crashes) == (1, 0)


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
    assert (site.starts, site.crashes) == (2, 0)


async def test_a_process_that_a_signal_ends_at_once_is_not_started_again(tmp_path: Path) -> None:
    """Celery installs its handlers late; the exit code is then the shells' for the signal."""
    site = Site(tmp_path / "starts", "time.sleep(60)")
    running = asyncio.create_task(site.run())
    await site.wait_for_starts(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 128 + signal.SIGTERM
    assert site.starts == 1


async def test_a_signal_ends_a_pause(tmp_path: Path) -> None:
    """A service that is stopped while it waits ends at once."""
    site = Site(tmp_path / "starts", "sys.exit(1)", pause_seconds=2 * DEADLINE_SECONDS)
    site.supervisor._backoff = Backoff(2 * DEADLINE_SECONDS, lambda: 1.0)
    running = asyncio.create_task(site.run())
    await site.wait_for_starts(1)
    await asyncio.to_thread(wait_until, lambda: site.crashes, DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert site.starts == 1


async def test_afterwards_signals_mean_what_they_meant(tmp_path: Path) -> None:
    """The handlers are gone with the supervisor."""
    assert await Site(tmp_path / "starts", "").run() == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_process_is_told_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    """Its standard input ends then, and it shuts down as by SIGTERM."""
    script = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
        from execution_logger.worker.supervisor import stop_at_end_of_input
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


async def test_a_stop_does_not_wait_for_a_broker_that_hangs(tmp_path: Path) -> None:
    """Neither for the look at the queue after a crash, nor for its thread."""
    is_looking, may_end = threading.Event(), threading.Event()

    def look() -> None:
        is_looking.set()
        may_end.wait(DEADLINE_SECONDS)

    supervisor = Supervisor([sys.executable, "-c", "raise SystemExit(1)"], look)
    running = asyncio.create_task(supervisor.run())
    await asyncio.to_thread(is_looking.wait, DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running, DEADLINE_SECONDS) == 0
    may_end.set()

"""Runs what a Procfile lists in this terminal, until Ctrl-C or until one of them ends.

    python run_procfile.py FILE [NAME ...]

Honcho and its like do the same, but send SIGTERM to all processes that a line has started: those of
Celery's pool would die with what they have in hand. Here the first one gets it, and ends the others in order.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

PATIENCE_SECONDS = 60.0
"""A worker finishes what it has in hand."""


def read(file: Path) -> dict[str, str]:
    """The commands by the names of their lines."""
    lines = (line.partition(":") for line in file.read_text("utf-8").splitlines())
    return {name: command.strip() for name, _, command in lines if command and not name.startswith("#")}


async def run(commands: Mapping[str, str]) -> int:
    """Start all, show what they say, and end all; 0 if that was asked for."""
    is_asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, is_asked.set)
    width = max(map(len, commands))
    processes = {
        name: await asyncio.create_subprocess_shell(
            f"exec {command}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**20,
            start_new_session=True,  # a Ctrl-C is for us alone
        )
        for name, command in commands.items()
    }
    ends = {
        asyncio.create_task(show(name.ljust(width), process)): process for name, process in processes.items()
    }
    asked = asyncio.create_task(is_asked.wait())
    await asyncio.wait([asked, *ends], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for process in ends.values():
        if process.returncode is None:
            process.terminate()
    _, late = await asyncio.wait(ends, timeout=PATIENCE_SECONDS)
    for end in late:
        os.killpg(ends[end].pid, signal.SIGKILL)
    await asyncio.gather(*ends)
    return 0 if is_asked.is_set() else 1


async def show(name: str, process: asyncio.subprocess.Process) -> None:
    """Print each line of a process behind its name, until it ends."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        print(f"{name} | {line.decode(errors='replace').rstrip()}", flush=True)
    print(f"{name} | ended, exit code {await process.wait()}", flush=True)


if __name__ == "__main__":
    listed = read(Path(sys.argv[1]))
    wanted = sys.argv[2:] or listed
    if unknown := set(wanted) - listed.keys():
        sys.exit(f"not in {sys.argv[1]}: {', '.join(sorted(unknown))}")
    sys.exit(asyncio.run(run({name: listed[name] for name in wanted})))

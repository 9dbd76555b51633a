#!/usr/bin/env python3
"""Starts, stops and watches worker, Beat and Flower on this machine, with supervisord.

    scripts/celery_manager.py start|stop|restart|status [worker] [beat] [flower] [ui]
    scripts/celery_manager.py stats             what each worker says of itself
    scripts/celery_manager.py tail -f worker    this, and all else, is supervisorctl's

Without names it is the first three, Flower where it is installed, and supervisord, which hands its settings
on: `restart` without names takes those of now. `ui`, the page of the runs, is started by its name only: every
user of this machine sees it. deploy/supervisord.conf says how they run; their logs are in
EXECUTION_LOGGER_SERVICE_DIRECTORY.
"""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from project import use_environment

use_environment()

from execution_logger import Settings  # noqa: E402 - it may need the other environment
from execution_logger.errors import ExecutionLoggerError  # noqa: E402
from execution_logger.journal.directory import check_folder, make_own_folder, service_folder  # noqa: E402
from execution_logger.worker.inspection import ask_workers  # noqa: E402

CONFIGURATION = Path(__file__).resolve().parent.parent / "deploy" / "supervisord.conf"
ALL = ["worker", "beat", *(["flower"] if find_spec("flower") else [])]


class Manager:
    """supervisord of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self.environment = {**os.environ, "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder), "PATH": path}

    def run(self, program: str, *words: str, quiet: bool = False) -> int:
        """Run supervisord or supervisorctl; its exit code. Raises OSError for a folder that is not ours."""
        if self.folder.exists():
            check_folder(self.folder)  # whoever may write there may put a socket of his own in it
        command = [sys.executable, "-P", "-m", f"supervisor.{program}", "-c", str(CONFIGURATION), *words]
        return subprocess.run(  # noqa: S603 - our own command
            command, env=self.environment, check=False, stdout=subprocess.DEVNULL if quiet else None
        ).returncode

    def control(self, *words: str, quiet: bool = False) -> int:
        """Run supervisorctl; its exit code, which is that of an LSB init script."""
        return self.run("supervisorctl", *words, quiet=quiet)

    def start(self, *names: str) -> int:
        """Start supervisord if it does not run, and the programs."""
        make_own_folder(self.folder)
        if self.control("pid", quiet=True) and (code := self.run("supervisord")):
            return code
        if code := self.control("start", *(names or ALL)):
            print(f"the logs are in {self.folder}", file=sys.stderr)  # noqa: T201
        return code

    def stop(self, *names: str) -> int:
        """Stop the programs and wait for their end; without names supervisord as well."""
        if names or self.control("pid", quiet=True):
            return self.control("stop", *names) if names else 0
        code = self.control("stop", "all") or self.control("shutdown")
        while not code and (self.folder / "supervisord.pid").exists():
            time.sleep(0.1)
        return code

    def restart(self, *names: str) -> int:
        """Stop and start."""
        return self.control("restart", *names) if names else self.stop() or self.start()

    def status(self, *names: str) -> int:
        """Show how the programs are: 0 when they run, 3 when one does not, 4 without supervisord."""
        return self.control("status", *(names or ALL))

    def stats(self) -> int:
        """Ask the workers that answer within a second, of this machine and others."""
        answers = ask_workers(Settings.from_environment(), "stats")
        for name, facts in sorted(answers):
            done = ", ".join(f"{count} {task}" for task, count in facts["total"].items()) or "nothing yet"
            print(f"{name}: process {facts['pid']}, up {facts['uptime']} s, done: {done}")  # noqa: T201
        return 0 if answers else 1


def main(action: str = "help", *words: str) -> int:
    """Do what the command line says; the exit code."""
    if action in ("help", "-h", "--help"):
        print(__doc__)  # noqa: T201
        return 0
    if find_spec("supervisor") is None:
        sys.exit(f"{sys.argv[0]}: supervisor is not installed for {sys.executable}: pip install supervisor")
    try:
        manager = Manager(service_folder(Settings.from_environment()))
        if action in ("start", "stop", "restart", "status", "stats"):
            return getattr(manager, action)(*words)
        return manager.control(action, *words)
    except (ExecutionLoggerError, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Starts, stops and shows the processes of the pipeline.

    python -m pipeline_host.celery_manager worker|beat|flower|stats [Celery's options]   in this terminal
    python -m pipeline_host.celery_manager start|stop|restart|status [names]             in the background

supervisord keeps those in the background: web, worker (PIPELINE_WORKERS of them), beat, logs; flower by its
name only. Their output is in DATA_DIRECTORY. `restart` without a name takes over the environment of now.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline_host.settings import DATA_DIRECTORY

CELERY = {
    "worker": "worker -n pipeline@%h -Q celery,processing,bulk -c 2 --without-mingle --loglevel INFO",
    "beat": "beat --schedule beat-schedule --pidfile= --loglevel INFO",
    # Flower would switch on the workers' events, which cost them nearly half of what they do.
    "flower": "flower --address 127.0.0.1 --enable_events=False",
    "stats": "inspect stats --timeout 5",
}


def supervisor(program: str, *words: str) -> int:
    """Run supervisord or supervisorctl; its exit code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    own = {"DATA_DIRECTORY": str(DATA_DIRECTORY), "PATH": path}
    environment = {"PIPELINE_WORKERS": "1", "PORT": "8000", **os.environ, **own}
    configuration = Path(__file__).with_name("supervisord.conf")
    command = [sys.executable, "-P", "-m", f"supervisor.{program}", "-c", str(configuration), *words]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - our own command


def manage(action: str, *names: str) -> int:
    """Start, stop, restart or show processes in the background; the exit code."""
    if action == "restart" and not names:
        return manage("stop") or manage("start")
    pid_file = DATA_DIRECTORY / "supervisord.pid"
    if action == "start" and not pid_file.exists() and (code := supervisor("supervisord")):
        return code
    if action == "stop" and not names:
        code = supervisor("supervisorctl", "shutdown")
        while not code and pid_file.exists():
            time.sleep(0.1)
        return code
    wanted = names or ("web", "worker", "beat", "logs")
    return supervisor("supervisorctl", action, *(f"{name}:*" for name in wanted))


if __name__ == "__main__":
    action, words = (sys.argv[1:] or [""])[0], sys.argv[2:]
    if action in CELERY:
        os.chdir(DATA_DIRECTORY)  # Celery imports from the current folder first
        celery = [sys.executable, "-m", "celery", "-A", "pipeline_host.tasks"]
        # Signals are to reach Celery itself.
        os.execv(sys.executable, [*celery, *CELERY[action].split(), *words])  # noqa: S606 - our own command
    if action in ("start", "stop", "restart", "status"):
        sys.exit(manage(action, *words))
    sys.exit(__doc__)

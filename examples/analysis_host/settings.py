"""What the environment says. The library reads the variables that it shares with the host."""

import os
import secrets
from pathlib import Path

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from execution_logger import Settings

shared = Settings.from_environment()  # CELERY_ENABLED, CELERY_BROKER_URL, DATABASE_URL, the time limits ...
BROKER_AWAY = (OperationalError, RedisError, OSError)  # what is raised while it does not answer
TIME_LIMIT = shared.task_time_limit or 600.0
SOFT_TIME_LIMIT = shared.task_soft_time_limit or TIME_LIMIT * 0.9
VISIBILITY_TIMEOUT = 2 * TIME_LIMIT  # then Redis gives a task to another worker: it must be over by then
STEP_SECONDS = float(os.environ.get("ANALYSIS_STEP_SECONDS", "0.3"))  # an answer of the model takes so long
SWEEP_SECONDS = float(os.environ.get("ANALYSIS_SWEEP_SECONDS", "60"))


class AwayError(Exception):
    """A server does not answer now, or is switched off: try again later."""


def load_token() -> str:
    """The API's bearer token: API_TOKEN, else that of an earlier start, else a new one, in a private file."""
    file = Path(os.environ.get("DATA_DIRECTORY", ""), "token")
    if not (text := os.environ.get("API_TOKEN")) and not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24), encoding="ascii")
    return text or file.read_text(encoding="ascii")

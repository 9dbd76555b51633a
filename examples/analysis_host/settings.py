"""What the environment says. The library reads the variables that it shares with the host."""

import os
import secrets
from pathlib import Path

from execution_logger import Settings

shared = Settings.from_environment()  # CELERY_ENABLED, CELERY_BROKER_URL, DATABASE_URL, the time limits ...
DATA = Path(os.environ.get("DATA_DIRECTORY", "build/analysis_host")).resolve()
RESULT_BACKEND = shared.result_backend or shared.broker_url
HAS_REDIS = shared.broker_url.startswith("redis")
TIME_LIMIT = shared.task_time_limit or 600.0
SOFT_TIME_LIMIT = shared.task_soft_time_limit or TIME_LIMIT * 0.9
VISIBILITY_TIMEOUT = 2 * TIME_LIMIT  # then Redis gives a task to another worker: it must be over by then
STEP_SECONDS = float(os.environ.get("ANALYSIS_STEP_SECONDS", "0.3"))  # an answer of the model takes so long
SWEEP_SECONDS = float(os.environ.get("ANALYSIS_SWEEP_SECONDS", "60"))


def load_token() -> str:
    """The API's bearer token: API_TOKEN, else that of an earlier start, else a new one, in a private file."""
    file = DATA / "token"
    if not (text := os.environ.get("API_TOKEN")) and not file.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(24), encoding="ascii")
    return text or file.read_text(encoding="ascii")

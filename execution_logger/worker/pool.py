"""Which of Celery's pools the command line and the settings name."""

import sys
from collections.abc import Sequence
from itertools import pairwise

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings


def named_pool(options: Sequence[str]) -> str | None:
    """The pool that options of `celery worker` name, as Celery reads them: the last one counts."""
    pool = None
    for option, following in pairwise([*options, ""]):
        if option in ("-P", "--pool"):
            pool = following
        elif option.startswith("--pool="):
            pool = option.removeprefix("--pool=")
        elif option.startswith("-P"):
            pool = option.removeprefix("-P").removeprefix("=")
    return pool


def check_pool(settings: Settings, options: Sequence[str], platform: str = sys.platform) -> None:
    """See whether this machine can run the pool.

    Raises:
        SettingsError: it is prefork, on Windows: Celery starts, takes batches and fails each one.
    """
    if platform == "win32" and (named_pool(options) or settings.worker_pool) in ("prefork", "processes"):
        where = "--pool" if named_pool(options) else "EXECUTION_LOGGER_WORKER_POOL"
        raise SettingsError(f"{where}=prefork: does not run on Windows; use threads (the default) or solo")

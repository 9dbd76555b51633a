"""Which of Celery's pools the command line and the settings name."""

import sys
from collections.abc import Sequence
from itertools import pairwise

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings

_GREEN = ("gevent", "eventlet")


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


def check_green(pool: str, where: str) -> None:
    """See whether a pool has threads.

    Args:
        pool: its name, or its module's.
        where: who has named it.

    Raises:
        SettingsError: it has greenlets: the thread that writes to the database would never run.
    """
    for name in _GREEN:
        if name in pool:
            raise SettingsError(
                f"{where}={name}: cannot store batches; use threads, prefork or solo, or let a worker of "
                "its own take this queue: execution-logger worker"
            )


def check_pool(settings: Settings, options: Sequence[str], platform: str = sys.platform) -> None:
    """See whether this machine can run the pool.

    Raises:
        SettingsError: it is one of greenlets, or prefork on Windows: Celery starts, takes batches, and
            stores none.
    """
    check_green(named_pool(options) or "", "--pool")
    if platform == "win32" and (named_pool(options) or settings.worker_pool) in ("prefork", "processes"):
        where = "--pool" if named_pool(options) else "EXECUTION_LOGGER_WORKER_POOL"
        raise SettingsError(f"{where}=prefork: does not run on Windows; use threads (the default) or solo")

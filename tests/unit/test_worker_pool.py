"""Pools: what the command line names, and what Windows cannot run."""

import pytest

from execution_logger import Settings, SettingsError
from execution_logger.worker.tasks import check_pool, named_pool


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], None),
        (["-n", "a@%h"], None),
        (["-P", "solo"], "solo"),
        (["-Psolo"], "solo"),
        (["--pool", "solo"], "solo"),
        (["--pool=solo"], "solo"),
        (["--pool", "prefork", "-P", "threads"], "threads"),
        (["-P"], ""),
    ],
)
def test_the_last_pool_that_is_named_counts(options: list[str], expected: str | None) -> None:
    """As for Celery."""
    assert named_pool(options) == expected


@pytest.mark.parametrize(
    ("pool", "options", "named"),
    [
        ("prefork", [], "EXECUTION_LOGGER_WORKER_POOL=prefork"),
        ("threads", ["-P", "prefork"], "--pool=prefork"),
        ("threads", ["--pool=processes"], "--pool=prefork"),
    ],
)
def test_prefork_is_refused_on_windows(pool: str, options: list[str], named: str) -> None:
    """There it takes batches and fails each one; elsewhere it is welcome."""
    settings = Settings(worker_pool=pool)  # type: ignore[arg-type] # the parameters are names of pools
    with pytest.raises(SettingsError, match=f"^{named}: does not run on Windows; use threads"):
        check_pool(settings, options, "win32")
    check_pool(settings, options, "linux")


@pytest.mark.parametrize("options", [["-P", "gevent"], ["--pool=eventlet"], ["-Pgevent"]])
def test_pools_of_greenlets_are_refused(options: list[str]) -> None:
    """There batches are taken, and the thread that writes them never runs."""
    name = "eventlet" if "eventlet" in options[0] else "gevent"
    with pytest.raises(SettingsError, match=f"^--pool={name}: cannot store batches; use threads, prefork"):
        check_pool(Settings(), options)


@pytest.mark.parametrize(("pool", "options"), [("threads", []), ("solo", []), ("prefork", ["-P", "threads"])])
def test_other_pools_run_on_windows(pool: str, options: list[str]) -> None:
    """The default is one of them; the command line wins."""
    check_pool(Settings(worker_pool=pool), options, "win32")  # type: ignore[arg-type] # as above

"""The report of the week, for the host's hook or the worker's log."""

import asyncio
import importlib
import threading
from collections.abc import Callable

from execution_logger.diagnostics import logger
from execution_logger.store.faults import attempt
from execution_logger.worker.jobs.job import JobError, Slice
from execution_logger.worker.jobs.week import WeeklyReport, make_report

_HOOK_SECONDS = 15.0
_LOG = "the log"


async def send_report(piece: Slice) -> bool:
    """Sum up the last seven days, and hand that to `report_hook`, or log it.

    Raises:
        StoreUnavailableError: the database cannot be used now.
        JobError: the hook cannot be imported, has raised, or did not return in time.
    """
    settings = piece.settings
    async with attempt(piece.engine, settings.database_timeout_seconds), piece.engine.connect() as connection:
        report = await make_report(connection, settings, piece.started_at)
    piece.summary |= {name: report.data[name] for name in ("since", "until", "runs", "entries", "errors")}
    if settings.report_hook is None:
        for line in report.text.split("\n"):
            logger.info("%s", line)
    else:
        await _call(settings.report_hook, report)
    piece.summary["handed_to"] = settings.report_hook or _LOG
    return True


async def _call(name: str, report: WeeklyReport) -> None:
    """Call the hook in a thread of its own: one that hangs keeps that thread, and nothing else."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def tell(problem: str | None) -> None:
        if not answer.done():  # nobody waits any more
            answer.set_result(problem)

    def run() -> None:
        problem = None
        try:
            _find(name)(report)
        except BaseException as error:  # noqa: BLE001 - a SystemExit is the hook's failure as well
            problem = f"{type(error).__name__}: {error}"
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, problem)

    threading.Thread(target=run, name="execution-logger-report", daemon=True).start()
    try:
        async with asyncio.timeout(_HOOK_SECONDS):
            problem = await answer
    except TimeoutError:
        problem = f"it did not return within {_HOOK_SECONDS:g} s"
    if problem is not None:
        raise JobError(f"EXECUTION_LOGGER_REPORT_HOOK={name}: {problem}")


def _find(name: str) -> Callable[[WeeklyReport], object]:
    module, _, function = name.partition(":")
    hook: Callable[[WeeklyReport], object] = getattr(importlib.import_module(module), function)
    return hook

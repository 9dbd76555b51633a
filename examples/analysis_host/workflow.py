"""The brain: it decides which runner is next, tries again, tells how far it is, and handles errors."""

import asyncio
from collections.abc import Callable

from analysis_host.runners import RUNNERS, BusyError, Case, Model, Result, next_runner
from analysis_host.settings import SOFT_TIME_LIMIT
from analysis_host.store import BACKGROUND, OPEN, DatabaseAwayError, Json, Session, Store
from execution_logger import LogCategory, execution_logger

TRIES = 3
MAX_ATTEMPTS = 8  # of a session: what ends its process each time is given up
Report = Callable[[Json], None]


class SupersededError(Exception):
    """Another attempt has taken the session over, or it has ended."""


class Brain:
    """One attempt at an analysis; a later one ends it."""

    def __init__(self, store: Store, session: Json, report: Report) -> None:
        self._store, self._report, self._step = store, report, ""
        self._id, self._attempt = session["session_id"], session["attempt"]
        self._request, self._results = session["request"], dict(session["results"])

    async def work(self) -> None:
        """Let one runner after another do its part, from where an earlier attempt has come to."""
        kept = await self._store.kept("document", *self._request["document_ids"])
        documents = {key: value["text"] for key, value in kept.items()}
        model = Model(self._request["user_input"])
        case = Case(self._id, self._request, documents, self._results, model, self._tell)
        while name := next_runner(self._results):
            self._step = name
            await self._tell(0, "begins")
            self._results[name] = await self._try(case)
            await self._change(results=self._results)
        await self._change(progress={"percent": 100, "step": "brain", "message": "done"})
        await self._store.end(self._id, "completed")

    async def _try(self, case: Case, number: int = 1) -> Result:
        log, name = execution_logger, self._step
        try:
            async with log.timed_operation(self._id, LogCategory.AGENT, name, agent_name=name) as timer:
                result = await RUNNERS[name](case)
                timer.set_details(result)
        except BusyError as error:
            if number == TRIES:
                raise
            message = f"{name}: {error}, try {number + 1} of {TRIES}"
            await log.log_retry_start(self._id, message)
            await self._tell(0, message)
            await asyncio.sleep(0.1 * 2**number)
            return await self._try(case, number + 1)
        if number > 1:
            await log.log_retry_complete(self._id, f"{name}: answered at try {number}")
        return result

    async def _tell(self, share: float, message: str) -> None:
        percent = min(99, round(100 * (len(self._results) + share) / len(RUNNERS)))
        progress = {"percent": percent, "step": self._step, "message": message}
        await self._change(progress=progress)
        await self._store.tell(self._id, "progress", **progress)
        self._report(progress)

    async def _change(self, **values: Json) -> None:
        mine = (Session.attempt == self._attempt, Session.status == "running")
        if not await self._store.change(self._id, *mine, **values):
            raise SupersededError("The session has ended or runs elsewhere")


async def analyse(store: Store, session_id: str, task_system: str, report: Report) -> Exception | None:
    """Carry out what is left of an analysis; what it has failed with, of which everybody was told.

    Raises:
        DatabaseAwayError: worth another attempt.
    """
    # Celery's workers have a limit of their own.
    seconds = SOFT_TIME_LIMIT if task_system == BACKGROUND else None
    try:
        async with execution_logger.run(session_id, "litigation-analysis"), asyncio.timeout(seconds):
            await Brain(store, await claim(store, session_id, task_system), report).work()
    except SupersededError as error:
        await execution_logger.warning(session_id, LogCategory.WORKFLOW, str(error))
    except DatabaseAwayError:
        raise
    except Exception as error:  # noqa: BLE001 - everybody is told of it
        await fail(store, session_id, error)
        return error
    return None


async def claim(store: Store, session_id: str, task_system: str) -> Json:
    """Begin a new attempt, which ends every other one."""
    mine = (Session.status.in_(OPEN), Session.task_system == task_system)
    if not await store.change(session_id, *mine, status="running", attempt=Session.attempt + 1):
        raise SupersededError("Nothing is to be done: the session has ended or runs elsewhere")
    session = await store.session(session_id) or {}
    if session["attempt"] > MAX_ATTEMPTS:
        raise RuntimeError(f"{MAX_ATTEMPTS} attempts have ended with their process")
    return session


async def fail(store: Store, session_id: str, error: BaseException) -> None:
    """Handle an error: end the session, unless it has ended already, and tell everybody."""
    is_limit = "TimeLimit" in type(error).__name__ or isinstance(error, TimeoutError)
    text = "The time limit is over" if is_limit else str(error) or type(error).__name__
    if await store.end(session_id, "failed", text):
        message = f"The analysis has failed: {text}"
        await execution_logger.log_agent_error(session_id, "brain", message, repr(error))
        await notify(store, session_id)


async def notify(store: Store, session_id: str) -> None:
    """Leave a notification that an analysis has ended; a mail or a chat would be sent here."""
    session = await store.session(session_id) or {}
    text = f"{session['request']['package_id']}: the analysis has {session['status']}"
    await store.tell(session_id, "notification", text=text)
    await execution_logger.log_tool_call(session_id, "brain", "notifications", text)

"""The brain: it lets one runner after another do its part, and handles errors."""

import asyncio
from contextlib import suppress

from analysis_host import store
from analysis_host.runners import RUNNERS, Case, next_runner
from analysis_host.settings import SOFT_TIME_LIMIT, AwayError
from analysis_host.store import BACKGROUND, OPEN, Document, Session, SupersededError
from execution_logger import LogCategory, execution_logger

MAX_ATTEMPTS = 8  # of a session: what ends its process each time is given up
running: set[asyncio.Task[None]] = set()  # the analyses in this process


async def analyse(session_id: str, task_system: str) -> Exception | None:
    """Carry out what is left of an analysis; what it has failed with. AwayError is worth another attempt."""
    seconds = SOFT_TIME_LIMIT if task_system == BACKGROUND else None  # Celery's workers have their own
    try:
        async with execution_logger.run(session_id, "litigation-analysis"), asyncio.timeout(seconds):
            await work(session_id, task_system)
    except SupersededError as error:
        await execution_logger.warning(session_id, LogCategory.WORKFLOW, str(error))
    except AwayError:
        raise
    except Exception as error:  # noqa: BLE001 - everybody is told of it
        await fail(session_id, error)
        return error
    return None


async def work(session_id: str, task_system: str) -> None:
    """Begin a new attempt, which ends every other one, and go on from where they have come to."""
    mine = (Session.status.in_(OPEN), Session.task_system == task_system)
    session = await store.change(session_id, *mine, status="running", attempt=Session.attempt + 1)
    if session["attempt"] > MAX_ATTEMPTS:
        raise RuntimeError(f"{MAX_ATTEMPTS} attempts have ended with their process")
    documents = await store.rows(Document, Document.document_id.in_(session["request"]["document_ids"]))
    case = Case(session, {each["document_id"]: each["text"] for each in documents})
    while name := next_runner(case.results):
        case.step = name
        await case.tell(0, "begins")
        async with execution_logger.timed_operation(None, LogCategory.AGENT, name, agent_name=name) as timer:
            case.results[name] = await RUNNERS[name](case)
            timer.set_details(case.results[name])
    done = {"percent": 100, "step": "brain", "message": "done"}
    await store.end(session_id, "completed", *case.is_mine, progress=done, results=case.results)


async def fail(session_id: str, error: BaseException) -> None:
    """Handle an error: end the session, unless it has ended already, and tell everybody."""
    is_limit = "TimeLimit" in type(error).__name__ or isinstance(error, TimeoutError)
    text = "The time limit is over" if is_limit else str(error) or type(error).__name__
    with suppress(SupersededError):
        await store.end(session_id, "failed", error=text)
        said = f"The analysis has failed: {text}"
        await execution_logger.log_agent_error(session_id, "brain", said, repr(error))
        await notify(session_id)


async def notify(session_id: str) -> None:
    """Leave a notification that an analysis has ended; a mail or a chat would be sent here."""
    [session] = await store.rows(Session, Session.session_id == session_id)
    text = f"{session['request']['package_id']}: the analysis has {session['status']}"
    await store.tell(session_id, "notification", text=text)
    await execution_logger.log_tool_call(session_id, "brain", "notifications", text)


def begin(session_id: str) -> None:
    """Carry out an analysis in this process."""
    task = asyncio.create_task(_run(session_id))
    running.add(task)
    task.add_done_callback(running.discard)


async def _run(session_id: str) -> None:
    while True:
        with suppress(AwayError):
            if await analyse(session_id, BACKGROUND) is None:
                await notify(session_id)
            return
        await asyncio.sleep(3)

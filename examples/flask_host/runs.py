"""The life of a run. Its row says what is true; messages and signals only hurry it up.

    queued -> running <-> retrying -> passed, failed, error; each of the first three -> stopping -> stopped

Whoever takes a run up gets the next number of attempt, and writes only as long as that is the last one: a
worker that was thought dead cannot disturb the one that has taken over.
"""

import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import case, delete, func, update
from sqlalchemy.exc import IntegrityError

from flask_host.database import IS_ACTIVE, Plan, Run, session
from flask_host.settings import LOST_SECONDS, RUN_SECONDS

MAX_ATTEMPTS = 8  # retries included: a run that has ended so many workers is given to no other one
_STOPPED_OR_ERROR = case((Run.status == "stopping", "stopped"), else_="error")


class StoppedError(CancelledError):
    """Somebody has stopped the run, or another worker has taken it up."""


@dataclass(frozen=True)
class Attempt:
    """What a worker has in hand; the run's `result` is what attempts before it have left."""

    run: Run
    definition: dict[str, Any]
    deadline: float

    def report(self, **result: Any) -> None:
        """Say how far it is, between two requests: StoppedError, or TimeoutError, when it is to end."""
        if self._update(heard_at=time.time(), **({"result": result} if result else {})) != "running":
            raise StoppedError
        # Celery's own limits work in the pool prefork only.
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"the run took longer than {RUN_SECONDS} s")

    def end(self, status: str, **result: Any) -> None:
        """End the run."""
        self._update(**_ending(status), **({"result": result} if result else {}))

    def _update(self, **values: Any) -> str | None:
        mine = Run.id == self.run.id, Run.attempt == self.run.attempt, IS_ACTIVE
        with session.begin() as db:
            return db.scalar(update(Run).where(*mine).values(values).returning(Run.status))


def create(plan_id: int, priority: int) -> Run | None:
    """A new run, queued; None if the plan has one that is not over."""
    run = Run(id=str(uuid4()), plan_id=plan_id, status="queued", priority=priority)
    try:
        with session.begin() as db:
            db.add(run)
    except IntegrityError:
        return None
    return run


def claim(run_id: str, *, is_terminable: bool) -> Attempt | None:
    """Take a run up, or up again after its worker was lost; None if it is over."""
    is_late, is_stopping = Run.attempt >= MAX_ATTEMPTS, Run.status == "stopping"
    over = _ending(_STOPPED_OR_ERROR, case((~is_stopping, f"given up after {MAX_ATTEMPTS} attempts")))
    now = time.time()
    values = {"attempt": Run.attempt + 1, "is_terminable": is_terminable, "heard_at": now}
    mine = update(Run).where(Run.id == run_id, IS_ACTIVE)
    with session.begin() as db:
        db.execute(mine.where(is_late | is_stopping).values(over))
        started_at = func.coalesce(Run.started_at, now)
        run = db.scalar(mine.values(status="running", started_at=started_at, **values).returning(Run))
        if run is None:
            return None
        return Attempt(run, db.get_one(Plan, run.plan_id).definition, time.monotonic() + RUN_SECONDS)


def note_failure(run_id: str, error: str, *, is_final: bool) -> None:
    """An attempt has failed: the run is over, or to be tried again unless somebody has stopped it."""
    retrying = {"status": case((Run.status == "stopping", "stopping"), else_="retrying"), "error": error}
    values = _ending(_STOPPED_OR_ERROR, error) if is_final else retrying | {"heard_at": time.time()}
    with session.begin() as db:
        db.execute(update(Run).where(Run.id == run_id, IS_ACTIVE).values(values))


def request_stop(plan_id: int) -> Run | None:
    """Stop the active run: at once if no worker has it in hand. None if there is none."""
    in_hand = Run.status.in_(("running", "stopping"))
    status, finished_at = case((in_hand, "stopping"), else_="stopped"), case((~in_hand, time.time()))
    active = update(Run).where(Run.plan_id == plan_id, IS_ACTIVE)
    with session.begin() as db:
        return db.scalar(active.values(status=status, error=None, finished_at=finished_at).returning(Run))


def end_if_lost(plan_id: int) -> None:
    """End a run whose worker is gone, and with it the message: a broker in a folder does not redeliver."""
    is_lost = Run.heard_at < time.time() - LOST_SECONDS, Run.status != "queued", IS_ACTIVE
    lost = update(Run).where(Run.plan_id == plan_id, *is_lost)
    with session.begin() as db:
        db.execute(lost.values(_ending(_STOPPED_OR_ERROR, "its worker is gone")))


def delete_old(days: int) -> int:
    """Delete the runs that ended so long ago; how many."""
    old = delete(Run).where(Run.finished_at < time.time() - days * 86_400)
    with session.begin() as db:
        return len(db.scalars(old.returning(Run.id)).all())


def _ending(status: Any, error: Any = None) -> dict[str, Any]:
    return {"status": status, "error": error, "finished_at": time.time()}

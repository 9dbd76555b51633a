"""The two kinds of tests over HTTP."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, request
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import select

from execution_logger import LogCategory, execution_logger
from flask_host import runs, tasks
from flask_host.database import Plan, Run, session
from flask_host.schemas import Scenario, Schema, Script, Start

Answer = tuple[dict[str, Any], int]
log = execution_logger.sync
api = Blueprint("api", __name__, url_prefix="/api/v1")


@dataclass(frozen=True)
class Kind:
    """A kind of tests."""

    name: str
    schema: type[Schema]
    task: Any

    def add_routes(self, path: str) -> None:
        """Serve it below a path."""
        api.add_url_rule(path, f"create {self.name}", self.create, methods=["POST"])
        path += "/<int(max=2147483647):plan_id>"
        api.add_url_rule(f"{path}/run", f"start {self.name}", self.start, methods=["POST"])
        api.add_url_rule(f"{path}/status", f"status {self.name}", self.status)
        api.add_url_rule(f"{path}/stop", f"stop {self.name}", self.stop, methods=["POST"])

    def create(self) -> Answer:
        """Keep a new script or scenario."""
        definition = self.schema.model_validate(request.get_json()).model_dump()
        plan = Plan(kind=self.name, definition=definition)
        with session.begin() as db:
            db.add(plan)
        return {"id": plan.id, **definition}, 201

    def start(self, plan_id: int) -> Answer:
        """Run it, in a worker; one run at a time."""
        plan = self._find(plan_id)
        priority = Start.model_validate(request.get_json() if request.content_length else {}).priority
        if (run := runs.create(plan_id, priority)) is None:
            told, _ = self.status(plan_id)
            log.warning(told["run_id"], LogCategory.API, "a second start was refused")
            return {**told, "error": f"{self.name} {plan_id} is active already"}, 409
        try:
            # What the worker records is within this operation: one run, one tree.
            with log.timed_operation(run.id, LogCategory.API, f"start {plan.definition['name']}"):
                # AMQP serves the highest priority first, as this API does; Redis the lowest.
                order = tasks.HIGHEST_PRIORITY - priority
                self.task.apply_async(kwargs={"run_id": run.id}, task_id=run.id, priority=order, retry=False)
        except BrokerError as error:
            runs.note_failure(run.id, f"not sent: {error}", is_final=True)
            return {"error": "the broker is away: the run was not started", "run_id": run.id}, 503
        return {"run_id": run.id, "status": run.status, "priority": priority}, 202

    def status(self, plan_id: int) -> Answer:
        """How the last run goes, or went."""
        self._find(plan_id)
        with session() as db:
            runs_of_plan = select(Run).where(Run.plan_id == plan_id)
            run = db.scalar(runs_of_plan.order_by(Run.created_at.desc()).limit(1))
        return {"id": plan_id, **(_shown(run) if run else {"run_id": None, "status": "never run"})}, 200

    def stop(self, plan_id: int) -> Answer:
        """Stop the run: at once if no worker has it, else as soon as the worker has noticed."""
        self._find(plan_id)
        if (run := runs.request_stop(plan_id)) is None:
            return {"error": f"{self.name} {plan_id} does not run"}, 409
        log.warning(run.id, LogCategory.API, "stop asked for")
        if run.status == "stopping" and run.is_terminable:
            with suppress(BrokerError):  # the task sees its row, too, if somewhat later
                # The signal of the soft time limit raises in the task, and leaves its process alone.
                tasks.app.control.revoke(run.id, terminate=True, signal="SIGUSR1")
        return {"run_id": run.id, "status": run.status}, 202

    def _find(self, plan_id: int) -> Plan:
        with session() as db:
            plan = db.scalar(select(Plan).where(Plan.id == plan_id, Plan.kind == self.name))
        if plan is None:
            abort(404, f"there is no {self.name} {plan_id}")
        runs.end_if_lost(plan_id)
        return plan


def _shown(run: Run) -> dict[str, Any]:
    names = ("status", "priority", "attempt", "result", "error")
    times = {name: getattr(run, name) for name in ("created_at", "started_at", "finished_at")}
    told = {name: at and datetime.fromtimestamp(at, UTC).isoformat() for name, at in times.items()}
    return {"run_id": run.id, **{name: getattr(run, name) for name in names}, **told}


Kind("web-test", Script, tasks.run_web_test).add_routes("/web-test/scripts")
Kind("perf-test", Scenario, tasks.run_perf_test).add_routes("/perf-test/scenarios")

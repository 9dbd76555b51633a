"""A FastAPI host: it runs workflows, logs their steps, reads a run back, and shows Prometheus its metrics.

CELERY_BROKER_URL=redis://localhost:6379/0 DATABASE_URL=postgresql://... uvicorn examples.fastapi_app:app
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from prometheus_client import make_asgi_app
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from execution_logger import LogCategory, Settings, execution_logger
from execution_logger.integrations.prometheus import instrument
from execution_logger.store import ExecutionLogRepository, create_engine


class Step(BaseModel, from_attributes=True):
    """One entry of a run."""

    level: str
    category: str
    message: str
    step: str | None
    agent_name: str | None
    details: dict[str, Any] | None
    duration_ms: int | None
    created_at: datetime


class Run(BaseModel):
    """A run as its log tells it, newest entry first."""

    summary: dict[str, Any]
    steps: list[Step]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the host's own engine; a host that has none passes `lifespan=execution_logger.lifespan`."""
    app.state.engine = create_engine(Settings.from_environment(), pool_size=2)
    async with execution_logger.lifespan(app):
        yield
    await app.state.engine.dispose()


instrument()

app = FastAPI(title="A host of execution_logger", lifespan=lifespan)
app.mount("/metrics", make_asgi_app())


async def open_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Open a session on the host's engine for one request."""
    async with AsyncSession(request.app.state.engine) as session:
        yield session


async def run_workflow(task_id: str, topic: str) -> None:
    """Do two steps of work; each logging call takes microseconds and waits for nothing."""
    await execution_logger.log_workflow_start(
        task_id=task_id, step="outline", message=f"Planning {topic}", details={"topic": topic}
    )
    async with execution_logger.timed_operation(
        task_id=task_id, category=LogCategory.AGENT, operation_name="outline", agent_name="planner"
    ) as timer:
        await asyncio.sleep(0.05)
        timer.set_details({"chapters": 3})
    await execution_logger.log_tool_call(
        task_id=task_id, agent_name="planner", tool_name="search", message="3 sources", duration_ms=40
    )
    await execution_logger.log_workflow_complete(task_id=task_id, step="outline", message="Planned")


@app.get("/health")
async def health() -> dict[str, Any]:
    """Say where this process's entries are."""
    return execution_logger.stats()


@app.post("/runs", status_code=202)
async def start_run(topic: str, background: BackgroundTasks) -> dict[str, str]:
    """Start a workflow, and return its id before it is done."""
    task_id = str(uuid.uuid4())
    background.add_task(run_workflow, task_id, topic)
    return {"task_id": task_id}


@app.get("/runs/{task_id}")
async def read_run(task_id: str, session: Annotated[AsyncSession, Depends(open_session)]) -> Run:
    """Read back what the worker has written of a run so far."""
    repository = ExecutionLogRepository(session)
    steps = [Step.model_validate(row) for row in await repository.list_by_trace(task_id)]
    return Run(summary=await repository.get_logs_summary(task_id), steps=steps)

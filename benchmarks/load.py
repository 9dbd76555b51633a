"""What hosts do: workflows at the same time, each of which logs step by step."""

import asyncio
import time
from typing import Any, Protocol


class Logger(Protocol):
    """Ours, and the one that hosts write for themselves."""

    async def log_agent_complete(
        self,
        task_id: str,
        agent_name: str,
        message: str,
        duration_ms: int | None = None,
        *,
        details: dict[str, Any] | None = None,
    ) -> object:
        """Record an entry."""

    async def flush(self) -> object:
        """Hand over what was recorded."""


async def log(logger: Logger, run: str, step: int) -> Any:
    """One call as hosts make them, some 400 bytes of JSON; the entry, if the logger returns one."""
    details = {"model": "large", "tokens": step, "prompt": "Summarise what the search has found about it"}
    message = f"step {step} finished, 3 documents read"
    return await logger.log_agent_complete(f"run-{run}", "intent_analysis", message, 1500, details=details)


async def log_flat_out(logger: Logger, entries: int, workflows: int = 100, name: str = "") -> None:
    """Log so many entries, as fast as the workflows get their turns."""

    async def workflow(number: int) -> None:
        for step in range(number, entries, workflows):
            await log(logger, f"{name}{number}", step)
            await asyncio.sleep(0)

    await asyncio.gather(*(workflow(number) for number in range(workflows)))


async def log_at_rate(
    logger: Logger | None, seconds: float, entries_per_second: float, workflows: int = 100
) -> int:
    """Log evenly for some time, or wait the same way without logging; return the number of entries."""
    pause = workflows / entries_per_second
    began = time.perf_counter()
    steps = int(seconds / pause)

    async def workflow(number: int) -> None:
        for step in range(steps):
            due_at = began + (step + number / workflows) * pause
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            if logger is not None:
                await log(logger, str(number), step)

    await asyncio.gather(*(workflow(number) for number in range(workflows)))
    return steps * workflows if logger is not None else 0

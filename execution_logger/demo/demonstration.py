"""The demonstration from its first call to the last row."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from execution_logger.broker.depth import queue_length
from execution_logger.demo.connections import HostConnections, worker_connections
from execution_logger.demo.meter import MeteredLogger
from execution_logger.demo.pipeline import DocumentPipeline
from execution_logger.demo.progress import Progress
from execution_logger.demo.reader import StoredEntries
from execution_logger.demo.summary import Summary
from execution_logger.demo.worker import WorkerProcess
from execution_logger.entry.entry import LogCategory
from execution_logger.settings import Settings

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30.0
_CLOSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Shares:
    """The files of each run, by its `task_id`."""

    folder: Path
    paths: dict[str, list[Path]]

    @classmethod
    def make(cls, folder: Path, paths: Sequence[Path], runs: int, prefix: str) -> "Shares":
        """Divide the files among `runs` runs, or as many as there are files."""
        runs = min(runs, len(paths))
        bounds = [len(paths) * number // runs for number in range(runs + 1)]
        shares = (list(paths[begin:end]) for begin, end in pairwise(bounds))
        return cls(folder, {f"{prefix}-{number}": share for number, share in enumerate(shares, start=1)})


class Demonstration:
    """A host that runs the pipeline, a worker that writes, and an observer that counts the rows.

    Args:
        settings: of host and observer; the worker has the same in its environment.
        shares: which run does what.
        output: the folder for the pipeline's indexes.
        task_id: of the host's own first entry.
    """

    def __init__(self, settings: Settings, shares: Shares, output: Path, task_id: str) -> None:
        self.logger = MeteredLogger(settings)
        self.stored = StoredEntries(settings, [task_id, *shares.paths])
        self._settings = settings
        self._shares = shares
        self._task_id = task_id
        self._pipeline = DocumentPipeline(self.logger, shares.folder, output)
        self._connections = HostConnections(self.stored.engine)
        self._worker_connections: int | None = None

    async def run(self, worker: WorkerProcess, progress: Progress) -> Summary:
        """Run the pipeline and wait until its entries are stored, or until nothing arrives any more.

        Raises:
            ExecutionLoggerError: the worker ended, or the broker or the database went away.
        """
        # The start imports what a journal needs, and the first delivery Celery: hosts have both behind
        # them when their lifespan has begun. Here it would make the first calls look slow.
        self.logger.stats()
        await self.logger.info(self._task_id, LogCategory.WORKFLOW, "The demonstration begins")
        await self.logger.flush()
        watching = asyncio.create_task(self._watch(worker, progress))
        try:
            runs_seconds = await self._run_pipeline()
            await self.logger.flush()
            await watching
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        return Summary(
            runs=len(self._shares.paths),
            files=sum(map(len, self._shares.paths.values())),
            runs_seconds=runs_seconds,
            recorded_ids=self.logger.ids,
            stored_ids=await self.stored.ids(),
            call_cost=self.logger.describe(),
            call_seconds=sum(self.logger.nanoseconds) / 1e9,
            batches=self.logger.stats()["batches"],
            host_connections=self._connections.count,
            worker_connections=self._worker_connections,
            worker_pool=self._settings.worker_concurrency,
        )

    async def close(self, *, delete_rows: bool) -> None:
        """Deliver what is left, and close the connections; with `delete_rows` leave no row behind."""
        await self.logger.shutdown(_CLOSE_SECONDS)
        self._connections.close()
        try:
            if delete_rows:
                await self.stored.delete()
        finally:
            await self.stored.close()

    async def _run_pipeline(self) -> float:
        """Return how long it took in seconds."""
        began_at = time.perf_counter()
        await asyncio.gather(*(self._pipeline.run(*run) for run in self._shares.paths.items()))
        return time.perf_counter() - began_at

    async def _watch(self, worker: WorkerProcess, progress: Progress) -> None:
        """Show the progress until all is stored, or no row has come for half a minute."""
        progress.update(runs_total=len(self._shares.paths))
        changed_at = time.monotonic()
        while time.monotonic() - changed_at < _PATIENCE_SECONDS:
            worker.check()
            before = progress.counts
            await self._look(worker, progress)
            counts = progress.counts
            if counts.runs == counts.runs_total and counts.stored >= self.logger.calls:
                return
            if counts != before:
                changed_at = time.monotonic()
            await asyncio.sleep(_POLL_SECONDS)

    async def _look(self, worker: WorkerProcess, progress: Progress) -> None:
        length = await asyncio.to_thread(queue_length, self._settings)
        connections = await worker_connections(self.stored.engine, worker.pid)
        if connections is not None:
            self._worker_connections = max(connections, self._worker_connections or 0)
        progress.update(
            runs=self._pipeline.runs_completed,
            calls=self.logger.calls,
            delivered=self.logger.stats()["delivered"],
            in_queue=length.waiting,
            stored=await self.stored.count(),
        )

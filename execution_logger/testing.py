"""For the tests of hosts: what was logged, in a list.

`capture_entries` is for tests that look at the entries. `MemoryDelivery` is for those that want the
whole way, with batches, failures and flush: `ExecutionLogger(make_delivery=lambda: delivery)`.
`assert_operations` expects the operations of a run; pytest has the entries as the fixture `captured_entries`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from execution_logger.api.logger import ExecutionLogger, execution_logger
from execution_logger.delivery.interface import Guarantee, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.entry.entry import LogEntry
from execution_logger.read.tree import Node, tree_of
from execution_logger.settings import NOTHING, Settings
from execution_logger.shipping.flush import Flush
from execution_logger.shipping.pipeline import Pipeline

__all__ = ["MemoryDelivery", "assert_operations", "capture_entries", "operations_of"]


@contextmanager
def capture_entries(logger: ExecutionLogger = execution_logger) -> Iterator[list[LogEntry]]:
    """Keep what is recorded within the block in a list, which each call fills, and deliver none of it.

    That is what comes by way of `logger`, of loggers bound to fields of it and of `logger.sync`, in
    any thread and task. What was recorded before is delivered as ever. The idea is that of
    structlog's `capture_logs`.

    Examples:
        >>> with capture_entries() as entries:
        ...     await run_workflow()
        >>> assert [entry.level for entry in entries] == ["info", "error"]

    Args:
        logger: whose entries; the ready `execution_logger` by default.

    Raises:
        SettingsError: a variable is wrong, as at any first call.
    """
    host = logger._host  # noqa: SLF001 - it is one of us
    used = host.pipeline
    capture = _Capture(used.settings if used else host.settings or Settings.from_environment(uses=NOTHING))
    host.replace(capture)
    try:
        yield capture.entries
    finally:
        host.replace(used)


def operations_of(entries: Iterable[LogEntry], task_id: str) -> list[str]:
    """The operations of a run by their names: each before those within it, which are indented by two spaces.

    Operations that are within the same one are in the order of their beginnings.

    Examples:
        >>> operations_of(entries, "task-1")
        ['report', '  research', '    search', '    search', '  write']
    """
    return [_indented(node.name, depth) for depth, node in _nodes(entries, task_id)]


def assert_operations(entries: Iterable[LogEntry], task_id: str, expected: Sequence[str]) -> None:
    """Expect these operations of a run, and no others, as `operations_of` returns them.

    Raises:
        AssertionError: they are others; it shows those that there are, and how each went.
    """
    entries = list(entries)
    if operations_of(entries, task_id) == list(expected):
        return
    found = [_indented(f"{node.name}: {node.state}", depth) for depth, node in _nodes(entries, task_id)]
    others = sorted({entry.task_id for entry in entries} - {task_id})
    raise AssertionError(
        f"run {task_id!r} has other operations than expected\n"
        f"expected:{_listed(expected)}\nfound:{_listed(found)}"
        + (f"\nother runs: {', '.join(others)}" if others else "")
    )


def _nodes(entries: Iterable[LogEntry], task_id: str) -> Iterator[tuple[int, Node]]:
    """Each with the number of those that it is within."""
    tree, depths = tree_of(entry for entry in entries if entry.task_id == task_id), dict[str, int]()
    for node in tree.nodes():
        depths[node.operation_id] = depths.get(node.parent_id or "", -1) + 1
        yield depths[node.operation_id], node


def _indented(text: str, depth: int) -> str:
    return f"{'  ' * depth}{text}"


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"\n  {line}" for line in lines) or " none"


class _Capture(Pipeline):
    """Ends where entries have been made."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, MemoryDelivery)
        self.entries: list[LogEntry] = []
        make_entry = self.make_entry

        def keep_entry(*fields: Any) -> tuple[LogEntry, bytes]:
            entry, encoded = make_entry(*fields)
            self.entries.append(entry)
            return entry, encoded

        vars(self).update(make_entry=keep_entry, accept=lambda _: True, fill_in=lambda *_: None)

    def begin(self) -> Flush:
        """Nothing is delivered: a host that gets ready within the block needs no thread."""
        return self.flush(0.0)

    def in_this_process(self) -> Pipeline:
        """Itself: what a forked child records ends in its copy of the list."""
        return self


class MemoryDelivery:
    """Keeps every batch it is given; `failures` makes the next attempts raise."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.failures: list[Exception] = []

    def deliver(self, batch: Batch) -> Receipt:
        """Keep the batch, or raise the next of `failures`."""
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append(batch)
        return Receipt(Guarantee.STORED)

    def close(self) -> None:
        """Nothing to release."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every delivered entry, decoded, in the order of delivery."""
        return [entry for batch in self.batches for entry in msgspec.json.decode(batch.to_json())]

"""Asking: several parts at the same time, and none of them for long."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from execution_logger.diagnostics import logger, untraced
from execution_logger.errors import ExecutionLoggerError

Facts = dict[str, Any]
Read = Callable[[Facts], None]
"""Puts what a part says into the facts, one by one; raises `ExecutionLoggerError` where it says nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part says, and why it does not say more."""

    facts: Facts
    error: str | None = None


class Asking:
    """Asks parts again and again, each in a thread of its own.

    A part that hangs delays no other, and is not asked once more before it has answered. The threads
    do not keep the process from ending.

    Args:
        reads: how to ask each part, by its name.
        answer_seconds: how long all answers are waited for.
    """

    def __init__(self, reads: Mapping[str, Read], answer_seconds: float) -> None:
        self._reads = reads
        self._answer_seconds = answer_seconds
        self._under_way: dict[str, _Question] = {}

    def ask(self) -> dict[str, Part]:
        """Ask every part. Of one that does not answer in time there is what it has said so far."""
        for name, read in self._reads.items():
            if name not in self._under_way:
                self._under_way[name] = _Question(name, read)
        until = time.monotonic() + self._answer_seconds
        return {name: self._answer(name, until) for name in self._reads}

    def _answer(self, name: str, until: float) -> Part:
        question = self._under_way[name]
        question.thread.join(max(0.0, until - time.monotonic()))
        if question.thread.is_alive():
            return Part(dict(question.facts), f"no answer within {self._answer_seconds:g} s")
        del self._under_way[name]
        return Part(question.facts, question.error)


class _Question:
    """One part, asked once."""

    def __init__(self, name: str, read: Read) -> None:
        self.facts: Facts = {}
        self.error: str | None = None
        self._read = read
        # A daemon: a part that hangs for good must not keep the command from ending.
        self.thread = threading.Thread(target=self._run, name=f"execution-logger-{name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with untraced():
                self._read(self.facts)
        except ExecutionLoggerError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001 - one part that fails must not hide the others
            logger.exception("a part could not be asked; the others were")
            self.error = f"this is a defect, please report it: {type(error).__name__}: {error}"

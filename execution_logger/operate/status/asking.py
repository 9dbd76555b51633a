"""Asking: every part at the same time, and none of them for long."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from execution_logger.errors import ExecutionLoggerError

ANSWER_SECONDS = 5.0
"""How long an answer is waited for; the attempts of the parts themselves are shorter."""

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

    def __init__(self, reads: Mapping[str, Read], answer_seconds: float = ANSWER_SECONDS) -> None:
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
            seconds = time.monotonic() - question.asked_at
            return Part(dict(question.facts), f"no answer for {seconds:.0f} s")
        del self._under_way[name]
        if question.failure is not None:
            raise question.failure
        return Part(question.facts, question.error)


@dataclass
class _Question:
    """One part, asked once."""

    name: str
    read: Read
    facts: Facts = field(default_factory=dict)
    error: str | None = None
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.asked_at = time.monotonic()
        # A daemon: a part that hangs for good must not keep the command from ending.
        self.thread = threading.Thread(target=self._run, name=f"status-{self.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.read(self.facts)
        except ExecutionLoggerError as error:
            self.error = str(error)
        except BaseException as failure:  # noqa: BLE001 - raised where it is asked for
            self.failure = failure

"""A batch as a worker is given it, by whomever: nothing that a message says is trusted."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from execution_logger.broker.message import problem_of_logged, restore_quotes

_SPAN = frozenset({"process", "first"})
_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """What a message says of itself; none of it is trusted.

    Attributes:
        id: of the task, and of the batch.
        entries: a JSON array of encoded entries, or anything else, which is a dead letter then.
        process: the name of the pipeline that made the entries, if the message gives it.
        first: the number of the first entry among those of the process, likewise.
        is_awaited: whether the producer asks for a confirmation.
        is_redelivered: whether a worker was given it before.

    Nothing is confirmed of an id that no producer makes, and it is not counted.
    """

    id: str
    entries: str
    process: Any = None
    first: Any = None
    is_awaited: bool = False
    is_redelivered: bool = False

    @classmethod
    def of(cls, request: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Self:
        """Read the request of a Celery task."""
        batch_id = str(request.id)
        is_ours = request.id == batch_id and _ID.fullmatch(batch_id) is not None
        told = {
            # Celery's own default is False too, which is not the producer's word.
            "is_awaited": is_ours and vars(request).get("ignore_result") is False,
            "is_redelivered": is_ours and bool((request.delivery_info or {}).get("redelivered")),
        }
        if len(args) == 1 and isinstance(args[0], str) and kwargs.keys() <= _SPAN:
            return cls(batch_id, restore_quotes(args[0]), kwargs.get("process"), kwargs.get("first"), **told)
        # Not one of ours: as JSON it ends, readable, in the dead letters.
        return cls(batch_id, json.dumps({"args": args, "kwargs": kwargs}), **told)


class BatchRequest(Request):  # type: ignore[misc] # Celery has no types
    """A request that refuses a message which it cannot read, or whose id Celery must not log.

    Celery's own would end the worker, or for a message without an id, which kombu takes for a lost
    connection, connect again and be given the same message, for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
            problem = problem_of_logged(self.id, self.name)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise InvalidTaskError(f"{type(error).__name__}: {error}") from error
        if problem:
            raise InvalidTaskError(problem)

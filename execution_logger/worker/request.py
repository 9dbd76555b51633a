"""Celery's request, made to survive messages that no producer of Celery's has made."""

from typing import Any

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request


class BatchRequest(Request):  # type: ignore[misc] # Celery has no types
    """A request that refuses a message which it cannot read.

    Celery's own would end the worker, or for a message without an id, which kombu takes for a lost
    connection, connect again and be given the same message, for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise InvalidTaskError(f"{type(error).__name__}: {error}") from error

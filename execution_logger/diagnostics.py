"""What the library says about itself: on the standard logger `execution_logger`, sparingly."""

import logging

logger = logging.getLogger("execution_logger")


def report(level: int, message: str, *args: object, error: BaseException | None = None) -> None:
    """Log a message; a handler or filter of the host's that fails must not end what is under way."""
    try:
        logger.log(level, message, *args, exc_info=error, stacklevel=2)
    except Exception as failure:  # noqa: BLE001 - there is no other place to say it
        on_error("logging", failure)


class InternalErrors:
    """Counts errors that must not reach the host, and reports each kind once.

    The library's own tests set `on_error` and fail on every such error.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kinds: set[str] = set()

    def record(self, where: str, error: BaseException) -> None:
        """Count an error and log it, with its traceback, the first time."""
        self.count += 1
        kind = f"{where}: {type(error).__name__}"
        if kind not in self._kinds:
            self._kinds.add(kind)
            report(logging.ERROR, "internal error in %s; entries are kept", where, error=error)
        on_error(where, error)


def on_error(where: str, error: BaseException) -> None:
    """Called for every internal error; tests replace it to re-raise or collect."""

"""An event that waiting for it clears."""

import threading


class AutoResetEvent:
    """Wakes one thread, which clears the event by waking up (the name is that of .NET and Windows).

    `threading.Event` holds a lock of its own while it is set. A signal handler that logs, or a
    destructor that the garbage collector runs, would wait there for the thread it interrupts.
    """

    def __init__(self) -> None:
        # Held as long as the event is not set. Both ways it changes by one call that nothing interrupts.
        self._unset = threading.Lock()
        self._unset.acquire()

    def is_set(self) -> bool:
        """Whether the next wait is over at once."""
        return not self._unset.locked()

    def set(self) -> None:
        """Wake the thread, or let it not sleep the next time."""
        if self._unset.locked():
            try:
                self._unset.release()
            except RuntimeError:  # another thread was faster
                return

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the event is set, at most so long, and clear it; return whether it was set."""
        if timeout_seconds is None:
            return self._unset.acquire()
        return self._unset.acquire(timeout=min(timeout_seconds, threading.TIMEOUT_MAX))

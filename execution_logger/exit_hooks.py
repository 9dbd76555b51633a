"""The last chance of a process to deliver, whichever way it ends.

`atexit` alone is not enough: children of multiprocessing and of Celery's prefork pool end in
`os._exit`, which runs no atexit functions.
"""

import atexit
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any


class ExitHooks:
    """Calls a method once the process ends. Registered per process, as forked children start with none."""

    def __init__(self, at_exit: Callable[[], None]) -> None:
        # Through weak references: registries live as long as the process, and must not keep its owner.
        self._at_exit = weakref.WeakMethod(at_exit)
        self._pid: int | None = None
        self._inherited = False
        self._celery_receiver: Callable[..., None] | None = None

    def register(self) -> None:
        """Register with every way of ending that this process has; cheap when that was done already."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._register_atexit()
            self._register_multiprocessing()
        self._register_celery()

    def _call(self) -> None:
        if (at_exit := self._at_exit()) is not None:
            at_exit()

    def _register_atexit(self) -> None:
        if not self._inherited:  # a forked child has its parent's atexit functions
            self._inherited = True
            atexit.register(self._call)

    def _register_multiprocessing(self) -> None:
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            # Children of multiprocessing run finalizers with a priority, then os._exit. -100 is after
            # the queues' (-5), so that what other finalizers log is still delivered.
            util.Finalize(None, self._call, exitpriority=-100)

    def _register_celery(self) -> None:
        # A host that logs inside its own Celery tasks has Celery imported; nobody else pays for it. Nothing
        # is imported here: in a child forked meanwhile the module would stay locked.
        signal = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if self._celery_receiver is None and signal is not None:

            def receive(**_: Any) -> None:
                self._call()

            self._celery_receiver = receive
            signal.connect(receive, weak=False)

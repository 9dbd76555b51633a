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
    """Calls a method once the process ends."""

    def __init__(self, at_exit: Callable[[], None]) -> None:
        # Through weak references: registries live as long as the process, and must not keep its owner.
        self._at_exit = weakref.WeakMethod(at_exit)

    def register(self) -> None:
        """Have every way of ending that this process has call it; cheap when that was done already."""
        _registered.add(self)
        _registries.register()

    @property
    def are_registered(self) -> bool:
        """Whether it will be called."""
        return self in _registered

    def call(self) -> None:
        """Call the method, if its owner is still there."""
        if (at_exit := self._at_exit()) is not None:
            at_exit()


class _Registries:
    """Those of this process. What is registered there stays, so it is done once for all owners."""

    def __init__(self) -> None:
        self._has_atexit = False
        self._multiprocessing_pid: int | None = None
        self._has_celery = False

    def register(self) -> None:
        """Register with those that are there by now."""
        if not self._has_atexit:  # a forked child has its parent's atexit functions
            self._has_atexit = True
            atexit.register(_call_all)
        if self._multiprocessing_pid != os.getpid():
            self._register_multiprocessing()
        if not self._has_celery:
            self._register_celery()

    def _register_multiprocessing(self) -> None:
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            self._multiprocessing_pid = os.getpid()
            # Children of multiprocessing run finalizers with a priority, then os._exit. -100 is after
            # the queues' (-5), so that what other finalizers log is still delivered.
            util.Finalize(None, _call_all, exitpriority=-100)

    def _register_celery(self) -> None:
        # A host that logs inside its own Celery tasks has Celery imported; nobody else pays for it. Nothing
        # is imported here: in a child forked meanwhile the module would stay locked.
        signal = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if signal is not None:
            self._has_celery = True
            signal.connect(_call_all, weak=False)


def _call_all(**_: Any) -> None:
    for hooks in tuple(_registered):
        hooks.call()


_registered: "weakref.WeakSet[ExitHooks]" = weakref.WeakSet()
_registries = _Registries()

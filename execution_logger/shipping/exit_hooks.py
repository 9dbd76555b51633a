"""The end of a process: by whichever way it ends, those are called that have something left to deliver."""

import atexit
import os
import sys
import weakref
from typing import Any

_ending: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Registries live as long as the process, and must not keep who is called by them."""


def call_at_exit(ending: Any) -> None:
    """Have every way of ending that this process has call its `at_exit`; cheap when that was done already."""
    _ending.add(ending)
    _registries.register()


def is_called_at_exit(ending: Any) -> bool:
    """Whether its `at_exit` is called by itself."""
    return ending in _ending


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
    for each in tuple(_ending):
        each.at_exit()


_registries = _Registries()

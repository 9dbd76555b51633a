"""Forks: whether this process is a forked child by now, and what goes on in it."""

import mmap
import os
import sys
import threading
import time
import weakref
from functools import cached_property
from importlib import _bootstrap
from pathlib import Path
from typing import Any, Protocol

from uuid_utils import reseed_rng

_MADV_WIPEONFORK = 18
"""Linux's, which `mmap` may not know of."""
_FORK_TIMEOUT_SECONDS = 2.0
"""Twice what an attempt to send takes at most."""
_BRIEF_SECONDS = 0.1
"""Much longer than a living thread has the lock that each start of a thread takes."""


def may_have_children() -> bool:
    """Whether this process has forked, or has started others by `multiprocessing`, in whichever way."""
    return _has_forked or "multiprocessing.popen_fork" in sys.modules


def is_to_be_forked() -> bool:
    """Whether this is a process that uWSGI forks its workers off, without asking Python.

    Such a fork may come while a thread has the interpreter: its copy in the child has it for ever, and
    the worker hangs. So there must be no thread in its master, unless Python's hooks hold it up meanwhile;
    nor in the first worker while that loads the application. Mules and spoolers have a master elsewhere.
    """
    uwsgi = sys.modules.get("uwsgi")
    try:
        return (
            uwsgi is not None
            and uwsgi.worker_id() == 0
            and uwsgi.masterpid() in (0, os.getpid())
            and "py-call-uwsgi-fork-hooks" not in uwsgi.opt
        )
    except AttributeError:  # a module of the host's own
        return False


class ProcessIdMark:
    """What is false in each forked child until it is set there, for systems that wipe no page.

    To ask for the process's id takes five times as long.
    """

    def __init__(self) -> None:
        self._process_id: int | None = None

    def __getitem__(self, index: int, /) -> int:
        """Whether it was set in this process."""
        return self._process_id == os.getpid()

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it."""
        self._process_id = os.getpid()


def make_mark() -> mmap.mmap | ProcessIdMark:
    """A page of memory that the kernel wipes in each forked child, where there is such a thing."""
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_MADV_WIPEONFORK)
        except OSError:  # before Linux 4.14
            page.close()
        else:
            return page
    return ProcessIdMark()


_has_forked = False


class Surviving(Protocol):
    """What goes on in a forked child."""

    def fork_locks(self) -> "tuple[threading.RLock, ...]":
        """What must not be held in the middle of anything when a child is forked."""

    def begin_in_child(self) -> None:
        """Start clean. Threads may call it at once, and a signal handler while it is under way."""


# Weak, because such hooks can never be taken back. One registration for all: who makes and drops a
# thousand loggers must not have forks become slower with each.
_survivors: "weakref.WeakSet[Surviving]" = weakref.WeakSet()


def survive_forks(survivor: Surviving) -> None:
    """Tell it of forks: by Python's hooks, and where a fork runs none of them, by `begin_in_child`."""
    _survivors.add(survivor)


def begin_in_child() -> None:
    """Start clean in a forked child, whatever is used first in it.

    uWSGI, mod_wsgi and whatever else forks in C run none of Python's hooks. So every use asks first:
    `if not undivided[0]: begin_in_child()`.
    """
    global _has_forked  # noqa: PLW0603 - of this process, not of what it was forked off
    _has_forked = False
    _free_lock_of_threads()
    reseed_rng()  # or this child and the next one, and the parent, would give entries the same ids
    for survivor in tuple(_survivors):
        survivor.begin_in_child()
    undivided[0] = 1  # at last: until then, whoever logs in another thread comes here as well


class _Held(threading.local):
    """The locks that a thread holds while it forks."""

    locks: "tuple[threading.RLock, ...]" = ()


_held = _Held()


def undo_imports_of(thread_id: int) -> None:
    """Undo, in a forked child, the imports that a thread of the parent's was in the middle of.

    Nobody finishes them here, and who imports the same modules would wait for ever: after a fork Python
    lets go of one lock for all imports, and of no module's. What stays is what an import leaves that
    raised. Not where other threads are at work by now: they may have that thread's id, and import.
    """
    if not _is_alone():
        return
    locks: dict[str, Any] = getattr(_bootstrap, "_module_locks", {})
    for name, reference in tuple(locks.items()):
        if getattr(reference(), "owner", None) == thread_id:
            locks.pop(name, None)
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
                _forget(name)


def _forget(module: str) -> None:
    """Have a module imported anew, with its submodules: only who imports them makes them its attributes."""
    for name in tuple(sys.modules):
        if name == module or name.startswith(f"{module}."):
            del sys.modules[name]


def free_locks_of_properties() -> None:
    """Replace, in a forked child, the locks of Celery's and kombu's cached properties.

    They have one for all instances, which a thread of the parent's may have held while it connected.
    """
    for name, module in tuple(sys.modules.items()):
        if name.partition(".")[0] in ("celery", "kombu"):
            # Not `isinstance`: a proxy of Celery's imports something to answer.
            kinds = [kind for kind in tuple(vars(module).values()) if issubclass(type(kind), type)]
            for kind in kinds:
                for attribute in tuple(vars(kind).values()):
                    if isinstance(attribute, cached_property) and hasattr(attribute, "lock"):
                        attribute.lock = threading.RLock()


def _free_lock_of_threads() -> None:
    """Replace, in a forked child, the lock that each start of a thread takes, when a dead thread has it.

    Python does so itself after a fork that runs its hooks.
    """
    lock = getattr(threading, "_active_limbo_lock", None)
    if lock is None:
        return
    if lock.acquire(timeout=_BRIEF_SECONDS):
        lock.release()
    else:
        threading._active_limbo_lock = threading.RLock()  # type: ignore[attr-defined] # noqa: SLF001 - see above


def _is_alone() -> bool:
    """Whether this is the only thread of the process, as it is after a fork."""
    try:
        return len(tuple(Path("/proc/self/task").iterdir())) == 1
    except OSError:  # not Linux, where nothing but Python's own forks is known to happen
        return True


def _before_fork() -> None:
    until = time.monotonic() + _FORK_TIMEOUT_SECONDS
    locks = [lock for survivor in tuple(_survivors) for lock in survivor.fork_locks()]
    _held.locks = tuple(lock for lock in locks if lock.acquire(timeout=max(0.0, until - time.monotonic())))


def _after_fork() -> None:
    global _has_forked  # noqa: PLW0603 - said once, and never unsaid
    _has_forked = True
    for lock in reversed(_held.locks):
        lock.release()


undivided = make_mark()
"""Whether no fork has made this process since it was set up, at index 0: 35 ns, and no call."""
undivided[0] = 1

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=begin_in_child)

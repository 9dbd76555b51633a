"""The ends of processes: what was logged is delivered once, whichever way a process ends."""

import gc
import os
import signal
import sys
import weakref
from pathlib import Path
from textwrap import dedent

import celery.app
import pytest
from celery.signals import worker_process_shutdown

from children import in_fork, run_script
from doubles import delivered_to
from execution_logger.shipping.exit_hooks import call_at_exit

SETUP = """
    import atexit, multiprocessing, os, sys, threading
    from pathlib import Path
    from doubles import FileDelivery
    from execution_logger import ExecutionLogger, Settings
    from execution_logger.errors import DeliveryError
    from waiting import wait_until

    def make_logger(delivery=lambda: FileDelivery(Path(sys.argv[1])), **settings):
        return ExecutionLogger(Settings(**settings), make_delivery=delivery).sync

    def log(message):
        logger.info("t", "agent", message)
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the processes of a test deliver to."""
    return tmp_path / "delivered"


def messages(path: Path) -> list[str]:
    """What was delivered, in order."""
    return [entry["message"] for entry in delivered_to(path)]


def run(source: str, path: Path, *, code: int = 0) -> str:
    """Run a script that has the helpers of `SETUP`."""
    return run_script(dedent(SETUP) + dedent(source), path, code=code)


class _Owner:
    """Something that wants to know when the process ends."""

    def __init__(self) -> None:
        self.ends = 0

    def at_exit(self) -> None:
        self.ends += 1


class TestRegistries:
    """Every way of ending that this process has."""

    def test_an_owner_may_be_collected(self) -> None:
        """The registries live as long as the process, and must not keep it."""
        owner = _Owner()
        call_at_exit(owner)
        reference = weakref.ref(owner)
        del owner
        gc.collect()
        assert reference() is None

    def test_the_end_of_a_celery_child(self) -> None:
        """It ends in `os._exit`, after this signal; registering twice is registering once."""
        assert celery.app, "a process that has not imported it has no such children"
        owner = _Owner()
        for _ in range(3):
            call_at_exit(owner)
        worker_process_shutdown.send(sender=None)
        assert owner.ends == 1

    def test_owners_that_are_gone_leave_nothing_in_them(self) -> None:
        """A host that makes a logger for each request must not grow."""
        run_script(
            """
            import atexit, gc, multiprocessing.util as util, celery.signals as signals
            from execution_logger import ExecutionLogger, Settings
            from execution_logger.shipping import exit_hooks
            from execution_logger.testing import MemoryDelivery

            def registered():
                gc.collect()
                hooks = len(exit_hooks._ending)
                receivers = len(signals.worker_process_shutdown.receivers)
                return hooks, atexit._ncallbacks(), len(util._finalizer_registry), receivers

            def use():
                logger = ExecutionLogger(Settings(), make_delivery=MemoryDelivery)
                logger.sync.info("t", "agent", "x")
                logger.sync.shutdown(5)

            use()
            before = registered()
            for _ in range(20):
                use()
            assert registered() == before, (before, registered())
            """
        )


class TestScript:
    """A process that ends by itself."""

    def test_a_plain_one(self, path: Path) -> None:
        """Without flush, without loop, long before the timer: all of it, in order."""
        output = run(
            """
            logger = make_logger()
            for number in range(120):
                log(str(number))
            """,
            path,
        )
        assert messages(path) == [str(number) for number in range(120)]
        assert output == ""

    def test_one_that_fails(self, path: Path) -> None:
        """The entry that explains the failure is the one that matters."""
        output = run(
            """
            logger = make_logger()
            log("last words")
            raise ValueError("a bug")
            """,
            path,
            code=1,
        )
        assert messages(path) == ["last words"]
        assert output.endswith("ValueError: a bug\n")

    def test_one_that_exits(self, path: Path) -> None:
        """Its exit code is its own."""
        run(
            """
            logger = make_logger()
            log("hello")
            sys.exit(3)
            """,
            path,
            code=3,
        )
        assert messages(path) == ["hello"]

    def test_functions_at_exit_may_log(self, path: Path) -> None:
        """Those that run before ours and those that run after it, when no thread may start any more."""
        output = run(
            """
            logger = make_logger()
            atexit.register(lambda: (log("after"), logger.flush()))
            log("hello")
            atexit.register(log, "before")
            """,
            path,
        )
        assert messages(path) == ["hello", "before", "after"]
        assert output == ""

    def test_an_event_loop_at_exit_may_flush(self, path: Path) -> None:
        """With a logger that was shut down already, and whose thread may not start again."""
        output = run(
            """
            import asyncio
            logger = make_logger()
            log("hello")
            atexit.register(lambda: (log("goodbye"), print(asyncio.run(logger.logger.flush()).complete)))
            logger.shutdown()
            """,
            path,
        )
        assert messages(path) == ["hello", "goodbye"]
        assert output.split() == ["True"], "flush() waits in vain when nobody delivers"

    def test_a_delivery_that_hangs_does_not_keep_it(self, path: Path) -> None:
        """It says what it leaves behind."""
        output = run(
            """
            class Hanging:
                def deliver(self, batch):
                    threading.Event().wait()
                def close(self):
                    pass
            logger = make_logger(Hanging, shutdown_timeout_seconds=0.1)
            log("hello")
            """,
            path,
        )
        assert "the process ends with entries that could not be delivered: 0 delivered, 1 waiting" in output

    def test_an_outage_does_not_keep_it(self, path: Path) -> None:
        """And the reason is said."""
        output = run(
            """
            class Down:
                def deliver(self, batch):
                    raise DeliveryError("the broker is away")
                def close(self):
                    pass
            logger = make_logger(Down, batch_size=1, shutdown_timeout_seconds=0.1)
            log("hello")
            wait_until(lambda: logger.stats()["failed_attempts"])
            """,
            path,
        )
        assert output.count("the broker is away") == 2

    def test_threads_that_log_to_the_end_do_not_keep_it(self, path: Path) -> None:
        """Daemons go on until the process is gone; what they have logged by then is delivered."""
        run(
            """
            logger = make_logger()
            begun = threading.Event()
            def log_all_the_time():
                while True:
                    log("hello")
                    begun.set()
            for _ in range(3):
                threading.Thread(target=log_all_the_time, daemon=True).start()
            begun.wait()
            """,
            path,
        )
        assert set(messages(path)) == {"hello"}

    def test_a_logger_that_was_never_used_does_nothing(self, path: Path) -> None:
        """It makes no delivery."""
        run("logger = make_logger(delivery=lambda: os._exit(9))", path)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_handler_that_logs_and_exits(self, path: Path, number: signal.Signals) -> None:
        """As containers are stopped."""
        run(
            f"""
            import signal
            logger = make_logger()
            def stop(*_):
                log("stopped")
                logger.shutdown()
                sys.exit(5)
            signal.signal({int(number)}, stop)
            log("hello")
            os.kill(os.getpid(), {int(number)})
            """,
            path,
            code=5,
        )
        assert messages(path) == ["hello", "stopped"]


class TestChildren:
    """Children of multiprocessing, and of forks; each delivers what it has logged, and nothing else."""

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_of_multiprocessing(self, path: Path, tmp_path: Path, method: str) -> None:
        """They end in `os._exit`, which runs no atexit functions; the parent's entries are the parent's."""
        script = tmp_path / "host.py"
        script.write_text(
            dedent(SETUP)
            + dedent(
                f"""
                logger = make_logger(flush_interval_seconds=1000.0)

                def work(number):
                    log(f"child {{number}}")
                    log(f"child {{number}} again")

                if __name__ == "__main__":
                    log("parent")
                    context = multiprocessing.get_context({method!r})
                    children = [context.Process(target=work, args=(number,)) for number in range(3)]
                    for child in children:
                        child.start()
                    for child in children:
                        child.join()
                        assert child.exitcode == 0
                    log("parent again")
                """
            )
        )
        run_script(script, path)
        entries = delivered_to(path)
        by_process: dict[int, list[str]] = {}
        for entry in entries:
            by_process.setdefault(entry["pid"], []).append(entry["message"])
        expected = [[f"child {number}", f"child {number} again"] for number in range(3)]
        assert sorted(by_process.values()) == [*expected, ["parent", "parent again"]]
        assert len({entry["id"] for entry in entries}) == 8

    @needs_fork
    def test_of_an_executor(self, path: Path) -> None:
        """Workers of a process pool log in many calls and end once."""
        run(
            """
            from concurrent.futures import ProcessPoolExecutor
            logger = make_logger(flush_interval_seconds=1000.0)
            log("parent")
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
                list(pool.map(log, map(str, range(20))))
            """,
            path,
        )
        assert sorted(messages(path)) == sorted([*map(str, range(20)), "parent"])

    @needs_fork
    def test_of_a_fork_that_exits(self, path: Path) -> None:
        """It runs the atexit functions it was born with, for its own entries."""
        run(
            """
            logger = make_logger(flush_interval_seconds=1000.0)
            log("parent")
            if os.fork() == 0:
                log("child")
                sys.exit()
            os.wait()
            """,
            path,
        )
        entries = delivered_to(path)
        assert [entry["message"] for entry in entries] == ["child", "parent"]
        assert entries[0]["pid"] != entries[1]["pid"]

    @needs_fork
    def test_of_a_fork_that_logs_first(self, path: Path) -> None:
        """The parent has registered nothing yet."""
        run(
            """
            logger = make_logger(flush_interval_seconds=1000.0)
            if os.fork() == 0:
                log("child")
                sys.exit()
            os.wait()
            """,
            path,
        )
        assert messages(path) == ["child"]

    @needs_fork
    def test_of_a_fork_that_vanishes(self, path: Path) -> None:
        """It takes nothing of the parent's along, and nothing is delivered twice."""
        run(
            """
            logger = make_logger(flush_interval_seconds=1000.0)
            log("parent")
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            """,
            path,
        )
        assert messages(path) == ["parent"]

    @needs_fork
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_hooks_are_registered_again_in_each_process(self) -> None:
        """The registry of multiprocessing is emptied in its children."""
        owner = _Owner()
        call_at_exit(owner)

        def finalizers() -> int:
            util = sys.modules["multiprocessing.util"]
            util._finalizer_registry.clear()
            call_at_exit(owner)
            call_at_exit(owner)
            return len(util._finalizer_registry)

        assert in_fork(finalizers) == 1


KILLED_CHILDREN = """
    import signal
    logger = make_logger(journal_directory=sys.argv[1] + ".journal", flush_interval_seconds=60)

    def kill_children_that_log(first=0):
        end_at_once = (signal.SIGTERM, signal.SIG_DFL)
        context = multiprocessing.get_context("fork")
        with context.Pool(2, initializer=signal.signal, initargs=end_at_once) as pool:
            pool.map(log, [str(first + n) for n in range(6)])
"""


@needs_fork
def test_a_parent_that_never_logs_sends_what_its_killed_children_have_left(path: Path) -> None:
    """`with multiprocessing.Pool()` in a program whose children alone log."""
    run(dedent(KILLED_CHILDREN) + "kill_children_that_log()", path)
    assert set(messages(path)) == set("012345")


@needs_fork
@pytest.mark.parametrize("logs", [False, True])
def test_shutdown_sends_what_killed_children_have_left(path: Path, *, logs: bool) -> None:
    """A server that is killed after its lifespan runs no exit hook; one that goes on logs as ever."""
    run(
        dedent(KILLED_CHILDREN)
        + ("log('0')\n" if logs else "")
        + dedent("""
        for first in (1, 7):
            kill_children_that_log(first)
            assert logger.shutdown(30).complete
        os._exit(0)
        """),
        path,
    )
    # Some come twice when a child is killed that sends what another one has left; they are one row each.
    assert set(messages(path)) == {str(n) for n in range(0 if logs else 1, 13)}


def test_a_process_without_children_looks_for_nothing(path: Path) -> None:
    """Nothing is read, made or started for one that only imports the library."""
    output = run(
        """
        import execution_logger.api.logger as module
        logger = make_logger()
        module._Host.start = lambda self: print("started")
        """,
        path,
    )
    assert output == ""

"""Hosts of several processes: forks with a non-empty buffer, pools, prefork tasks, web servers."""

import http.client
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from processes import LocalProcess
from server import free_port
from waiting import wait_until

RECYCLED = pytest.param(["--max-requests", "5"], marks=pytest.mark.long)

_TASKS_DATABASE = 1
"""Of the site's Redis: the host's own queue."""


class TestForks:
    """What a parent had in its buffer is the parent's; what a child leaves is shipped by others."""

    def test_children_end_without_clean_up(self, cell: Cell, site: Site) -> None:
        """`os.fork` again and again; each child logs and ends in `os._exit`, with nothing sent."""
        for _ in cell.repetitions(1):
            host = site.host("forks", "--pause", 0.05)
            cell.let_pass_up_to(2)
            host.stop()
        site.host("idle")
        site.check()

    def test_parent_and_children_are_killed(self, cell: Cell, site: Site) -> None:
        """`kill -9` of a whole process group in the middle of its forks."""
        for _ in cell.repetitions():
            host = site.host("forks")
            cell.let_pass_up_to(1)
            host.kill()
        site.host("idle")
        site.check()

    def test_pools_of_multiprocessing(self, cell: Cell, site: Site) -> None:
        """Children by fork, spawn and forkserver, replaced after two tasks each, while the parent logs."""
        for _ in cell.a_few():
            host = site.host("pools")
            assert host.wait() == 0, host.output
        site.host("idle")
        site.check()

    def test_forks_in_c(self, cell: Cell, site: Site) -> None:
        """Forks that run none of Python's hooks; each child looks at its numbers first, and then logs."""
        for _ in cell.repetitions(1):
            host = site.host("forks_in_c", "--pause", 0.05)
            cell.let_pass_up_to(2)
            host.stop()
        site.host("idle")
        site.check()

    def test_a_pool_is_terminated(self, cell: Cell, site: Site) -> None:
        """`with multiprocessing.Pool()`: what its children leave, their parent sends at its own end."""
        for _ in cell.a_few():
            host = site.host("terminated")
            assert host.wait() == 0, host.output
        site.check()

    @pytest.mark.long
    def test_children_of_multiprocessing_are_killed(self, cell: Cell, site: Site) -> None:
        """`kill -9` of a parent with three children that log with it, all at once."""
        for _ in cell.repetitions():
            host = site.host("processes", "--count", 2_000, "--rate", 200)
            cell.let_pass_up_to(1)
            host.kill()
        site.host("idle")
        site.check()


class TestPreforkTasks:
    """A host that logs inside its own Celery tasks."""

    def test_children_are_recycled(self, cell: Cell, site: Site) -> None:
        """`--max-tasks-per-child 2`: each child ends after two tasks, with entries in its buffer."""
        for _ in cell.a_few():
            with prefork_host(site, "--max-tasks-per-child", "2") as host:
                send_tasks(site, ["log"] * 6, host)
        site.host("idle")
        site.check()

    def test_tasks_end_their_process(self, cell: Cell, site: Site) -> None:
        """Every third task calls `os._exit` after its last log call."""
        for _ in cell.a_few():
            with prefork_host(site) as host:
                send_tasks(site, ["log", "log_and_die", "log"] * 2, host)
        site.host("idle")
        site.check()

    @pytest.mark.long
    def test_the_whole_host_is_killed(self, cell: Cell, site: Site) -> None:
        """`kill -9` of the host's worker and its children while tasks log."""
        for _ in cell.repetitions(2):
            with prefork_host(site) as host:
                send_tasks(site, ["log"] * 4, host)
                cell.let_pass_up_to(0.3)
                host.kill()
        site.host("idle")
        site.check()


class TestWebServers:
    """gunicorn and uvicorn with several processes."""

    @pytest.mark.parametrize("options", [["--preload"], RECYCLED], ids=["preload", "recycled"])
    def test_gunicorn(self, cell: Cell, site: Site, options: list[str]) -> None:
        """Three workers; one after the other is killed at a random moment while requests are served."""
        application = ["integration.faults.web:preloaded()", "--workers", "3", *options]
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *application]
        with web_server(site, port, command):
            for _ in cell.repetitions():
                kill_one(port, cell.random.randrange(1, 20))
            request(port, 20)
        site.host("idle")
        site.check()

    @pytest.mark.long
    def test_gunicorn_is_killed(self, cell: Cell, site: Site) -> None:
        """`kill -9` of its main process and all workers."""
        application = ["integration.faults.web:preloaded()", "--preload", "--workers", "3"]
        for _ in cell.repetitions(2):
            port = free_port()
            command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *application]
            with web_server(site, port, command) as server:
                request(port, cell.random.randrange(1, 30))
                server.kill()
        site.host("idle")
        site.check()

    @pytest.mark.long
    def test_uvicorn(self, cell: Cell, site: Site) -> None:
        """Two processes with a lifespan; one after the other is killed."""
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "integration.faults.web:asgi", "--port", str(port)]
        with web_server(site, port, [*command, "--workers", "2"]):
            for _ in cell.repetitions(2):
                kill_one(port, cell.random.randrange(1, 20))
            request(port, 20)
        site.host("idle")
        site.check()

    @pytest.mark.parametrize("server", ["uvicorn", pytest.param("gunicorn", marks=pytest.mark.long)])
    def test_asked_to_end_without_a_lifespan(self, cell: Cell, site: Site, server: str) -> None:
        """SIGTERM to Django, or to workers that are recycled: all comes at once, also without a journal."""
        commands = {
            "uvicorn": ["uvicorn", "--factory", "integration.faults.web:django", "--port"],
            "gunicorn": [
                "gunicorn", "integration.faults.web:django()", "-k", "uvicorn.workers.UvicornWorker",
                "--workers", "2", "--max-requests", "5", "--bind",
            ],
        }  # fmt: skip
        for _ in cell.a_few():
            port = free_port()
            address = str(port) if server == "uvicorn" else f"127.0.0.1:{port}"
            command = [sys.executable, "-m", *commands[server], address]
            with web_server(site, port, command, EXECUTION_LOGGER_JOURNAL="false"):
                for _ in range(cell.random.randrange(10, 30)):
                    wait_until(lambda: answers(port), 20)  # noqa: B023 - a worker that ends resets connections
        site.check()


class TestUwsgi:
    """uWSGI, whose forks run Python's hooks only where it is told so; its master has logged before them."""

    @pytest.mark.parametrize(
        ("used", "options"),
        [
            ("preloaded", []),
            pytest.param("looked_at", [], marks=pytest.mark.long),
            ("preloaded", ["--py-call-uwsgi-fork-hooks"]),
            pytest.param("preloaded", ["--py-call-osafterfork"], marks=pytest.mark.long),
            pytest.param("preloaded", ["--threads", "4"], marks=pytest.mark.long),
        ],
        ids=["no hooks", "no hooks after stats", "fork hooks", "hook in the child", "threads"],
    )
    def test_workers_of_a_master_that_has_logged(
        self, cell: Cell, site: Site, used: str, options: list[str]
    ) -> None:
        """120 entries of the children are 120 rows, and each child has a name of its own on its batches."""
        children: set[int] = set()
        for _ in cell.a_few():
            port = free_port()
            with web_server(site, port, uwsgi(port, used, *options)):
                children |= {request(port, 1) for _ in range(12)}
        site.host("idle")
        site.check()
        found = site.fetch("SELECT DISTINCT process FROM execution_log_batches")
        names = [str(row["process"]) for row in found]
        for child in children:
            assert len([name for name in names if f"-{child}-" in name]) == 1, names

    @pytest.mark.long
    def test_workers_are_killed(self, cell: Cell, site: Site) -> None:
        """One after the other, at a random moment; the master forks others."""
        port = free_port()
        with web_server(site, port, uwsgi(port, "preloaded")):
            for _ in cell.repetitions(2):
                kill_one(port, cell.random.randrange(1, 20))
            request(port, 20)
        site.host("idle")
        site.check()


def uwsgi(port: int, application: str, *options: str) -> list[str]:
    """The command of a uWSGI with two workers, in which threads may run."""
    name = f"integration.faults.web:{application}()"
    command = [str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{port}"]
    ways = ["--master", "--die-on-term", "--enable-threads", "--processes", "2", "--disable-logging"]
    return [*command, *ways, "--module", name, *options]


@contextmanager
def prefork_host(site: Site, *options: str) -> Iterator[LocalProcess]:
    """A Celery worker of the host's own, stopped at the end unless it was killed."""
    words = ["-m", "celery", "-A", "integration.faults.prefork", "worker", "-P", "prefork", "-c", "2"]
    command = [sys.executable, *words, "-l", "INFO", "--without-mingle", *options]
    host = site.program(command, **variables(site))
    wait_until(lambda: "ready." in host.output, 30, message=lambda: host.output)
    yield host
    host.stop()


def variables(site: Site) -> dict[str, str]:
    """What the host's own application is set up by."""
    return {"FAULTS_BROKER": site.redis.url(_TASKS_DATABASE), "FAULTS_CALLS": str(site.calls)}


def send_tasks(site: Site, names: Sequence[str], host: LocalProcess) -> None:
    """Have the host's worker do these tasks, and wait until all of them have begun to log."""
    goal = len(site.progress()) + len(names)
    sender = site.program([sys.executable, "-m", "integration.faults.prefork", *names], **variables(site))
    assert sender.wait() == 0, sender.output
    wait_until(lambda: len(site.progress()) >= goal, 40, message=lambda: host.output)


@contextmanager
def web_server(site: Site, port: int, command: list[str], **variables: str) -> Iterator[LocalProcess]:
    """A web server, stopped at the end unless it was killed."""
    server = site.program(command, FAULTS_CALLS=str(site.calls), **variables)
    wait_until(lambda: answers(port), 30, message=lambda: server.output)
    yield server
    server.stop()


def answers(port: int) -> bool:
    """Whether it serves requests."""
    try:
        request(port, 1)
    except (OSError, http.client.HTTPException):
        return False
    return True


def request(port: int, count: int) -> int:
    """Make some requests, one after the other; the id of the process that served the last one."""
    body = b""
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/")
            body = connection.getresponse().read()
        finally:
            connection.close()
    return int(body)


def kill_one(port: int, requests: int) -> None:
    """Make some requests and kill the process that served the last one; the others go on."""
    victim = request(port, requests)
    with suppress(ProcessLookupError):  # it was recycled meanwhile
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: answers(port), 20)

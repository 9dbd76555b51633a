"""What all tests share: servers, and the proof that a test leaves nothing behind."""

import gc
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis  # noqa: F401 - when it is imported after the freezing, it warns of what it does not find
import pytest

from leaks import Resources
from servers import PostgresServer, RedisServer
from waiting import PATIENCE

pytest.register_assert_rewrite("conformance_store")

ROOT = Path(__file__).resolve().parent.parent

# Last on the path: `tasks/` is found here, and `execution_logger` where it is installed.
sys.path.append(str(ROOT))

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let `gc.collect()` look at what tests have made: with all that was imported it takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write out lone surrogates, which tests log: processes side by side send their reports in UTF-8."""
    report = yield
    report.sections = [(name, _encodable(text)) for name, text in report.sections]
    if (text := report.longreprtext) != _encodable(text):
        report.longrepr = _encodable(text)
    return report


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where journals are kept unless settings say otherwise: a folder that no other test has."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread, a child process, or an open file or socket."""
    before = Resources.now()
    yield
    before.check_given_back()


@pytest.fixture
def patient_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doctor and exporter wait for as long as a busy machine needs, where a test asks what they find."""
    # Only a few tests need these modules, which take a while to import.
    from execution_logger.operate import system_metrics  # noqa: PLC0415
    from execution_logger.operate.doctor import database  # noqa: PLC0415

    for module, name in (
        (database, "TIMEOUT_SECONDS"),
        (database, "_QUESTIONS_SECONDS"),
        (system_metrics, "ANSWER_SECONDS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) * PATIENCE)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server for the tests that do it no harm."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url()


@pytest.fixture
def own_redis_server() -> Iterator[RedisServer]:
    """A Redis server of the test's own, to be killed, paused and restarted."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the tests that do it no harm."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test's own, to be killed, paused and restarted."""
    with PostgresServer() as server:
        yield server

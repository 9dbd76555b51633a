"""The broker in a folder: messages appear whole, come in order, and are told apart by their queues."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.transport import filesystem

from celery_host import signals_given_back
from doubles import DEADLINE_SECONDS
from execution_logger.broker.embedded import transport_options
from execution_logger.integrations.celery import bind_celery
from execution_logger.testing import capture_entries


def send(connection: Connection, queue: str, payload: object) -> None:
    """Send to the queue directly, as hosts do: kombu binds a queue to an exchange once per process."""
    connection.Producer().publish(payload, exchange="", routing_key=queue)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a broker whose folder is not there yet, and has a name that a URL must escape."""
    return f"embedded://{tmp_path}/the%20broker"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection to it."""
    with Connection(url, transport_options=transport_options(url)) as connection:
        yield connection


def test_the_folder_is_made(url: str, tmp_path: Path) -> None:
    """A first try must not fail for a folder; a second one finds what is there."""
    transport_options(url)
    transport_options(url)
    folders = ["control", "messages", "processed"]
    assert sorted(path.name for path in (tmp_path / "the broker").iterdir()) == folders


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """With its name, from the operating system."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        transport_options(f"embedded://{tmp_path}/file")


def test_messages_come_in_the_order_of_sending(connection: Connection) -> None:
    """Also those of the same moment."""
    for number in range(50):
        send(connection, "logs", {"number": number})
    queue = connection.SimpleQueue("logs")
    received = [queue.get(timeout=DEADLINE_SECONDS) for _ in range(50)]
    for message in received:
        message.ack()
    assert [message.payload["number"] for message in received] == list(range(50))
    queue.close()


def test_another_process_finds_them(connection: Connection, url: str) -> None:
    """The folder is all that they share."""
    send(connection, "logs", {"text": "学"})
    with Connection(url, transport_options=transport_options(url)) as other:
        message = other.SimpleQueue("logs").get(timeout=DEADLINE_SECONDS)
        assert message.payload == {"text": "学"}
        message.ack()


def test_a_hosts_own_application_needs_the_url_only(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once it is bound, or has taken our tasks: kombu knows the scheme, and the folder is in the URL."""
    with signals_given_back(), Celery("host", broker=url, set_as_current=False) as app, capture_entries():
        bind_celery(app)
        app.send_task("tasks.add", (1, 2), queue="example%20")
        with Connection(url, transport_options=transport_options(url)) as other:
            message = other.SimpleQueue("example%20").get(timeout=DEADLINE_SECONDS)
            assert message.headers["task"] == "tasks.add"
            message.ack()
    assert not caplog.messages


@pytest.mark.parametrize("path", ["100%25", "a%2520b", "学"])
def test_both_sides_mean_the_same_folder(tmp_path: Path, path: str) -> None:
    """Kombu unquotes what follows the host, once, as we do."""
    url = f"embedded://{tmp_path}/{path}"
    with Connection(url, transport_options=transport_options(url)) as ours, Connection(url) as theirs:
        assert ours.default_channel.data_folder_in == theirs.default_channel.data_folder_in
        assert theirs.default_channel.data_folder_in == transport_options(url)["data_folder_in"]


@pytest.mark.parametrize(
    "use",
    [
        lambda channel: channel.get_table("control"),
        lambda channel: channel._queue_bind("control", "other", "", "another"),
        lambda channel: channel._delete("another", "control", "other", ""),
    ],
)
def test_a_table_of_queues_is_never_seen_empty(
    url: str, monkeypatch: pytest.MonkeyPatch, use: Callable[[Any], object]
) -> None:
    """Workers that start and end at once make and use it at the same moment."""
    errors: list[Exception] = []

    def meanwhile() -> None:
        try:
            with Connection(url) as other:
                use(other.default_channel)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=meanwhile)
    lock = filesystem.lock

    def locked(file: Any, flags: int) -> None:
        if not thread.ident:  # the table is there, and has nothing in it
            thread.start()
            thread.join(0.1)
        lock(file, flags)

    monkeypatch.setattr(filesystem, "lock", locked)
    with Connection(url, transport_options=transport_options(url)) as connection:
        connection.default_channel._queue_bind("control", "key", "", "queue")
        thread.join()
        assert "queue" in [each.queue for each in connection.default_channel.get_table("control")]
    assert not errors


def test_queues_are_told_apart(connection: Connection) -> None:
    """A worker that consumes one is not given the messages of the others."""
    send(connection, "celery", {"task": "of the host"})
    queue = connection.SimpleQueue("logs")
    with pytest.raises(Empty):
        queue.get(block=False)
    assert connection.default_channel.queue_declare("logs").message_count == 0
    assert connection.default_channel.queue_declare("celery").message_count == 1


def test_a_message_appears_whole_or_not_at_all(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is being written no reader takes it: not even those that look for the queue in any name."""
    seen: list[str] = []
    rename = Path.rename

    def look_before(path: Path, target: Path) -> Path:
        seen.extend(each.name for each in (tmp_path / "the broker/messages").iterdir())
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", look_before)
        connection.default_channel._put("logs", {"body": "x"})
    (unfinished,) = seen
    assert "logs" not in unfinished
    (finished,) = [path.name for path in (tmp_path / "the broker/messages").iterdir()]
    assert finished.endswith(".logs.msg")


def test_waits_are_short(connection: Connection) -> None:
    """A worker looks for a shutdown between two of them, and its own are long."""
    connection.SimpleQueue("logs")._consume()
    began_at = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=10)
    assert time.monotonic() - began_at < 5

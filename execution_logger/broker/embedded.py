"""A broker in a folder: for demos, first steps and tests, without any server.

kombu's filesystem transport, with two differences: a message file appears whole or not at all
(kombu's appears empty first, and a reader that is quick loses it), and the folder is in the URL
(`embedded:///path/of/folder`), so that a host's own application needs nothing else, either. A worker that
is killed loses the messages it was writing; Redis does not, so this is not for production.
"""

import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps
from uuid_utils import uuid4

SCHEME = "embedded"
POLLING_INTERVAL_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 0.5


def register() -> None:
    """Make `embedded` a scheme that kombu knows."""
    TRANSPORT_ALIASES.setdefault(SCHEME, f"{__name__}:Transport")


class Channel(filesystem.Channel):  # type: ignore[misc] # kombu has hardly any types
    """kombu's filesystem channel, in the folder of its URL, with messages that appear whole."""

    @cached_property
    def transport_options(self) -> dict[str, Any]:
        """Those of the URL: whoever connects need not know of any."""
        return _options_of(self.connection.client.virtual_host)

    @cached_property
    def _tables(self) -> FileLock:
        """Of all that reads or writes the tables of queues.

        kombu makes one empty, and locks it then: who reads it in between dies of it, as one of two workers
        that start at once.
        """
        return FileLock(self.control_folder / "tables.lock")

    def get_table(self, exchange: str) -> Any:
        """The queues of an exchange."""
        with self._tables:
            return super().get_table(exchange)

    def _queue_bind(self, *binding: Any) -> None:
        with self._tables:
            super()._queue_bind(*binding)

    def _delete(self, *binding: Any, **options: Any) -> None:
        with self._tables:
            super()._delete(*binding, **options)

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{time.time_ns():020d}_{uuid4()}"
        folder = Path(self.data_folder_out)
        # Without the name of the queue: kombu up to 5.6 takes every file with that in its name.
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(dumps(payload))
        unfinished.rename(folder / f"{name}.{queue}.msg")


class Transport(filesystem.Transport):  # type: ignore[misc] # as above
    """The transport of `embedded://` URLs."""

    Channel = Channel
    polling_interval = POLLING_INTERVAL_SECONDS
    default_connection_params: ClassVar[dict[str, Any]] = {}  # kombu warns of a URL without the host of these

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Wait a short while, so that a worker ends soon: it looks for a shutdown between two waits."""
        if timeout is not None:
            timeout = min(timeout, LONGEST_WAIT_SECONDS)
        super().drain_events(connection, timeout=timeout)


def transport_options(url: str) -> dict[str, Any]:
    """The options of a connection to `url`; makes the folders and registers the transport.

    Raises:
        OSError: the folder cannot be made.
    """
    register()
    return _options_of(unquote(urlsplit(url).path))


def _options_of(path: str) -> dict[str, Any]:
    """For a path with or without the slash that parts it from the host: kombu keeps none."""
    folder = Path("/", path.lstrip("/"))
    messages = folder / "messages"
    for each in (messages, folder / "control", folder / "processed"):
        each.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": os.fspath(messages),
        "data_folder_out": os.fspath(messages),
        "control_folder": os.fspath(folder / "control"),
        "processed_folder": os.fspath(folder / "processed"),
    }

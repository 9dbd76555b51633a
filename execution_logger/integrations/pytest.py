"""What pytest finds by itself where this package is installed: the fixture `captured_entries`.

It is loaded in every run of pytest, so it imports nothing else before a test asks for it.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from execution_logger import LogEntry


@pytest.fixture
def captured_entries() -> "Iterator[list[LogEntry]]":
    """What the test logs by `execution_logger`, in a list that each call fills; none of it is delivered."""
    from execution_logger.testing import capture_entries  # noqa: PLC0415 - as said above

    with capture_entries() as entries:
        yield entries

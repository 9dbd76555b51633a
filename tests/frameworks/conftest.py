"""Frameworks that take minutes to install: `scripts/test.sh frameworks` runs these."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from execution_logger import diagnostics
from recorded import Recorded, recorded_in


@pytest.fixture(autouse=True)
def internal_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, BaseException]]]:
    """What production counts and survives fails the test, unless it asks for this list and clears it."""
    errors: list[tuple[str, BaseException]] = []
    monkeypatch.setattr(diagnostics, "on_error", lambda *error: errors.append(error))
    yield errors
    assert not errors, "the library has hidden these errors from its host"


@pytest.fixture(autouse=True)
def _data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CrewAI keeps what tasks have put out: not where another version of it has."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """What the ready instance has recorded, out of a database."""
    with recorded_in(tmp_path) as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Threads, files and sockets are the frameworks', which keep them."""

"""Where services keep their files."""

import os
from pathlib import Path

import pytest

from execution_logger import Settings
from execution_logger.operate.services.directory import ServiceError, service_directory, service_folder


def test_it_is_in_the_users_state_directory(state_folder: Path) -> None:
    """Apart from the journals, which others look through."""
    assert service_directory(Settings()) == state_folder / "execution-logger-services"


def test_a_setting_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is relative means the same after a change of folders."""
    monkeypatch.chdir(tmp_path)
    assert service_directory(Settings(service_directory="here")) == tmp_path / "here"


def test_a_folder_is_made_for_its_user_only(tmp_path: Path) -> None:
    """With those above it."""
    folder = service_folder(Settings(service_directory=str(tmp_path / "a" / "b")), "beat")
    assert folder == tmp_path / "a" / "b" / "beat"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert service_folder(Settings(service_directory=str(tmp_path / "a" / "b")), "beat") == folder


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """With the setting that names another one."""
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match=r"Not a directory.*EXECUTION_LOGGER_SERVICE_DIRECTORY"):
        service_folder(Settings(service_directory=str(tmp_path / "file")), "beat")


def test_the_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose number somebody else has written down is not to be signalled."""
    settings = Settings(service_directory=str(tmp_path))
    service_folder(settings, "worker")
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ServiceError, match=r"worker belongs to \w+: run the command as that user"):
        service_folder(settings, "worker")

"""`execution-logger beat`: what it starts, and that it is the only one."""

import os
from pathlib import Path

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from filelock import FileLock

from children import run_script
from execution_logger import Settings
from execution_logger.cli import beat, main
from execution_logger.cli.beat import the_only_beat
from execution_logger.errors import ExecutionLoggerError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Celery was to start; nothing is."""
    calls: list[list[str]] = []
    monkeypatch.setattr(beat, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(Celery, "start", lambda _, words: calls.append(words))
    return calls


def run(folder: Path, *arguments: str, **environment: str) -> Result:
    """The outcome of `execution-logger beat`."""
    own = {"EXECUTION_LOGGER_SERVICE_DIRECTORY": str(folder), **environment}
    return CliRunner().invoke(main, ["beat", *arguments], env=own)


def test_options_reach_celery(started: list[list[str]], tmp_path: Path) -> None:
    """Whatever comes after the two dashes, as it is."""
    assert run(tmp_path).exit_code == 0
    run(tmp_path, "--loglevel", "Warn", "--", "--max-interval", "5")
    assert started == [
        ["beat", "--loglevel", "INFO"],
        ["beat", "--loglevel", "WARNING", "--max-interval", "5"],
    ]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_in_its_first_moment(tmp_path: Path, number: str) -> None:
    """Whatever it is amid: what a handler raises in a finalizer, nobody sees."""
    output = run_script(
        """
        import os, signal, sys
        from execution_logger.cli import main
        from execution_logger.worker.schedule import PatientScheduler

        class Finalised:
            def __del__(self):
                signal.raise_signal(signal.Signals[sys.argv[1]])

        def begin(scheduler):
            Finalised()
            os._exit(1)

        PatientScheduler.setup_schedule = begin
        main(["beat"])
        """,
        number,
        environment={
            "CELERY_BROKER_URL": f"embedded://{tmp_path}/broker",
            "EXECUTION_LOGGER_SERVICE_DIRECTORY": str(tmp_path),
        },
    )
    assert "Traceback" not in output
    assert "beat: Starting..." in output


def test_a_second_beat_is_refused(started: list[list[str]], tmp_path: Path) -> None:
    """Until the first one ends; elsewhere it is welcome."""
    with the_only_beat(Settings(service_directory=str(tmp_path))):
        result = run(tmp_path)
        assert result.exit_code == 2
        assert result.stderr == (
            f"execution-logger: Beat runs already ({tmp_path / 'beat'}), and one is enough\n"
        )
        assert run(tmp_path / "elsewhere").exit_code == 0
    assert run(tmp_path).exit_code == 0
    assert len(started) == 2


def test_a_wrong_setting_starts_nothing(started: list[list[str]], tmp_path: Path) -> None:
    """A restart would not help."""
    assert run(tmp_path, EXECUTION_LOGGER_BATCH_SIZE="many").exit_code == 2
    assert not started


def test_the_lock_is_in_the_users_state_directory(state_folder: Path) -> None:
    """In a folder that is made for its user only, apart from the journals, which others look through."""
    with the_only_beat(Settings()):
        folder = state_folder / "execution-logger-services" / "beat"
        assert folder.stat().st_mode & 0o777 == 0o700
        lock = FileLock(folder / "beat.lock")
        with pytest.raises(TimeoutError):
            lock.acquire(blocking=False)


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """With the setting that names another one."""
    (tmp_path / "file").touch()
    settings = Settings(service_directory=str(tmp_path / "file"))
    with (
        pytest.raises(ExecutionLoggerError, match=r"Not a directory.*EXECUTION_LOGGER_SERVICE_DIRECTORY"),
        the_only_beat(settings),
    ):
        raise AssertionError


@pytest.mark.skipif(os.name != "posix", reason="who may write is a matter of POSIX here")
@pytest.mark.parametrize("culprit", [".", "beat"])
def test_what_others_may_write_to_holds_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    """Without a home directory its place is one that others can guess, and make first."""
    monkeypatch.setenv("HOME", str(Path(__file__)))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / f"execution-logger-services-{os.geteuid()}"
    for each in (folder, folder / culprit):
        each.mkdir(0o700, exist_ok=True)
    (folder / culprit).chmod(0o777)
    with pytest.raises(ExecutionLoggerError, match="anybody may write to it"), the_only_beat(Settings()):
        raise AssertionError
    assert not list(folder.rglob("*.lock"))


def test_the_lock_is_in_a_folder_of_its_own_on_a_shared_volume(tmp_path: Path) -> None:
    """As Kubernetes makes them: anybody may write to it."""
    tmp_path.chmod(0o777)
    with the_only_beat(Settings(service_directory=str(tmp_path))):
        assert (tmp_path / "beat").stat().st_mode & 0o777 == 0o700

"""What is installed is what is tested, and all of it is there."""

import importlib.metadata
import json
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import execution_logger
from execution_logger.integrations.pyinstaller import hook_directories

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = importlib.metadata.distribution("celery-execution-logger")
PACKAGE = Path(execution_logger.__file__).parent
HOOK = PACKAGE / "integrations" / "pyinstaller" / "hook-execution_logger.py"


def test_the_installed_package_is_tested() -> None:
    """A wheel is tested as it is, not shadowed by the checkout; only an editable install is the checkout."""
    source = json.loads(DISTRIBUTION.read_text("direct_url.json") or "{}")
    editable = source.get("dir_info", {}).get("editable", False)
    place = ROOT if editable else Path(str(DISTRIBUTION.locate_file("")))
    assert place / "execution_logger" == PACKAGE


def test_the_installed_package_is_that_of_the_checkout() -> None:
    """No file is missing or out of date; if one is, `pip install .` again (`scripts/test.sh` does it)."""
    files = [file.relative_to(ROOT) for file in (ROOT / "execution_logger").rglob("*") if file.is_file()]
    wanted = {file: (ROOT / file).read_bytes() for file in files if "__pycache__" not in file.parts}
    assert {file: (PACKAGE.parent / file).read_bytes() for file in wanted} == wanted


def test_no_other_package_is_installed() -> None:
    """Hosts have a `tasks` and `tests` of their own, which ours must not shadow."""
    installed = {file.parts[0] for file in DISTRIBUTION.files or []}
    assert installed
    assert not installed & {"tasks", "tests", "scripts", "examples", "benchmarks"}


def test_the_version_is_the_distributions() -> None:
    """`__version__` is the one place."""
    assert execution_logger.__version__ == DISTRIBUTION.version


def test_importing_the_package_loads_nothing_heavy() -> None:
    """A host pays for Celery and SQLAlchemy when they are needed, not at its start."""
    code = "import sys, execution_logger; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "execution_logger" in loaded
    assert not loaded & {"celery", "kombu", "redis", "sqlalchemy", "asyncpg", "alembic", "rich", "click"}


def test_pyinstaller_finds_the_hook() -> None:
    """It asks every installed package for the entry point."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert declared["pyinstaller40"] == {
        "hook-dirs": "execution_logger.integrations.pyinstaller:hook_directories"
    }
    assert [Path(folder) / "hook-execution_logger.py" for folder in hook_directories()] == [HOOK]


def test_the_hook_names_what_is_imported_by_name_and_the_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frozen host would miss at its first delivery: each name exists."""
    asked: list[str] = []

    def collect(name: str, **_: object) -> list[str]:
        asked.append(name)
        return [name]

    for name in ("PyInstaller", "PyInstaller.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    hooks = ModuleType("PyInstaller.utils.hooks")
    vars(hooks).update(collect_data_files=collect, collect_submodules=collect)
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    names = runpy.run_path(str(HOOK))
    assert {*names["datas"]} == {"execution_logger"}
    assert [name for name in names["hiddenimports"] if find_spec(name) is None] == []
    assert {"execution_logger", "celery.app", "kombu.transport.redis"} <= {*names["hiddenimports"], *asked}

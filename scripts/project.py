"""The Python that the scripts beside this file run with: that of the project's environment."""  # noqa: INP001 - scripts are run by file

import os
import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = _ROOT / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def use_environment() -> None:
    """Go on with the .venv that the other scripts make, unless a virtual environment is active."""
    is_active = sys.prefix != sys.base_prefix or "VIRTUAL_ENV" in os.environ
    if not is_active and _PYTHON.exists():
        os.execv(_PYTHON, [str(_PYTHON), *sys.argv])  # noqa: S606 - ourselves again
    if find_spec("execution_logger") is None:
        sys.exit(
            f"{sys.argv[0]}: execution_logger is not installed for {sys.executable}: pip install '.[worker]'"
        )

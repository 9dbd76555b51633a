"""Check the documentation's Python examples with `mypy --strict`, as their readers' own code is checked.

With the project's own configuration, and after its own check, whose cache it uses.
"""  # noqa: INP001 - run by file

import sys
import tempfile
from pathlib import Path

from mypy import api

UNTYPED = "# mypy: allow-untyped-decorators\n"
"""Celery and Flask ship no types; at the end of an example, so that its lines keep their numbers."""

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from documents import TRANSLATED, Document  # noqa: E402 - it is found only now


def main() -> int:
    """Check all of them, each as a file of its own; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        for name in TRANSLATED:
            for block in Document(name).blocks:
                if block.language == "python":
                    path = Path(folder) / f"{block.example}_example.py".replace("-", "_")
                    path.write_text(f"{block.code}{UNTYPED}", encoding="utf-8")
        output, errors, code = api.run(["--config-file", str(ROOT / "pyproject.toml"), folder])
    print(output or errors, end="")  # noqa: T201 - it reports on the terminal
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Print every dependency at its lowest allowed version, as constraints for pip."""  # noqa: INP001 - run by file

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_EXTRAS = ("worker", "flower", "prometheus")
_LOWEST = re.compile(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)")
_NAME = re.compile(r"[\w.-]+")


def pins() -> list[str]:
    """Of what users run the library with; of all that the tests need besides, what `constraints.txt` has.

    The ways in have floors that do not all go together: each was tried with its own alone.
    """
    table = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = table["project"]
    extras = (project["optional-dependencies"][name] for name in _EXTRAS)
    requirements = chain(project["dependencies"], *extras)
    found = [_LOWEST.match(requirement) for requirement in requirements]
    lowest = {each[1]: each[2] for each in found if each}
    tools = {_name(requirement) for requirement in table["dependency-groups"]["test"]} - {*lowest}
    pinned = (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [
        *(f"{name}=={version}" for name, version in lowest.items()),
        *(pin for pin in pinned if _name(pin).lower() in tools),
    ]


def _name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match[0] if match else ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(pins()) + "\n")

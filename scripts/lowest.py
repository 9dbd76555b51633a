"""Print every dependency at its lowest allowed version, as constraints for pip."""  # noqa: INP001 - run by file

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_TRIED_ELSEWHERE = {"crewai", "llama-index"}
"""These take minutes to install: `scripts/frameworks.py`."""
_BUILT_UPON = {"fastapi", "langgraph", "opentelemetry-instrumentation-redis"}
"""Tools of the tests whose newest versions need later ones of what is at its lowest."""
_LOWEST = re.compile(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)")
_NAME = re.compile(r"[\w.-]+")


def pins() -> list[str]:
    """Of what users run the library with; of all that the tests need besides, what `constraints.txt` has."""
    table = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = table["project"]
    extras = project["optional-dependencies"].items()
    tried = (needed for name, needed in extras if name not in _TRIED_ELSEWHERE)
    requirements = chain(project["dependencies"], *tried)
    found = [_LOWEST.match(requirement) for requirement in requirements]
    lowest = {each[1]: each[2] for each in found if each}
    tools = {_name(requirement) for requirement in table["dependency-groups"]["test"]}
    tools -= lowest.keys() | _BUILT_UPON
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

"""Print every dependency at its lowest allowed version, as constraints for pip."""  # noqa: INP001 - run by file

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

_LOWEST = re.compile(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)")


def pins() -> list[str]:
    """Of `pyproject.toml`, those of all extras included."""
    text = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    requirements = chain(project["dependencies"], *project["optional-dependencies"].values())
    found = [_LOWEST.match(requirement) for requirement in requirements]
    return [f"{each[1]}=={each[2]}" for each in found if each]


if __name__ == "__main__":
    sys.stdout.write("\n".join(pins()) + "\n")

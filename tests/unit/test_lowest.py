"""The constraints with which every lowest allowed version is tried."""

import runpy
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
TRIED_BY_FRAMEWORKS = {"crewai", "llama-index"}


def test_each_lowest_version_is_pinned() -> None:
    """Of all that users may install, but what takes minutes; a floor in another form would be left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    tried = (extras[name] for name in extras.keys() - TRIED_BY_FRAMEWORKS)
    needed = [Requirement(text) for text in chain(project["dependencies"], *tried)]
    assert [each.name for each in needed if not each.specifier and not each.marker] == []
    floors = {f"{each.name}=={floor.version}" for each in needed for floor in each.specifier}
    pins = runpy.run_path(str(ROOT / "scripts" / "lowest.py"))["pins"]()
    assert floors - {*pins} == set()
    assert len({pin.partition("==")[0].lower() for pin in pins}) == len(pins)

"""The statements, as files: `{names}` in braces are filled in for the table as it is."""

import importlib.resources
from functools import cache


@cache
def read_sql(name: str) -> str:
    """The text of a statement."""
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")

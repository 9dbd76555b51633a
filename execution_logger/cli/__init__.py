"""The command `execution-logger`."""

from execution_logger.cli.group import main

__all__ = ["main"]

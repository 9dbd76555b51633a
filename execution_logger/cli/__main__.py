"""`python -m execution_logger.cli` is the command `execution-logger`."""

from execution_logger.cli import main

main(prog_name="execution-logger")

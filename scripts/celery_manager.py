#!/usr/bin/env python3
"""Starts, stops and watches worker, Beat and Flower on this machine: `execution-logger manage`.

scripts/celery_manager.py start|stop|restart|status|logs [worker|beat|flower|all]
"""

import sys

from project import use_environment

use_environment()

from execution_logger.cli import main  # noqa: E402 - it may need the other environment

main(["manage", *sys.argv[1:]], prog_name="execution-logger")

"""The ready-made Celery application: `celery -A tasks worker -Q logs`.

A deployment's file, not part of the installed package: nearly every host has a module of this name.
"""

import sys

from execution_logger import SettingsError
from execution_logger.worker import create_app

try:
    app = create_app()
except SettingsError as error:
    # Celery would print the traceback of a module that cannot be imported.
    print(f"execution-logger: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
    sys.exit(2)

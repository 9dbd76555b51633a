"""The ready-made Celery application: `celery -A tasks worker -Q logs`.

A deployment's file, not part of the installed package: nearly every host has a module of this name.
"""

from execution_logger.worker import create_app

app = create_app()

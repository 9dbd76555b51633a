"""What the environment says: every process of the host reads the same variables."""

import os

BROKER_URL = os.environ["CELERY_BROKER_URL"]
DATABASE_URL = os.environ["DATABASE_URL"]
PORT = int(os.environ.get("PORT", "8000"))
API_TOKEN = os.environ.get("API_TOKEN", "")
"""What clients show as a bearer token. Without one anybody may start runs who reaches the port."""
REQUEST_SECONDS = 5.0
"""Longest wait for one answer of what is tested."""
RUN_SECONDS = 90
"""Longest time of one attempt of a run, in whatever pool."""
REDELIVERY_SECONDS = int(os.environ.get("REDELIVERY_SECONDS", "120"))
"""After which Redis gives a killed worker's tasks to another one; more than a run may take."""
LOST_SECONDS = int(os.environ.get("LOST_SECONDS", "180"))
"""A run of which nothing was heard for so long is over; more than `REDELIVERY_SECONDS`."""

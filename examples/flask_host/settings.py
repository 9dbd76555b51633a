"""What the environment says: every process of the host reads the same variables."""

import os

BROKER_URL = os.environ["CELERY_BROKER_URL"]
DATABASE_URL = os.environ["DATABASE_URL"]
PORT = int(os.environ.get("PORT", "8000"))
API_TOKEN = os.environ.get("API_TOKEN", "")  # without one anybody may start runs who reaches the port

REQUEST_SECONDS = 5.0  # longest wait for one answer of what is tested
RUN_SECONDS = 90  # longest time of one attempt of a run, in whatever pool
# Redis gives a killed worker's tasks to another one after the first; a silent run is over after the second.
REDELIVERY_SECONDS = int(os.environ.get("REDELIVERY_SECONDS", "120"))
LOST_SECONDS = int(os.environ.get("LOST_SECONDS", "180"))

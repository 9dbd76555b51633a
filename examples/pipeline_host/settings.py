"""What the environment says: `PIPELINE_*` is this host's own, the rest is that of every example host."""

import os
from pathlib import Path

_get = os.environ.get
if missing := {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "DATABASE_URL"} - os.environ.keys():
    raise SystemExit(f"not set: {', '.join(sorted(missing))}. See examples/pipeline_host/README.md")

BROKER_URL = os.environ["CELERY_BROKER_URL"]
RESULT_BACKEND = os.environ["CELERY_RESULT_BACKEND"]
DATABASE_URL = os.environ["DATABASE_URL"]
DATA_DIRECTORY = Path(_get("DATA_DIRECTORY", ".")).absolute()

STORE = _get("PIPELINE_STORE", (DATA_DIRECTORY / "documents").as_uri())
"""Where documents are kept, as fsspec names it: `file:///folder` or `s3://bucket`."""

TOKEN = _get("PIPELINE_TOKEN", "demo")
"""Whoever has it may use the API, and see the runs."""

VISIBILITY_TIMEOUT_SECONDS = int(_get("PIPELINE_VISIBILITY_TIMEOUT_SECONDS", "600"))
"""After so long the tasks of a killed worker run again."""

_own = f"http://127.0.0.1:{_get('PORT', '8000')}/source"
_demonstration = ",".join(f"{name}={_own}/{name}/index.txt" for name in ("handbook", "news", "archive"))
SOURCES = dict(pair.strip().split("=", 1) for pair in _get("PIPELINE_SOURCES", _demonstration).split(","))
"""Name and list of each; of two documents that say the same, that of the earlier source is the original."""

"""The documents as they came, each under the hash of its content: in a folder, in S3, or where fsspec can.

s3fs takes fsspec's own variables: FSSPEC_S3_ENDPOINT_URL, FSSPEC_S3_KEY, FSSPEC_S3_SECRET.
"""

import hashlib
from datetime import datetime
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError
from fsspec.core import url_to_fs

from pipeline_host import settings

AWAY = (OSError, BotoCoreError)
"""What is raised when the store cannot be had."""


def put(content: bytes) -> str:
    """Store the content, again if it is there: a killed worker may have left half of it. Returns its hash."""
    files, root = _open()
    key = hashlib.sha256(content).hexdigest()
    files.pipe_file(f"{root}/{key}", content)
    return key


def get(key: str) -> bytes:
    """The content with this hash."""
    files, root = _open()
    return bytes(files.cat_file(f"{root}/{key}"))


def keep_only(keys: set[str], before: datetime) -> int:
    """Remove what is not one of `keys` and was written before then; how many that was."""
    files, root = _open()
    unused = [path for path in files.find(root) if path.rpartition("/")[2] not in keys]
    old = [path for path in unused if files.modified(path) < before]
    for path in old:
        files.rm_file(path)
    return len(old)


@cache
def _open() -> tuple[Any, str]:
    # Other processes write as well: what was listed a moment ago says nothing.
    files, root = url_to_fs(settings.STORE, use_listings_cache=False)
    files.makedirs(root, exist_ok=True)
    return files, root.rstrip("/")

"""What Prometheus would be told: the samples of an exposition, by name and labels."""

import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 10.0


def scrape(port: int) -> dict[str, float]:
    """The samples of a server on this machine; labels are part of the name: `name{label="value"}`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> dict[str, float]:
    """The samples of a text."""
    return samples(text_string_to_metric_families(text))


def samples(families: Iterable[Metric]) -> dict[str, float]:
    """The samples of what a collector yields."""
    return {
        f"{sample.name}{_labels(sample.labels)}": sample.value
        for family in families
        for sample in family.samples
    }


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""


class FakeRedis:
    """What the exporter asks of kombu's channel to a Redis, which has a limit of memory."""

    class ResponseError(Exception):
        """What the server refuses."""

    def __init__(self, *, may_ask: bool = True) -> None:
        self.client = self
        self.unacked_key = "unacked"
        self._may_ask = may_ask

    def info(self, _: str) -> dict[str, int]:
        """The memory."""
        if not self._may_ask:
            raise self.ResponseError("NOPERM this user has no permissions to run the 'info' command")
        return {"used_memory": 1000, "mem_not_counted_for_evict": 100, "maxmemory": 5000}

    @contextmanager
    def open(self, _: object) -> "Iterator[FakeRedis]":
        """In place of `open_channel`."""
        yield self

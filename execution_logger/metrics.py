"""Metrics as Prometheus takes them: families made of plain numbers, and a server that shows them.

Raises:
    SettingsError: on import, when prometheus-client is not installed.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from execution_logger.errors import SettingsError

try:
    from prometheus_client import PROCESS_COLLECTOR, generate_latest, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
except ModuleNotFoundError as error:
    raise SettingsError(
        f'Metrics need {error.name}: pip install "celery-execution-logger[prometheus]"'
    ) from error

__all__ = [
    "PROCESS_COLLECTOR",
    "REGISTRY",
    "Collector",
    "CollectorRegistry",
    "Metric",
    "MetricsServer",
    "counter",
    "exposition",
    "gauge",
    "histogram",
    "labelled_counter",
    "labelled_gauge",
]

NAMESPACE = "execution_logger"

_STOP_SECONDS = 5.0


def counter(name: str, text: str, value: float) -> Metric:
    """A number that only grows; `_total` is added to its name."""
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, value=value)


def labelled_counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Several of them, one for each value of the label."""
    return _filled(CounterMetricFamily(f"{NAMESPACE}_{name}", text, labels=[label]), values)


def gauge(name: str, text: str, value: float) -> Metric:
    """A number that goes up and down."""
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=value)


def labelled_gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Several of them, one for each value of the label."""
    return _filled(GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=[label]), values)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]
) -> CounterMetricFamily | GaugeMetricFamily:
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def histogram(name: str, text: str, found: Mapping[str, Any]) -> Metric:
    """What `Histogram.as_dict` says."""
    buckets = [(str(float(bound)), count) for bound, count in found["buckets"].items() if bound != "+Inf"]
    buckets.append(("+Inf", found["count"]))
    return HistogramMetricFamily(f"{NAMESPACE}_{name}", text, buckets=buckets, sum_value=found["sum"])


def exposition(collectors: Iterable[Collector]) -> str:
    """What they say, as the text that Prometheus reads."""
    return generate_latest(_registry(collectors)).decode()


class MetricsServer:
    """Answers `GET /metrics`, and any other path, in threads of its own, until it is closed.

    Args:
        collectors: shown in their order.
        address: to listen on; there is neither a password nor TLS.
        port: 0 for any that is free, see `port`.

    Raises:
        OSError: the port is taken, or the address is not of this machine.
    """

    def __init__(self, collectors: Iterable[Collector], address: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, address, _registry(collectors))
        self._thread.name = "execution-logger-metrics"
        self._pid = os.getpid()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop; in a forked child, close what it has inherited and leave the parent's server alone."""
        if self._pid == os.getpid():
            self._server.shutdown()
            self._thread.join(_STOP_SECONDS)
        self._server.server_close()


def _registry(collectors: Iterable[Collector]) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry

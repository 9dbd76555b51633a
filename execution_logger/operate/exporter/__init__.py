"""The metrics that belong to no process: queue, broker, workers, tables, journals on this machine's disk.

They are asked for when Prometheus asks, by one small process of their own: a worker that has died cannot
tell that there is none.
"""

from execution_logger.operate.exporter.collector import SystemCollector

__all__ = ["SystemCollector"]

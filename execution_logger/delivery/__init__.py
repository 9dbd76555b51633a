"""Where the shipper hands its batches: Celery, the database directly, or memory."""

from execution_logger.delivery.interface import Delivery

__all__ = ["Delivery"]

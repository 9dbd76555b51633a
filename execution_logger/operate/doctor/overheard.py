"""What workers say of a batch while they cannot write it, overheard on the way to the host."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from execution_logger.broker.confirmations import (
    HELD,
    Confirmation,
    Confirmations,
    Outcome,
    result_backend_url,
)
from execution_logger.broker.view import QueueView
from execution_logger.delivery import Delivery
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.delivery.interface import Receipt
from execution_logger.delivery.select import select_delivery
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError, ResultsUnavailableError
from execution_logger.settings import Settings

_TIMEOUT_SECONDS = 1.0


class OverheardDelivery:
    """Delivers by Celery; hosts do with knowing *that* a worker holds a batch, a doctor asks why.

    Attributes:
        held: the reason that a worker gave last; None while there was none.
    """

    def __init__(self, settings: Settings) -> None:
        self.held: str | None = None
        self._delivery = CeleryDelivery(settings)
        has_results = result_backend_url(settings) is not None
        self._results = Confirmations(settings, timeout_seconds=_TIMEOUT_SECONDS) if has_results else None

    def deliver(self, batch: Batch) -> Receipt:
        """As by Celery."""
        return self._delivery.deliver(batch)

    @property
    def is_confirming(self) -> bool:
        """As by Celery."""
        return self._delivery.is_confirming

    def collect(self, batch_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """As by Celery; but not by it, as what it has read is forgotten before we could look."""
        if self._results is None:
            return {}
        try:
            outcomes = self._results.outcomes(batch_ids)
            for batch_id, outcome in outcomes.items():
                if not outcome.is_stored:
                    self._note(self._results.result(batch_id))
        except ResultsUnavailableError as error:
            raise DeliveryError(str(error)) from error
        with suppress(ResultsUnavailableError):  # it expires
            self._results.forget(list(outcomes))
        return outcomes

    def look_at_queue(self) -> QueueView:
        """As by Celery."""
        return self._delivery.look_at_queue()

    def close(self) -> None:
        """Close the connections of both."""
        try:
            self._delivery.close()
        finally:
            if self._results is not None:
                self._results.close()

    def _note(self, found: Confirmation | None) -> None:
        if found is not None and found.status == HELD and isinstance(found.result, dict):
            self.held = str(found.result.get("reason"))


class Listener:
    """Makes the delivery that the settings ask for, and hears what workers say to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._overheard: OverheardDelivery | None = None

    def make_delivery(self) -> Delivery:
        """Called in the pipeline's thread."""
        if not self._settings.celery_enabled:
            return select_delivery(self._settings)()
        self._overheard = OverheardDelivery(self._settings)
        return self._overheard

    @property
    def held(self) -> str | None:
        """Why a worker holds the batch, if it has said so."""
        return None if self._overheard is None else self._overheard.held

"""The errors of the library. A class's docstring is its default message."""


class ExecutionLoggerError(Exception):
    """The execution logger failed."""

    exit_code = 3
    """Of a command that ends with it: 1 something was found, 2 usage or settings, 3 it could not look."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__class__.__doc__)


class SettingsError(ExecutionLoggerError):
    """A setting has a value that cannot be used."""

    exit_code = 2


class DeliveryError(ExecutionLoggerError):
    """A batch could not be handed over now; the same batch is sent again later."""


class BrokerFullError(DeliveryError):
    """The broker has no room for more batches; they are sent when it has."""


class StoreUnavailableError(ExecutionLoggerError):
    """The database cannot take any rows now; the batch is kept and written later."""


class BatchHeldError(StoreUnavailableError):
    """The database works and does not take this batch now; it is kept, and others may go on."""


class TableRefusesError(BatchHeldError):
    """The database refuses every entry for one reason: somebody has to change the table or a setting."""


class ResultsUnavailableError(ExecutionLoggerError):
    """The result backend does not answer; what became of a batch is not known now."""

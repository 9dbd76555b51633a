"""Drop-in asynchronous logging for long workflows and agents."""

__version__ = "0.1.0"

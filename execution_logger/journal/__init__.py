"""The journal: entries on disk until they are safe elsewhere, whatever becomes of their process."""

from execution_logger.journal.adoption import Adoption, NoAdoption
from execution_logger.journal.directory import Destination, find_destination
from execution_logger.journal.journal import Journal, NoJournal

__all__ = ["Adoption", "Destination", "Journal", "NoAdoption", "NoJournal", "find_destination"]

"""What hosts, Redis, workers and PostgreSQL take for a message of so many entries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

ROLES = ("hosts", "Redis", "workers", "PostgreSQL")


@dataclass(frozen=True)
class Service:
    """Processor time of one role, in seconds."""

    message: float
    entry: float

    def of(self, entries: int) -> float:
        """For a message of so many entries."""
        return self.message + self.entry * entries


@dataclass(frozen=True)
class Services:
    """What every role takes, and what is waited for without a processor."""

    host: Service
    redis: Service
    worker: Service
    postgres: Service
    commit_seconds: float = 0.0
    """Until the disk has a commit; 0 where PostgreSQL does not wait for it."""
    network_seconds: float = 0.0
    """Of one way between two machines."""

    @classmethod
    def measured(cls, values: Mapping[str, float]) -> Self:
        """The processor times that scale.py has found."""
        hosts, redis, workers, postgres = (
            Service(values[f"{role} message_us"] / 1e6, values[f"{role} entry_us"] / 1e6) for role in ROLES
        )
        return cls(hosts, redis, workers, postgres)

"""A logger inside users' data: however that is copied, there is one pipeline."""

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from threading import Lock
from typing import Any

import cloudpickle
import pytest
from pydantic import BaseModel, ConfigDict

from children import run_script
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, Settings, SyncExecutionLogger, execution_logger
from execution_logger.testing import MemoryDelivery, capture_entries

AnyLogger = ExecutionLogger | SyncExecutionLogger
Copy = Callable[[Any], Any]


@dataclass
class Agent:
    """A host's own data."""

    log: AnyLogger


class Model(BaseModel):
    """The same in pydantic."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    log: ExecutionLogger | SyncExecutionLogger


class Named(ExecutionLogger):
    """A logger of a host's own kind."""

    name = ""


delivery = MemoryDelivery()
"""Of loggers that are pickled: what they are made with has to be found by its name."""


def make_delivery() -> MemoryDelivery:
    """It is the one above."""
    return delivery


def pickled(protocol: int, log: AnyLogger) -> Any:
    """Pickle it by this protocol, and make it anew of that."""
    return pickle.loads(pickle.dumps(log, protocol))


COPIES: dict[str, Copy] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "asdict": lambda log: asdict(Agent(log))["log"],
    "model_copy": lambda log: Model(log=log).model_copy(deep=True).log,
    "in a list": lambda log: copy.deepcopy([{"log": log}])[0]["log"],
    "cloudpickle": lambda log: pickle.loads(cloudpickle.dumps(log)),
    **{f"pickle {protocol}": partial(pickled, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}

KINDS: dict[str, Callable[[ExecutionLogger], AnyLogger]] = {
    "itself": lambda log: log,
    "bound": lambda log: log.bind(step="a", more=[1]),
    "bound twice": lambda log: log.bind(step="a").bind(more=[1]),
    "sync": lambda log: log.sync,
    "sync, bound": lambda log: log.sync.bind(step="a", more=[1]),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Callable[[ExecutionLogger], AnyLogger]:
    """What a host keeps: the logger, or one that is made from it."""
    return KINDS[request.param]


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Copy:
    """How it is copied."""
    return COPIES[request.param]


def logger_of(log: AnyLogger) -> ExecutionLogger:
    """The one with coroutines."""
    return log.logger if isinstance(log, SyncExecutionLogger) else log


def record(log: AnyLogger) -> tuple[Any, Any]:
    """Make a call, and return the fields that were filled in."""
    entry = logger_of(log).sync.info("t", "agent", "hello")
    return entry.step, entry.details


@pytest.mark.parametrize("is_used", [True, False])
def test_a_copy_of_the_ready_logger(kind: Callable[..., AnyLogger], copied: Copy, is_used: bool) -> None:  # noqa: FBT001
    """Its entries go where those of all others go, with the same fields."""
    original = kind(execution_logger)
    with capture_entries() as entries:
        if is_used:
            record(original)
        copy_of_it = copied(original)
        assert record(copy_of_it) == record(original)
        assert type(copy_of_it) is type(original)
    assert len(entries) == 2 + is_used


@pytest.mark.parametrize("is_used", [True, False])
def test_a_copy_of_another_logger(kind: Callable[..., AnyLogger], copied: Copy, is_used: bool) -> None:  # noqa: FBT001
    """It has no second thread, and no second journal."""
    delivery.batches.clear()
    logger = ExecutionLogger(Settings(), make_delivery=make_delivery)
    original = kind(logger)
    if is_used:
        record(original)
    copy_of_it = copied(original)
    assert record(copy_of_it) == record(original)
    assert logger_of(copy_of_it)._host is logger._host
    logger.sync.shutdown(DEADLINE_SECONDS)
    assert len(delivery.entries) == 2 + is_used


def test_the_ready_logger_is_itself(copied: Copy) -> None:
    """As with those of the standard library."""
    assert copied(execution_logger) is execution_logger


def test_what_a_logger_is_bound_to_is_not_copied() -> None:
    """It may be anything: a lock has no copy."""
    lock = Lock()
    with capture_entries():
        assert copy.deepcopy(execution_logger.bind(lock=lock))._bound == {"lock": lock}


def test_a_copy_may_be_bound_to_more() -> None:
    """That changes nothing of the original."""
    original = execution_logger.bind(step="a")
    changed = copy.copy(original).bind(step="b")
    with capture_entries():
        assert (record(original)[0], record(changed)[0]) == ("a", "b")


def test_a_subclass_keeps_what_is_its_own() -> None:
    """Its class, and its attributes."""
    logger = Named(make_delivery=make_delivery)
    logger.name = "mine"
    for copied in (copy.copy, copy.deepcopy, partial(pickled, 4)):
        copy_of_it = copied(logger.bind(step="a"))
        assert isinstance(copy_of_it, Named)
        assert copy_of_it.name == "mine"


def test_a_process_makes_one_pipeline_of_all_copies() -> None:
    """Wherever they were pickled: each would have a thread and a journal of its own."""
    settings = Settings(celery_enabled=False, database_url="postgresql://somebody@127.0.0.1/log")
    data = pickle.dumps([ExecutionLogger(settings).bind(step="a"), execution_logger.bind(step="b")]).hex()
    printed = run_script(
        f"""
        import pickle
        from execution_logger import execution_logger
        copies = [pickle.loads(bytes.fromhex("{data}")) for _ in range(2)]
        (first, ready), (second, _) = copies
        print(first._host is second._host, ready._host is execution_logger._host, first._host is ready._host)
        print(first._host.settings.database_url, first._bound, ready._bound)
        """
    )
    assert printed.splitlines() == [
        "True True False",
        "postgresql://somebody@127.0.0.1/log {'step': 'a'} {'step': 'b'}",
    ]


def test_a_child_that_is_spawned_may_be_given_one() -> None:
    """As an argument, which is pickled."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(repr, (execution_logger,)).startswith(
            "<execution_logger.api.logger.ExecutionLogger"
        )
        pool.close()
        pool.join()

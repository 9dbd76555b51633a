"""What an import loads, and that a call loads nothing: a child forked meanwhile would wait for it."""

import pytest

from children import run_script

WATCHED = """
    import asyncio, contextlib, sys, threading
    import execution_logger
    from execution_logger import ExecutionLogger, LogCategory, Settings
    from execution_logger import execution_logger as logger

    imported = []

    class Watcher:
        def find_spec(self, name, path=None, target=None):
            # What the delivery needs is imported by the thread that delivers, and a fork waits for it.
            if threading.current_thread().name != "execution-logger":
                imported.append(name)

    sys.meta_path.insert(0, Watcher())
    before = set(sys.modules)
"""

CALLS = {
    "a call": "logger.sync.info('t', 'agent', 'started')",
    "odd data": """
import datetime, decimal, uuid, pathlib
imported.clear()
logger.sync.info(
    't', 'agent', 'started', duration_ms=2**70,
    details={'a': {1, 2}, 'b': b'x', 'c': datetime.datetime.now(), 'd': decimal.Decimal(1), 'e': uuid.uuid4(),
             'f': pathlib.Path('/'), 'g': object(), 'h': ValueError('x'), 'i': float('nan'), 'password': 1,
             'j': chr(0) + chr(0xd800), 'k': 'x' * 300_000, 'l': (n for n in 'ab'),
             'm': datetime.timedelta(1)},
)
""",
    "an error": """
try:
    with logger.sync.timed_operation('t', 'agent', 'step') as timer:
        timer.set_details({'a': 1})
        raise ValueError('x')
except ValueError:
    pass
""",
    "errors that Python explains": """
import asyncio, json
colour = 1
def name(): return colou
def attribute(): return json.load_s
def from_module(): from asyncio import task_s
def module(): import no_such_module
def syntax(): compile('if x\\n', 'f', 'exec')
def in_a_file(): json.loads('x')
def group(): raise ExceptionGroup('several', errors)
errors = []
for fail in (name, attribute, from_module, module, syntax, in_a_file, group):
    try:
        fail()
    except Exception as error:
        errors = [*errors, error]
assert len(errors) == 7
logger.sync.info('t', 'agent', 'x')
imported.clear()
for error in errors:
    logger.sync.exception('t', 'agent', 'failed', exc_info=error)
""",
    "a coroutine": """
async def run():
    with logger.context(step='s'):
        await logger.bind(agent_name='a').log_tool_call('t', 'a', 'tool', 'called', details={'x': [1]})
    async with logger.timed_operation('t', 'agent', 'step'):
        pass
    await logger.flush(0.01)
asyncio.run(run())
""",
    "a lifespan": """
async def run():
    async with logger.lifespan():
        await logger.info('t', LogCategory.AGENT, 'started')
asyncio.run(run())
""",
    "stats": "logger.stats()",
    "flush": "logger.sync.info('t', 'agent', 'started'); logger.sync.flush(0.01, until='stored')",
    "shutdown": """
logger.sync.info('t', 'agent', 'x')
logger.sync.shutdown(0.01)
logger.sync.info('t', 'agent', 'x')
""",
    "many": "for _ in range(3000): logger.sync.info('t', 'agent', 'started' * 40)",
    "a logger of one's own": """
ExecutionLogger(Settings(journal=False, shutdown_timeout_seconds=0.1)).sync.error('t', 'api', 'x')
""",
    "the end of the process": "logger.sync.info('t', 'agent', 'x'); logger._host.start().at_exit()",
    "a fork": """
import os
imported.clear()
logger.sync.info('t', 'agent', 'x')
child = os.fork()
logger.sync.info('t', 'agent', 'x')
if not child:
    assert not imported, imported
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
""",
}


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_imported_in_a_call(name: str) -> None:
    """Whatever is called first, with a journal and a broker that is away."""
    script = "\n".join(line[4:] for line in WATCHED.splitlines())
    run_script(
        f"{script}\n{CALLS[name]}\nassert not imported, imported\n",
        environment={
            "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
            "EXECUTION_LOGGER_SHUTDOWN_TIMEOUT_SECONDS": "0.1",
        },
    )


def test_what_the_package_loads() -> None:
    """Neither Celery nor SQLAlchemy: a host that only imports it pays for neither."""
    run_script(
        """
        import sys
        import execution_logger
        assert not {"celery", "kombu", "redis", "sqlalchemy", "alembic"} & set(sys.modules)
        """
    )


def test_what_the_page_loads() -> None:
    """Nothing of Celery, until somebody looks at the health of the pipeline: it would start half as fast."""
    run_script(
        """
        import sys
        import execution_logger.web
        assert not {"celery", "kombu", "redis", "alembic"} & set(sys.modules)
        """
    )

"""The servers that the other tests rely on."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from processes import LocalProcess
from server import Server
from servers import PostgresServer, RedisServer
from waiting import wait_until


def test_redis_keeps_its_data_over_restart_and_kill(own_redis_server: RedisServer) -> None:
    """With the append-only file nothing is lost, and the port stays."""
    url = own_redis_server.url()
    for end in (own_redis_server.stop, own_redis_server.kill):
        with own_redis_server.client() as client:
            client.incr("starts")
            wait_until(lambda: client.info("persistence")["aof_last_write_status"] == "ok")
        end()
        own_redis_server.start()
    with redis.Redis.from_url(url) as client:
        assert client.get("starts") == b"2"


def test_redis_takes_options() -> None:
    """An option reaches the server under its name in redis.conf."""
    with RedisServer(appendonly="no", maxmemory_policy="noeviction") as server, server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "no"}


def test_redis_does_not_answer_while_paused(own_redis_server: RedisServer) -> None:
    """A paused server accepts a connection and says nothing; resumed, it goes on."""
    with redis.Redis.from_url(own_redis_server.url(), socket_timeout=0.2, retry=None) as client:
        own_redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_redis_server.resume()
        wait_until(client.ping)


def test_redis_url_is_empty_each_time(redis_url: str) -> None:
    """What an earlier test wrote is gone."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


test_redis_url_is_empty_the_next_time = test_redis_url_is_empty_each_time


def test_postgres_keeps_its_data_over_restart_and_kill(own_postgres_server: PostgresServer) -> None:
    """Committed rows are there again after a crash, on the same port."""
    own_postgres_server.execute("CREATE TABLE starts (n int)")
    for end in (own_postgres_server.stop, own_postgres_server.kill):
        own_postgres_server.execute("INSERT INTO starts VALUES ($1)", 1)
        end()
        own_postgres_server.start()
    assert own_postgres_server.execute("SELECT count(*) FROM starts")[0][0] == 2


async def test_postgres_does_not_answer_while_paused(own_postgres_server: PostgresServer) -> None:
    """Sessions that are open freeze as well, and go on afterwards."""
    connection = await asyncpg.connect(own_postgres_server.url())
    own_postgres_server.pause()
    with pytest.raises(TimeoutError):
        await asyncpg.connect(own_postgres_server.url(), timeout=0.3)
    own_postgres_server.resume()
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_postgres_url_is_an_empty_database(postgres_url: str) -> None:
    """Nothing of an earlier test is in it."""
    connection = await asyncpg.connect(postgres_url)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await connection.execute("CREATE TABLE left_over (n int)")
    await connection.close()
    assert tables == 0


test_postgres_url_is_an_empty_database_each_time = test_postgres_url_is_an_empty_database


def test_a_database_is_copied_from_its_template(postgres_server: PostgresServer) -> None:
    """A schema that is made once can be had many times."""
    template = postgres_server.create_database()
    postgres_server.execute("CREATE TABLE copied (n int)", database=template)
    copy = postgres_server.create_database(template)
    assert postgres_server.execute("SELECT count(*) FROM copied", database=copy)[0][0] == 0
    for name in (copy, template):
        postgres_server.drop_database(name)


@pytest.mark.parametrize("make", [RedisServer, PostgresServer])
def test_a_closed_server_leaves_no_folder(make: Callable[[], Server]) -> None:
    """Its data goes with it; the leak check sees to its processes."""
    with make() as server:
        folder = server.folder
        assert folder.is_dir()
    assert not folder.exists()


def test_a_server_that_cannot_start_says_why() -> None:
    """Its own words are in the error, and nothing of it is left."""
    with pytest.raises(RuntimeError, match="no-such-option"), RedisServer(no_such_option="1"):
        pytest.fail("a server with a wrong option must not start")


def test_kill_reaches_what_a_process_started(tmp_path: Path) -> None:
    """A child that its parent leaves behind is gone too."""
    process = LocalProcess(["bash", "-c", "sleep 60 & echo $!; wait"], output=tmp_path / "output.txt")
    wait_until(lambda: process.output.strip().isdigit())
    child = psutil.Process(int(process.output))
    process.kill()
    assert not process.is_running()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    """That is an error with the process's own words in it, and the process is gone."""
    script = "trap '' TERM; echo deaf; while true; do sleep 0.1; done"
    process = LocalProcess(["bash", "-c", script], output=tmp_path / "output.txt")
    wait_until(lambda: "deaf" in process.output)
    with pytest.raises(TimeoutError, match=r"SIGTERM and was killed. Its output:\ndeaf"):
        process.stop(timeout_seconds=0.3)
    assert not process.is_running()

"""What the doctor makes of a Redis' description of itself."""

from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from execution_logger.operate.doctor import Finding, Level
from execution_logger.operate.doctor.broker import (
    clients,
    eviction,
    memory,
    persistence,
    refused_commands,
    unreachable,
    version,
)

MEGABYTE = 1_000_000


@pytest.mark.parametrize("text", ["6.2.0", "7.0.15", "8.1", "10.0.0", "", "unstable"])
def test_a_version_that_will_do_is_no_finding(text: str) -> None:
    """Nor is one that nobody can read."""
    assert list(version("broker", text)) == []


@pytest.mark.parametrize("text", ["2.8.24", "5.0.14", "6.0.16"])
def test_an_old_version_is_an_error(text: str) -> None:
    """It lacks commands."""
    (finding,) = version("broker", text)
    assert (finding.name, finding.level) == ("broker.version", Level.ERROR)
    assert text in finding.what


@pytest.mark.parametrize(
    ("policy", "maxmemory", "level"),
    [
        ("allkeys-lru", 1, Level.ERROR),
        ("allkeys-random", 0, Level.WARNING),
        ("volatile-lru", 1, Level.WARNING),
    ],
)
def test_every_policy_that_evicts_is_found(policy: str, maxmemory: int, level: Level) -> None:
    """It is an error where batches are thrown away today."""
    (finding,) = eviction("broker", {"maxmemory_policy": policy, "maxmemory": maxmemory})
    assert finding.level is level
    assert f"maxmemory-policy is {policy}" in finding.what
    assert "maxmemory-policy noeviction" in finding.advice


def test_noeviction_is_no_finding() -> None:
    """Nor is a server that does not tell."""
    assert list(eviction("broker", {"maxmemory_policy": "noeviction", "maxmemory": 1})) == []
    assert list(eviction("broker", {})) == []


@pytest.mark.parametrize(
    ("save_points", "text"),
    [("", "no persistence at all"), ("3600 1", "snapshots only"), (None, "snapshots only")],
)
def test_without_the_append_only_file_a_crash_costs_the_queue(save_points: str | None, text: str) -> None:
    """Snapshots lose what came after the last one."""
    (finding,) = persistence("broker", {"aof_enabled": 0}, save_points)
    assert finding.level is Level.WARNING
    assert text in finding.what


def test_a_disk_that_takes_nothing_is_an_error() -> None:
    """Redis then refuses every write."""
    (finding,) = persistence("broker", {"aof_enabled": 1, "aof_last_write_status": "err"}, "")
    assert finding.level is Level.ERROR
    assert "aof_last_write_status" in finding.what


@pytest.mark.parametrize(
    ("used", "limit", "level"),
    [
        (1, 0, None),
        (1, 300 * MEGABYTE, None),
        (1, 299 * MEGABYTE, Level.WARNING),
        (799 * MEGABYTE, 1000 * MEGABYTE, None),
        (800 * MEGABYTE, 1000 * MEGABYTE, Level.WARNING),
        (950 * MEGABYTE, 1000 * MEGABYTE, Level.ERROR),
    ],
)
def test_memory_must_do_for_the_queue_up_to_its_limit(used: int, limit: int, level: Level | None) -> None:
    """10,000 batches take about 300 MB; without a limit nobody can tell."""
    found = list(memory("broker", {"used_memory": used, "maxmemory": limit}, queue_max_messages=10_000))
    assert [finding.level for finding in found] == ([] if level is None else [level])


def test_the_limit_that_is_advised_fits() -> None:
    """Who follows the advice is left alone afterwards."""
    info = {"used_memory": 1, "maxmemory": 64 * MEGABYTE}
    (finding,) = memory("broker", info, queue_max_messages=10_000)
    advised = int(finding.advice.partition("QUEUE_MAX_MESSAGES=")[2].partition(" ")[0])
    assert list(memory("broker", info, queue_max_messages=advised)) == []


def test_clients_that_are_nearly_too_many_are_found() -> None:
    """The next host could not connect."""
    assert list(clients("broker", {"connected_clients": 79, "maxclients": 100})) == []
    (finding,) = clients("broker", {"connected_clients": 80, "maxclients": 100})
    assert finding.level is Level.WARNING


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("invalid username-password pair or user is disabled.", "is wrong"),
        ("Authentication required.", "put the password into X"),
        ("Error 111 connecting to a:1. Connection refused.", "start the server"),
        ("Error -2 connecting to nope:1. Name or service not known.", "correct the host's name in X"),
        ("Protocol Error: b'HTTP/1.1 400 Bad Request'", "is that a Redis"),
        ("DB index is out of range", "correct the database's number in X"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", "rediss://"),
        ("something new", "check X"),
    ],
)
def test_each_kind_of_failure_has_its_own_advice(problem: str, advice: str) -> None:
    """The driver's words are kept."""
    finding = unreachable("broker", problem, "X", is_set=True)
    assert (finding.name, finding.level, finding.what) == ("broker.connection", Level.ERROR, problem)
    assert advice in finding.advice


def test_a_server_that_hangs_is_said_to_hang() -> None:
    """After as long as a host waits."""
    finding = unreachable("broker", "redis://a:1/0: Timeout reading from socket", "X", is_set=True)
    assert finding.what == "redis://a:1/0: no answer within 1 s"
    assert "hangs" in finding.advice


def test_a_default_that_does_not_answer_is_probably_not_meant() -> None:
    """Then the variable is the advice."""
    assert unreachable("broker", "refused", "X", is_set=False).advice.startswith("set X (it is not set")


class Connection:
    """A connection of redis-py whose answers are known."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[str] = []
        self.is_open = True

    def send_command(self, *command: str) -> None:
        """Note it."""
        self.sent.append(command[0])

    def read_response(self) -> bytes:
        """The next one."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def disconnect(self) -> None:
        """Note it."""
        self.is_open = False


class Client:
    """Holds it."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.connection = Connection(*answers)


def ask(client: Client) -> list[Finding]:
    """Ask for two commands."""
    found: Any = refused_commands("broker", client, [("LPUSH", "logs", "x"), ("LLEN", "logs")])
    return list(found)


def test_what_redis_refuses_is_found_and_nothing_is_carried_out() -> None:
    """The connection ends before EXEC."""
    client = Client(b"OK", NoPermissionError("no permissions to run lpush"), b"QUEUED")
    (finding,) = ask(client)
    assert finding.what == "Redis refuses LPUSH logs: no permissions to run lpush"
    assert client.connection.sent == ["MULTI", "LPUSH", "LLEN"]
    assert not client.connection.is_open


def test_all_keys_that_are_refused_are_named() -> None:
    """A user of one prefix learns at once that it is not enough."""
    refusal = NoPermissionError("no permissions to access one of the keys used as arguments")
    (finding,) = ask(Client(b"OK", refusal, refusal))
    assert finding.what.startswith("Redis refuses LPUSH logs, LLEN logs: no permissions")
    assert "one prefix is not enough" in finding.advice


@pytest.mark.parametrize("answer", [NoPermissionError("no multi"), b"QUEUED"])
def test_without_a_transaction_no_command_is_sent(answer: bytes | Exception) -> None:
    """It would be carried out, and a batch that is none would be in the queue."""
    client = Client(answer)
    if isinstance(answer, Exception):
        with pytest.raises(NoPermissionError):
            ask(client)
    else:
        assert ask(client) == []
    assert client.connection.sent == ["MULTI"]
    assert not client.connection.is_open

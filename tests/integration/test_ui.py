"""The page's server on a real PostgreSQL: live streams through kills and outages, mounts, and any request."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import event

from anything import EXAMPLES
from batches import encoded
from execution_logger.read.groups import count_names
from execution_logger.read.pages import Pages
from execution_logger.read.place import Place
from execution_logger.read.runs import recent_runs
from execution_logger.read.skeleton import count_entries, read_outlines
from execution_logger.read.summary import describe_run
from execution_logger.read.timeline import Only, Timeline
from postgresql_site import PostgresqlSite
from rows import upgrade_database
from servers import PostgresServer
from ui_process import ANSWER_SECONDS, UiProcess, reading
from waiting import wait_until

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
MAX_QUERY_CHARS = 4000
START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[PostgresqlSite]:
    """A database with the library's tables."""
    async with PostgresqlSite(database_url) as site:
        yield site


@pytest.fixture
def ui(database_url: str, tmp_path: Path) -> Iterator[UiProcess]:
    """The page of that database."""
    with UiProcess(database_url, tmp_path) as ui:
        yield ui


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start."""
    at = (START + timedelta(seconds=second)).isoformat()
    return encoded(**{"created_at": at, "message": str(second), **changed})


async def stored_ids(site: PostgresqlSite, task_id: str = "t") -> list[str]:
    """The ids of a run's entries, in the order of time."""
    rows = await site.rows("SELECT id, task_id FROM execution_logs ORDER BY created_at, id")
    return [str(row["id"]) for row in rows if row["task_id"] == task_id]


def end_of(ui: UiProcess, task_id: str = "t") -> str:
    """Where a skeleton ends."""
    skeleton = ui.get("run/skeleton", task_id=task_id)
    return f"{skeleton['place']}.{skeleton['total']}"


async def test_no_entry_is_missed_or_told_twice_while_the_server_is_killed_and_comes_again(
    site: PostgresqlSite, ui: UiProcess
) -> None:
    """By the id of the last event alone; nobody has read the run again."""
    await site.write(entry(0))
    known = await stored_ids(site)
    async with reading(f"{ui.url}api/run/live", task_id="t", **{"from": end_of(ui)}) as reader:
        await reader.wait_for("begin")
        for number in range(1, 61):
            await site.write(entry(number), entry(number + 0.5), batch_id=str(number))
            if number % 20 == 10:
                await reader.wait_for("begin", number // 20 + 1)  # it is there again before the next kill
                await reader.wait_for_entries(2)
                assert ui.process is not None
                ui.process.kill()
            if number % 20 == 15:
                await asyncio.to_thread(ui.start)
        told = await reader.wait_for_entries(120)
    assert not reader.of("resync")
    assert reader.connections >= 4
    assert known + told == await stored_ids(site)


async def test_a_batch_that_comes_late_is_told_to_all_who_look(site: PostgresqlSite, ui: UiProcess) -> None:
    """All of them look by way of one poller: the connections do not become more."""
    await site.write(*(entry(number) for number in range(10)))
    async with AsyncExitStack() as stack:
        begin = end_of(ui)
        readers = [
            await stack.enter_async_context(reading(f"{ui.url}api/run/live", task_id="t", **{"from": begin}))
            for _ in range(50)
        ]
        for reader in readers:
            await reader.wait_for("begin")
        await site.write(entry(3.5), batch_id="late")
        for reader in readers:
            await reader.wait_for_entries(1)
            assert reader.of("entries")[0]["late"]
        backends = await site.rows(
            "SELECT count(*) AS number FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'execution_logger'"
        )
        assert backends[0]["number"] <= 4 + site.engine.pool.checkedin()  # type: ignore[attr-defined]


async def test_what_came_late_while_nobody_looked_has_all_read_again(
    site: PostgresqlSite, ui: UiProcess
) -> None:
    """Then both together are the run."""
    await site.write(entry(0), entry(9))
    begin = end_of(ui)
    await site.write(entry(5), batch_id="late")
    async with reading(f"{ui.url}api/run/live", task_id="t", **{"from": begin}) as reader:
        await reader.wait_for("resync")
        await site.write(entry(10), batch_id="3")
        await reader.wait_for_entries(1)
        again = ui.get("run/skeleton", task_id="t")["columns"]["id"]
    assert sorted({*again, *reader.entries()}) == sorted(await stored_ids(site))


async def test_a_server_that_is_told_to_stop_ends_its_streams(site: PostgresqlSite, ui: UiProcess) -> None:
    """In order, and soon; nothing is left in the database."""
    async with reading(f"{ui.url}api/runs/live") as reader:
        await reader.wait_for("runs")
        assert ui.process is not None
        await asyncio.to_thread(ui.process.stop, signal.SIGTERM)
        await reader.wait_for("end")
        # Once each time that it has come: it may come again before the port is closed.
        assert reader.of("end") in [[{"reason": "shutdown"}] * n for n in range(1, reader.connections + 1)]
    assert "Traceback" not in ui.output


async def test_an_outage_of_the_database_is_told_and_survived(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """The streams stay, and go on."""
    upgrade_database(own_postgres_server.url())
    site = PostgresqlSite(own_postgres_server.url())
    with UiProcess(own_postgres_server.url(), tmp_path) as ui:
        async with site, reading(f"{ui.url}api/run/live", task_id="t", **{"from": ".0"}) as reader:
            await site.write(entry(0))
            await reader.wait_for_entries(1)
            await asyncio.to_thread(own_postgres_server.stop)
            await reader.wait_for("trouble")
            answer = await asyncio.to_thread(httpx.get, f"{ui.url}api/runs", timeout=ANSWER_SECONDS)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_away")
            await asyncio.to_thread(own_postgres_server.start)
            await reader.wait_for("trouble", 2)
            assert reader.of("trouble")[-1] == {"message": None}
            await site.engine.dispose()
            await site.write(entry(1), batch_id="2")
            assert await reader.wait_for_entries(2) == await stored_ids(site)
            assert reader.connections == 1


async def test_a_place_of_another_table_is_refused(site: PostgresqlSite, ui: UiProcess) -> None:
    """Here ids are UUIDs, and names of runs are not."""
    await site.write(entry(0))
    strange = Place(START, "x").to_token()
    for path, query in (
        ("run/entries", {"task_id": "t", "after": strange}),
        ("run/skeleton", {"task_id": "t", "after": strange}),
    ):
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
            answer = await client.get(f"{ui.url}api/{path}", params=query)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_place")


async def test_what_no_database_takes_is_unknown(
    site: PostgresqlSite, database_url: str, tmp_path: Path
) -> None:
    """NUL, in any place of a request."""
    await site.write(entry(0))
    with UiProcess(database_url, tmp_path, "--allow-changes") as ui:
        async with httpx.AsyncClient(base_url=f"{ui.url}api/", timeout=ANSWER_SECONDS) as client:
            answer = await client.post("dead-letters/retry", json={"ids": ["a\0b"]})
            assert answer.json() == {"stored": 0, "refused": {}}
            for path in ("run", "run/skeleton", "run/completeness"):
                assert (await client.get(path, params={"task_id": "a\0b"})).status_code == 404
            for name in ("text", "step", "agent", "category"):
                assert (await client.get("runs", params={name: "a\0b"})).json()["runs"] == []
            found = await client.get("run/entries", params={"task_id": "t", "id": "a\0b"})
            assert found.json()["entries"] == []
            strange = Place(START, "a\0b").to_token()
            for path in ("runs", "dead-letters"):
                assert (await client.get(path, params={"after": strange})).status_code == 200


async def test_every_page_of_a_run_is_read_from_its_index(site: PostgresqlSite) -> None:
    """However many other runs there are: nothing reads the table from one end to the other."""
    await site.rows(
        "INSERT INTO execution_logs (id, task_id, level, category, message, created_at)"
        " SELECT gen_random_uuid(), 'run-' || n % 300, 'info', 'agent', 'm', now() - n * interval '1 s'"
        " FROM generate_series(1, 60000) AS n"
    )
    await site.rows("VACUUM ANALYZE execution_logs")
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "execution_logs" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
            plans.append("\n".join(rows))

    timeline = Timeline(site.engine, site.settings, "run-7")
    pages = Pages(timeline)
    entry = (await pages.after(None, 100))[99]
    place = Place(entry.created_at, entry.id)
    event.listen(site.engine.sync_engine, "before_cursor_execute", explain)
    await pages.after(place, 10)
    await pages.before(place, 10)
    await pages.search(Only(text="m"), 10)
    await read_outlines(timeline, place, 10)
    await count_entries(timeline, up_to=place)
    await describe_run(timeline)
    await count_names(timeline)
    await recent_runs(site.engine, site.settings, limit=20)
    assert len(plans) >= 10
    for plan in plans:
        assert "Seq Scan on execution_logs" not in plan, plan


async def test_no_request_is_a_defect(site: PostgresqlSite, database_url: str, tmp_path: Path) -> None:
    """Whatever is asked for, by the description of the API or against it."""
    await site.write(*(entry(number, task_id="0") for number in range(30)), '{"x": 1}')
    with UiProcess(database_url, tmp_path, "--allow-changes") as ui:
        await asyncio.to_thread(fuzz, f"{ui.url}api/openapi.json")
        assert "Traceback" not in ui.output


def fuzz(url: str) -> None:
    """Ask for everything, in many ways."""
    schema = schemathesis.openapi.from_url(url).exclude(path_regex="live|health")
    asked: set[str] = set()
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        asked.add(operation.path)
        raw = operation.definition.raw
        can_be_wrong = raw.get("parameters") or "requestBody" in raw
        for mode in list(schemathesis.GenerationMode)[: None if can_be_wrong else 1]:
            # Without shrinking: each step of it would be a request.
            @settings(
                max_examples=EXAMPLES,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.explicit, Phase.generate],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                # The server itself hangs up on what no application is to see.
                assume(len(str(case.query)) < MAX_QUERY_CHARS)
                case.call_and_validate(checks=CHECKS, timeout=ANSWER_SECONDS)

            ask()
    assert len(asked) >= 11


async def test_others_open_the_link_that_it_prints(
    site: PostgresqlSite, database_url: str, tmp_path: Path
) -> None:
    """Once; then the cookie lets them in, and a second link is printed."""
    await site.write(entry(0))
    with UiProcess(database_url, tmp_path, "--address", "0.0.0.0") as ui:
        (link,) = re.findall(r"/(login\?code=\S+)", ui.output)
        async with httpx.AsyncClient(base_url=ui.url, timeout=ANSWER_SECONDS) as client:
            assert (await client.get("api/runs")).status_code == 403
            answer = await client.get(link, follow_redirects=True)
            assert str(answer.url) == ui.url
            assert (await client.get("api/runs")).json()["runs"][0]["task_id"] == "t"
        async with httpx.AsyncClient(base_url=ui.url, timeout=ANSWER_SECONDS) as other:
            assert (await other.get(link)).status_code == 403
        await asyncio.to_thread(
            wait_until, lambda: len(set(re.findall(r"code=(\S+)", ui.output))) == 2, message=lambda: ui.output
        )

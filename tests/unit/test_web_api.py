"""The read API: each resource, what it refuses, and its description."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import uuid4

import httpx
import msgspec
import pytest

import execution_logger
from batches import encoded
from execution_logger.read.formats import FORMATS
from execution_logger.settings import Settings
from execution_logger.store.dead_letters import dead_letter_id
from execution_logger.web import Permission, answers, app, create_app, queries
from execution_logger.web.app import RESOURCES, STREAMS
from sqlite_site import SqliteSite

START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.fixture
async def client(site: SqliteSite) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who may do all."""
    application = create_app(site.settings, lambda _: Permission.CHANGE)
    transport = httpx.ASGITransport(application)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://here") as client,
        application.router.lifespan_context(application),
    ):
        yield client


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """The answer's JSON."""
    answer = await client.get(f"/api/{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def refused(client: httpx.AsyncClient, path: str, **query: Any) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    answer = await client.get(f"/api/{path}", params=query)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start."""
    at = (START + timedelta(seconds=second)).isoformat()
    return encoded(**{"created_at": at, "message": str(second), **changed})


def lasting(task_id: str, begin: float, end: float, state: str = "done") -> list[str]:
    """The entries of a run with one entry in it."""
    operation = str(uuid4())
    marks = {"task_id": task_id, "operation_id": operation}
    return [
        entry(begin, message="run started", details={"run_state": "running"}, **marks),
        entry((begin + end) / 2, task_id=task_id, parent_id=operation, step="plan", agent_name="author"),
        entry(end, message="run ended", details={"run_state": state}, duration_ms=5, **marks),
    ]


async def test_it_says_what_it_is(client: httpx.AsyncClient) -> None:
    """And that it may change."""
    about = await get(client, "about")
    assert about["version"] == execution_logger.__version__
    assert about["permissions"] == ["read", "change"]
    assert "may still change" in about["note"]


async def test_the_runs_by_pages_and_filters(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """With what is known of each."""
    for number, state in enumerate(["done", "failed", "done"]):
        await site.write(*lasting(f"run-{number}", 10 * number, 10 * number + 4, state), batch_id=str(number))
    await site.write(entry(5, task_id="plain", level="error", message="no such FILE"), batch_id="p")
    found = await get(client, "runs", limit=2)
    assert [run["task_id"] for run in found["runs"]] == ["run-2", "run-1"]
    assert found["runs"][0] == {
        "task_id": "run-2", "first_at": "2026-11-22T02:00:20Z", "last_at": "2026-11-22T02:00:24Z",
        "duration_ms": 4000.0, "entries": 3, "errors": 0, "warnings": 0, "is_cut": False, "last_step": "plan",
        "last_agent": "author", "ended_in_error": False, "state": "done",
    }  # fmt: skip
    found = await get(client, "runs", limit=5, after=found["next"])
    assert [run["task_id"] for run in found["runs"]] == ["plain", "run-0"]
    assert (found["next"], found["is_complete"], found["runs"][0]["state"]) == (None, True, None)
    for query, names in (
        ({"state": "failed"}, ["run-1"]),
        ({"state": ["failed", "unknown"]}, ["run-1", "plain"]),
        ({"with_errors": "true"}, ["plain"]),
        ({"level": "error"}, ["plain"]),
        ({"text": "file"}, ["plain"]),
        ({"step": ["plan", "x"], "agent": "author", "until": "2026-11-22T02:00:05+00:00"}, ["run-0"]),
        ({"category": "nope"}, []),
    ):
        assert [run["task_id"] for run in (await get(client, "runs", **query))["runs"]] == names, query


async def test_a_run_and_its_activity(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """Runs that are not there are told apart."""
    await site.write(*lasting("a/b?c=中 文", 0, 8))
    found = await get(client, "run", task_id="a/b?c=中 文")
    assert found["run"]["entries"] == 3
    assert found["steps"] == [{"name": "plan", "entries": 1, "errors": 0}]
    activity = await get(client, "runs/activity", task_id=["a/b?c=中 文", "nope"], buckets=2)
    assert activity == {"activity": {"a/b?c=中 文": [1, 2], "nope": None}}
    for path in ("run", "run/completeness", "run/skeleton", "run/export"):
        assert (await refused(client, path, task_id="nope"))[:2] == (404, "unknown_run")


def unpacked(skeleton: dict[str, Any]) -> list[dict[str, Any]]:
    """Its rows, as a program reads them."""
    columns, at = skeleton["columns"], 0
    names = {"level": "levels", "category": "categories", "step": "steps", "agent": "agents", "tool": "tools",
             "name": "names", "operation": "operations", "parent": "operations"}  # fmt: skip
    rows = []
    for number, id_ in enumerate(columns["id"]):
        at += columns["at_us"][number]
        row = {"id": id_, "at": at, "duration_ms": columns["duration_ms"][number]}
        for field, listed in names.items():
            place = columns[field][number]
            row[field] = None if place < 0 else skeleton[listed][place]
        rows.append(row)
    return rows


async def test_the_skeleton_holds_all_entries(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """In pages; each name is written once."""
    await site.write(*lasting("t", 0, 90), *(entry(n + 0.5, step=f"s{n % 2}") for n in range(40)))
    whole = await get(client, "run/skeleton", task_id="t")
    assert (whole["next"], whole["total"], len(whole["columns"]["id"])) == (None, 43, 43)
    rows, after = [], None
    while True:
        query = {"task_id": "t", "limit": 10} | ({"after": after} if after else {})
        page = await get(client, "run/skeleton", **query)
        assert page["total"] == (None if after else 43)
        rows += unpacked(page)
        if (after := page["next"]) is None:
            break
    assert rows == unpacked(whole)
    assert page["place"] == whole["place"]
    entries = (await get(client, "run/entries", task_id="t", limit=200))["entries"]
    assert [row["id"] for row in rows] == [each["id"] for each in entries]
    assert [row["step"] for row in rows] == [each["step"] for each in entries]
    assert [row["parent"] for row in rows] == [each["parent_id"] for each in entries]
    assert rows[0]["name"] == "run"


async def test_entries_from_any_place(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """The answer says where the next ones are, in both directions."""
    await site.write(*(entry(n, level="error" if n % 5 == 0 else "info") for n in range(12)))

    async def page(**query: Any) -> tuple[list[str], str | None, str | None]:
        found = await get(client, "run/entries", task_id="t", **query)
        return [each["message"] for each in found["entries"]], found["before"], found["after"]

    messages, before, after = await page(limit=5)
    assert (messages, before) == (["0", "1", "2", "3", "4"], None)
    messages, before, after = await page(limit=5, after=after)
    assert messages == ["5", "6", "7", "8", "9"]
    assert (await page(limit=5, after=after))[0::2] == (["10", "11"], None)
    assert (await page(limit=5, before=before))[:2] == (["0", "1", "2", "3", "4"], None)
    messages, before, after = await page(limit=3, last="true")
    assert (messages, after) == (["9", "10", "11"], None)
    assert (await page(limit=3, before=before))[0] == ["6", "7", "8"]
    assert (await page(level="error"))[0] == ["0", "5", "10"]
    ids = [each["id"] for each in (await get(client, "run/entries", task_id="t"))["entries"]]
    assert (await page(after_id=ids[5], limit=2))[0] == ["6", "7"]
    assert (await page(before_id=ids[5], limit=2))[0] == ["3", "4"]
    assert (await page(id=[ids[9], ids[2]]))[0] == ["2", "9"]
    await site.write(entry(20, details={"x": 1}), batch_id="2")
    for wanted, details in (("true", {"x": 1}), ("false", None)):
        found = await get(client, "run/entries", task_id="t", last="true", limit=1, details=wanted)
        assert found["entries"][0]["details"] == details
    assert (await refused(client, "run/entries", task_id="t", after_id="x"))[:2] == (404, "unknown_entry")


async def test_an_answer_is_bounded_in_bytes(
    site: SqliteSite, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on behind what has found room; an entry that is larger than all stands alone."""
    monkeypatch.setattr("execution_logger.web.api._MAX_PAGE_BYTES", 5000)
    await site.write(*(entry(n, details={"x": "y" * (9000 if n == 3 else 2000)}) for n in range(6)))
    for last in (False, True):
        sizes, query = [], {"last": "true"} if last else {}
        while True:
            found = await get(client, "run/entries", task_id="t", **query)
            sizes.append(len(found["entries"]))
            following = found["before" if last else "after"]
            if following is None:
                break
            query = {"before" if last else "after": following}
        assert sum(sizes) == 6
        assert max(sizes) == 2


async def test_what_is_not_wanted_takes_no_room(
    site: SqliteSite, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ids as well: a list of messages needs no details, and is not cut for them."""
    monkeypatch.setattr("execution_logger.web.api._MAX_PAGE_BYTES", 5000)
    await site.write(*(entry(n, details={"x": "y" * 2000}) for n in range(6)))
    ids = (await get(client, "run/search", task_id="t"))["ids"]
    whole = await get(client, "run/entries", task_id="t", id=ids)
    assert [each["id"] for each in whole["entries"]] == ids[:2]
    asked: tuple[dict[str, Any], ...] = ({"id": ids}, {"limit": 6}, {"last": "true"})
    for query in asked:
        found = await get(client, "run/entries", task_id="t", details="false", **query)
        assert [(each["id"], each["details"]) for each in found["entries"]] == [(id_, None) for id_ in ids]
        assert (found["before"], found["after"]) == (None, None)


async def test_a_search_goes_over_the_whole_run(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """What is within an operation counts as of it."""
    entries = lasting("t", 0, 90)
    await site.write(
        *entries, *(entry(n, message=f"item {n}", details={"q": "Needle"}) for n in range(1, 30))
    )
    assert (await get(client, "run/search", task_id="t", text="needle"))["total"] == 29
    assert (await get(client, "run/search", task_id="t", text="needle", until="2026-11-22T02:00:03Z"))[
        "total"
    ] == 2
    operation = msgspec.json.decode(entries[0])["operation_id"]
    found = await get(client, "run/search", task_id="t", operation=operation)
    assert found["ids"] == [msgspec.json.decode(each)["id"] for each in entries]
    assert (await get(client, "run/search", task_id="t", operation=str(uuid4())))["ids"] == []


@pytest.mark.parametrize("name", FORMATS)
async def test_a_run_is_exported(site: SqliteSite, client: httpx.AsyncClient, name: str) -> None:
    """All of it or some, in every format, under its own name."""
    await site.write(*lasting('a "b"/中', 0, 9))
    answer = await client.get(
        "/api/run/export", params={"task_id": 'a "b"/中', "format": name, "step": "plan"}
    )
    assert answer.status_code == 200
    assert "attachment; filename*=UTF-8''a%20%22b%22%2F%E4%B8%AD." in answer.headers["content-disposition"]
    assert answer.text.count("author") == 1
    whole = await client.get("/api/run/export", params={"task_id": 'a "b"/中', "format": name})
    assert len(whole.content) > len(answer.content)


async def test_what_is_known_beside_the_entries(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """Dead letters of the run, and of no other one; gaps and delays of processes that were at work."""
    for first, task_id in ((1, "t"), (50, "t"), (60, "u")):
        lines = [entry(first, task_id=task_id), '{"id": null, "task_id": "t", "x": "no entry"}']
        await site.writer.write(f"b{first}", f"[{','.join(lines)}]", process="host-1", first=first)
    found = await get(client, "run/completeness", task_id="t")
    assert found["is_known"]
    (letter,) = found["dead_letters"]
    assert (letter["task_id"], "no entry" in letter["entry"]) == ("t", True)
    missing = [*found["missing"], *found["pending"]]
    assert [(gap["process"], gap["entries"]) for gap in missing] == [("host-1", 47), ("host-1", 8)]
    assert found["late"][0]["process"] == "host-1"
    assert (await get(client, "run/completeness", task_id="u"))["dead_letters"] == []
    site.execute("DROP TABLE execution_log_batches")
    found = await get(client, "run/completeness", task_id="t")
    assert (found["is_known"], "db upgrade" in found["why_not"]) == (False, True)


async def test_what_a_run_has_left_out(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """As its end says."""
    details = {"run_state": "done", "left_out": 12}
    await site.write(entry(0), entry(1, operation_id=str(uuid4()), duration_ms=5, details=details))
    assert (await get(client, "run/completeness", task_id="t"))["left_out"] == 12


async def test_statistics_and_errors_of_a_time(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """Of the last day without one."""
    hour = START.isoformat(sep=" ").replace("+00:00", ".000000")
    site.execute(
        "INSERT INTO execution_log_statistics (hour, dimension, name, entries, errors, runs, timed)"
        f" VALUES ('{hour}', 'all', '', 7, 2, 1, 0)"
    )
    day = {"since": "2026-11-22T00:00:00Z", "until": "2026-11-23T00:00:00Z"}
    found = await get(client, "statistics", **day)
    assert [(each["hour"], each["entries"]) for each in found["hours"]] == [("2026-11-22T02:00:00Z", 7)]
    assert found["counted_until"] == "2026-11-22T03:00:00Z"
    assert (await get(client, "statistics"))["hours"] == []
    await site.write(entry(3600.0), entry(3700.0, level="error"), batch_id="later")
    latest = (await get(client, "statistics", **day))["hours"]
    assert [(each["hour"], each["entries"]) for each in latest if each["dimension"] == "all"] == [
        ("2026-11-22T02:00:00Z", 7),
        ("2026-11-22T03:00:00Z", 2),
    ]
    await site.write(entry(1, level="error", message="no 5"), entry(2, level="error", message="no 6"))
    group, _ = (await get(client, "errors", **day))["groups"]
    assert (group["message"], group["entries"], group["task_id"]) == ("no 6", 2, "t")
    assert (await get(client, "errors"))["groups"] == []


async def test_the_health_of_the_pipeline(client: httpx.AsyncClient) -> None:
    """The same facts and findings as the command line's."""
    health = await get(client, "health")
    assert set(health["parts"]) >= {"unwritten", "journal", "broker", "database", "jobs"}
    assert health["parts"]["database"]["facts"]["rows"] == 0
    assert {finding["level"] for finding in health["findings"]} <= {"ok", "warning", "error"}
    assert any(finding["check"].startswith("database.") for finding in health["findings"])


async def test_dead_letters_are_listed_and_retried(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """By pages; what is refused again says why, and what is stored is none any more."""
    bad = [f'{{"x": {number}}}' for number in range(5)]
    await site.write(*bad)
    found = await get(client, "dead-letters", limit=3)
    assert (len(found["letters"]), found["total"]) == (3, 5)
    others = await get(client, "dead-letters", limit=3, after=found["next"])
    assert others["next"] is None
    ids = [letter["id"] for letter in (*found["letters"], *others["letters"])]
    assert sorted(ids) == sorted(map(dead_letter_id, bad))
    good = entry(1)
    site.execute(
        "INSERT INTO execution_log_dead_letters (id, batch_id, entry, reason)"
        f" VALUES ('good', 'b', '{good}', 'it was away')"
    )
    answer = await client.post("/api/dead-letters/retry", json={"ids": [ids[0], "good", "nope"]})
    assert answer.json()["stored"] == 1
    assert list(answer.json()["refused"]) == [ids[0]]
    assert len(site.rows()) == 1
    assert (await get(client, "dead-letters"))["total"] == 5


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("runs", {"limit": "x"}, "limit: Expected `int`"),
        ("runs", {"limit": "0"}, "limit: Expected `int` >= 1"),
        ("runs", {"limit": ["1", "2"]}, "limit: is given 2 times"),
        ("runs", {"lim": "1"}, "unknown field `lim`"),
        ("runs", {"state": "gone"}, "state[0]: Invalid enum value 'gone'"),
        ("runs", {"since": "2026-11-22T02:00:00"}, "since: "),
        ("runs", {"since": "0001-01-01T00:00:00Z"}, "since, until: a year"),
        ("runs", {"after": "nope"}, "'nope' is no place"),
        ("runs", {"operation": "x"}, "operation[0]: Invalid UUID"),
        ("run", {}, "missing required field `task_id`"),
        ("run", {"task_id": ""}, "task_id: Expected `str` of length >= 1"),
        ("run/live", {"task_id": "t", "from": "x"}, "'x' is no place"),
        (
            "statistics",
            {"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"},
            "since: must be before",
        ),
    ],
    ids=str,
)
async def test_what_cannot_be_used_is_named(
    client: httpx.AsyncClient, path: str, query: dict[str, Any], message: str
) -> None:
    """The parameter, and what is allowed."""
    status, _, told = await refused(client, path, **query)
    assert status == 400
    assert message in told


async def test_a_database_that_is_away_is_no_defect(site: SqliteSite, client: httpx.AsyncClient) -> None:
    """The answer says when to ask again."""
    site.execute("DROP TABLE execution_logs")
    answer = await client.get("/api/runs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "db upgrade" in answer.json()["error"]["message"]


async def test_every_other_path_is_unknown(client: httpx.AsyncClient) -> None:
    """Also those of files: an answer to anything would show a blank page where a file is missing."""
    for path in ("/x", "/page.js.map", "/static/page.js", "/api", "/api/", "/../app.py", "/%2e%2e/app.py"):
        assert (await client.get(path)).status_code == 404, path
    assert (await client.post("/api/runs")).status_code == 405


async def test_the_page_is_served_as_it_was_built(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser asks again whether it has changed; without it, the answer says how it comes there."""
    monkeypatch.setattr(app, "_read", lambda name: f"<{name}>".encode())
    first = await client.get("/")
    assert (first.text, first.headers["content-type"]) == ("<index.html>", "text/html; charset=utf-8")
    assert (await client.get("/", headers={"If-None-Match": first.headers["etag"]})).status_code == 304
    assert (await client.get("/page.js")).headers["content-type"] == "text/javascript; charset=utf-8"
    monkeypatch.setattr(app, "_read", lambda _: None)
    missing = await client.get("/")
    assert (missing.status_code, "The page was not built" in missing.text) == (404, True)


def resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


async def test_the_description_is_that_of_the_routes(client: httpx.AsyncClient) -> None:
    """Each path with its method, its parameters and its answer, and no reference into nothing."""
    document = await get(client, "openapi.json")
    described = {(path, method.upper()) for path, each in document["paths"].items() for method in each}
    application = create_app(Settings(database_url="sqlite:////nowhere.db"), None)
    routes = {(route.path, next(iter(route.methods - {"HEAD"}))) for route in application.routes}  # type: ignore[attr-defined]
    files = {"/", "/page.js", "/page.css", "/icon.svg", "/api/openapi.json"}
    assert described == {(path, method) for path, method in routes if path not in files}
    for resource in (*RESOURCES, *STREAMS):
        operation = document["paths"][resource.path][resource.method.lower()]
        assert operation["summary"].endswith(".")
        if resource.method == "GET":
            names = {parameter["name"] for parameter in operation["parameters"]}
            assert names == set(resource.query.__struct_encode_fields__)
        if resource.answers is not None:
            content = operation["responses"]["200"]["content"]["application/json"]
            properties = resolved(content["schema"], document)["properties"]
            assert set(properties) == set(resource.answers.__struct_fields__)
    text = msgspec.json.encode(document).decode()
    for reference in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert reference in document["components"]["schemas"]


def test_the_words_of_a_query_are_those_of_the_library() -> None:
    """They stand there as literals, for the description."""
    assert set(get_args(queries.Format)) == set(FORMATS)
    assert set(get_args(queries.State)) == {*answers.STATES, queries.UNKNOWN}

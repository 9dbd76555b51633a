"""The page in a real browser: what a reader sees of runs, live and later, and what nobody can do to them."""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect
from uuid_utils import uuid7

from batches import encoded
from browser import chromium, opened
from rows import fetch
from stored_runs import StoredRuns
from ui_process import UiProcess
from waiting import wait_until
from workers import WorkerProcess

Open = Callable[..., AbstractContextManager[Page]]

START = datetime.now(UTC) - timedelta(minutes=10)


@pytest.fixture(autouse=True)
def recently(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has been silent for an hour has no end recorded, however long all other tests take."""
    monkeypatch.setitem(globals(), "START", datetime.now(UTC) - timedelta(minutes=10))


HOST = """
import asyncio
from execution_logger import execution_logger

async def main() -> None:
    async with execution_logger.run("live"):
        for number in range(60):
            async with execution_logger.timed_operation(None, "agent", f"step {number}"):
                await execution_logger.info(None, "agent", f"message {number}")
            if number == 30:
                await asyncio.to_thread(input)  # until the page has shown these
            await asyncio.sleep(0.05)
    await execution_logger.shutdown()

asyncio.run(main())
"""


BUSY_AFTER_THE_WHEEL = """
    busyMs => document.querySelector("virtual-list").addEventListener("wheel", event => {
        while (performance.now() < event.timeStamp + busyMs);
    })
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this file."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def runs(tmp_path: Path) -> StoredRuns:
    """A database without an entry."""
    return StoredRuns(tmp_path / "logs.db")


@pytest.fixture
def ui(runs: StoredRuns, tmp_path: Path) -> Iterator[UiProcess]:
    """Its page."""
    with UiProcess(runs.environment["DATABASE_URL"], tmp_path) as ui:
        yield ui


@pytest.fixture
def show(browser: Browser, ui: UiProcess) -> Open:
    """Opens a view of the page, in English unless the context says otherwise."""

    def open_view(query: str = "", **options: Any) -> AbstractContextManager[Page]:
        return opened(browser, ui.url + query, **{"locale": "en-US", **options})

    return open_view


def entry(second: float, **changed: Any) -> str:
    """One of that second after the start, with it as its message."""
    at = (START + timedelta(seconds=second)).isoformat()
    return encoded(**{"task_id": "r", "message": f"message {second}", "created_at": at, **changed})


def operation(name: str, begin: float, end: float, **changed: Any) -> list[str]:
    """The entries that begin and end an operation; `level` is that of its end."""
    own = {"operation_id": str(uuid7()), "step": name, **changed}
    level = own.pop("level", "info")
    word = "failed: no answer" if level == "error" else "completed"
    return [
        entry(begin, message=f"{name} started", **own),
        entry(
            end,
            message=f"{name} {word}",
            level=level,
            duration_ms=round((end - begin) * 1000),
            **own,
        ),
    ]


def rows(page: Page) -> Locator:
    """The lines of a run that are in the document."""
    return page.locator("run-log .row, run-waterfall .row")


def shown_ids(page: Page) -> list[str]:
    """The ids of all entries of the log that is shown, in or out of sight."""
    found = page.evaluate("document.querySelector('run-log')?.lines.map(line => line.item.id) ?? []")
    return list(found)


def test_a_run_is_shown_live_from_its_first_entry_to_its_last(
    browser: Browser, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """A worker writes it; the server is killed meanwhile and comes again: none is missing, none is twice."""
    environment = {"CELERY_BROKER_URL": redis_url, "DATABASE_URL": database_url}
    with (
        UiProcess(database_url, tmp_path) as ui,
        WorkerProcess(environment=environment),
        opened(browser, f"{ui.url}", locale="en-US") as page,
        subprocess.Popen(
            [sys.executable, "-c", HOST], env={**os.environ, **environment}, stdin=subprocess.PIPE
        ) as host,
    ):
        page.get_by_role("link", name="live", exact=True).click()
        expect(page.locator(".run-head")).to_contain_text("Running")
        page.get_by_role("button", name="Log", exact=True).click()
        wait_until(lambda: len(shown_ids(page)) > 40, 30)
        assert ui.process is not None
        ui.process.kill()
        host.communicate(b"go on\n")
        assert host.returncode == 0
        ui.start()
        expect(page.locator(".run-head")).to_contain_text("Done")
        statement = "SELECT id FROM execution_logs WHERE task_id = 'live' ORDER BY created_at, id"
        wait_until(lambda: len(shown_ids(page)) == 182, 30, message=lambda: str(len(shown_ids(page))))
        assert shown_ids(page) == [str(row["id"]) for row in fetch(database_url, statement)]
        expect(rows(page).last).to_contain_text("run")


def test_a_batch_that_comes_late_has_its_place(runs: StoredRuns, show: Open) -> None:
    """Between those that were made before and after it."""
    runs.store(*(entry(second) for second in range(20)))
    with show("?run=r&mode=log") as page:
        expect(page.locator(".live.open")).to_be_visible()
        runs.store(entry(4.5, message="late"))
        expect(rows(page).nth(5)).to_contain_text("late")
        expect(page.locator(".run-head")).to_contain_text("21 entries")


@pytest.mark.parametrize("busy_ms", [0, 1000])
def test_a_reader_follows_a_run_until_they_scroll_up(runs: StoredRuns, show: Open, busy_ms: int) -> None:
    """Then they are told how many have come, and a click leads to them; also in a browser that is busy."""
    begin = operation("run", 0, 1, details={"run_state": "running"})[0]
    runs.store(begin, *(entry(second) for second in range(1, 100)))
    with show("?run=r&mode=log") as page:
        expect(page.get_by_text("message 99", exact=True)).to_be_in_viewport()
        runs.store(entry(100))
        expect(page.get_by_text("message 100", exact=True)).to_be_in_viewport()
        page.evaluate(BUSY_AFTER_THE_WHEEL, busy_ms)
        rows(page).last.hover()
        page.mouse.wheel(0, -1000)
        expect(page.get_by_text("message 100", exact=True)).not_to_be_in_viewport()
        runs.store(entry(101), entry(102))
        page.get_by_role("button", name="2 new").click()
        expect(page.get_by_text("message 102", exact=True)).to_be_in_viewport()
        runs.store(entry(103))
        expect(page.get_by_text("message 103", exact=True)).to_be_in_viewport()


def test_the_waterfall_nests_operations_and_counts_their_errors(runs: StoredRuns, show: Open) -> None:
    """Each is one line with its duration; collapsing hides what is within."""
    root = str(uuid7())
    runs.store(
        *operation("outer", 0, 4, operation_id=root),
        *operation("inner", 1, 2, parent_id=root, level="error"),
        entry(3, parent_id=root, message="plain"),
    )
    with show("?run=r") as page:
        expect(rows(page)).to_have_count(3)
        outer, inner, plain = rows(page).all()
        expect(outer).to_contain_text(re.compile(r"outer.*1.*4 s", re.DOTALL))
        expect(inner).to_contain_text(re.compile(r"inner.*1.*1 s", re.DOTALL))
        expect(plain).to_contain_text("plain")
        assert [one.get_attribute("aria-level") for one in (outer, inner, plain)] == ["1", "2", "2"]
        outer.get_by_role("button", name="Collapse").click()
        expect(rows(page)).to_have_count(1)


def test_search_and_filters_look_at_the_whole_run_and_are_in_the_address(
    runs: StoredRuns, show: Open
) -> None:
    """Not only at what is in sight; a reader who opens the address sees the same."""
    runs.store(*(entry(n, level="error" if n % 100 == 7 else "info", step=f"s{n % 2}") for n in range(1000)))
    with show("?run=r&mode=log") as page:
        page.keyboard.press("/")
        page.keyboard.type("MESSAGE 99")
        expect(page.locator(".matches")).to_have_text("11 of 1,000")
        expect(rows(page)).to_have_count(11)
        expect(rows(page).first.locator("mark")).to_have_text("message 99")
        page.get_by_label("Level").select_option("error")
        expect(page.locator(".matches")).to_have_text("0 of 1,000")
        page.get_by_role("searchbox").fill("")
        expect(page.locator(".matches")).to_have_text("10 of 1,000")
        address = page.url
        page.get_by_role("button", name="Clear").click()
        expect(page.get_by_label("Level")).to_have_value("")
    with show(address.rpartition("/")[2]) as page:
        expect(page.get_by_label("Level")).to_have_value("error")
        expect(page.locator(".matches")).to_have_text("10 of 1,000")
        page.locator("choice-menu summary").filter(has_text="Step").click()
        page.get_by_role("checkbox", name="s0").check()
        expect(page.locator(".box")).to_contain_text("None of the 1,000 entries")
        page.locator(".toolbar").get_by_role("button", name="Clear").last.click()
        expect(page.locator(".matches")).to_have_count(0)


def test_a_link_opens_the_run_at_the_entry(runs: StoredRuns, show: Open) -> None:
    """However far down it is, with its details beside it."""
    wanted = str(uuid7())
    details = {"model": "m", "calls": [{"name": "search"}]}
    runs.store(*(entry(n) for n in range(2000)), entry(1500.5, id=wanted, message="the one", details=details))
    for mode in ("", "&mode=log"):
        with show(f"?run=r&entry={wanted}{mode}") as page:
            expect(page.locator(".row.selected")).to_be_in_viewport()
            expect(page.locator(".row.selected")).to_contain_text("the one")
            expect(page.locator("entry-pane pre")).to_have_text("the one")
            expect(page.locator("json-view")).to_contain_text("search")


def test_keys_lead_through_a_run(runs: StoredRuns, show: Open) -> None:
    """To errors, up and down, to the log and back, to the list of keys."""
    levels = ["info", "error", "info", "critical", "info"]
    runs.store(*(entry(n, level=level) for n, level in enumerate(levels)))
    with show("?run=r&mode=log") as page:
        expect(rows(page)).to_have_count(5)
        selected = page.locator(".row.selected")
        for key, text in (
            *(("e", "message 1"), ("e", "message 3"), ("e", "message 1")),
            *(("j", "message 2"), ("k", "message 1"), ("G", "message 4"), ("g", "message 0")),
        ):
            page.keyboard.press(key)
            expect(selected).to_contain_text(text)
        page.keyboard.press("l")
        expect(page.locator("run-waterfall")).to_be_visible()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.keyboard.press("Escape")
        expect(page.locator("entry-pane")).to_have_count(0)


def test_what_is_shown_is_exported_or_all(runs: StoredRuns, show: Open) -> None:
    """In each format."""
    runs.store(*(entry(n, level="error" if n < 3 else "info") for n in range(10)))
    with show("?run=r&level=error") as page:
        page.locator("summary").filter(has_text="Export").click()
        links = page.locator(".panel a[download]").all()
        sizes = {}
        for link in links:
            with page.expect_download() as download:
                link.click()
            text = download.value.path().read_text("utf-8")
            sizes[str(link.get_attribute("href"))] = len(set(re.findall(r"message \d", text)))
        assert sorted(sizes.values()) == [3, 3, 3, 10, 10, 10]
        assert all(("level=error" in link) == (size == 3) for link, size in sizes.items())


HOSTILE = {
    "markup": '<img src=x onerror="alert(1)"><script>alert(2)</script>',
    "a template": "${alert(3)} {{alert(4)}}",
    "control characters": "\x1b[31m red \x07 bell \u202e reversed \u2028",
    "a line of a megabyte": "x" * 1_000_000,
    "many lines": "line\n" * 100_000,
}


@pytest.mark.parametrize("mode", ["waterfall", "log"])
def test_what_users_write_is_text(runs: StoredRuns, show: Open, mode: str) -> None:
    """Nothing of it runs, hides, or reaches beyond its row."""
    written = [
        entry(
            n,
            task_id="<b>0</b>",
            message=text,
            step=text[:200],
            agent_name=text[:200],
            details={text[:99]: text},
        )
        for n, text in enumerate(HOSTILE.values())
    ]
    runs.store(*written)
    with show("?run=<b>0</b>&mode=" + mode) as page:
        for message in ("<img src=x", "${alert(3)}", "\\x1b[31m red \\x07 bell \\u202e reversed \\u2028"):
            line = rows(page).filter(has_text=message).last
            expect(line).to_be_visible()
            line.click()
            expect(page.locator("entry-pane pre").first).to_contain_text(message)
        assert page.locator("img[src=x], main script").count() == 0
        for line in rows(page).all():
            assert line.bounding_box()["height"] < 50  # type: ignore[index]
        line = rows(page).filter(has_text="xxxx").last
        line.click()
        expect(page.locator("entry-pane")).to_contain_text("The first 20,000 of 1,000,000 characters")


def test_a_run_of_100_000_entries_is_shown_whole(runs: StoredRuns, show: Open) -> None:
    """Its last entry as its first one, and few rows are in the document at a time."""
    with closing(sqlite3.connect(runs.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO execution_logs (id, task_id, level, category, message, created_at)"
            " VALUES (?, 'r', ?, 'agent', ?, ?)",
            (
                (str(uuid7()), "error" if n % 1000 == 999 else "info", f"message {n}", at)
                for n, at in (
                    (n, (START + timedelta(milliseconds=n)).strftime("%Y-%m-%d %H:%M:%S.%f"))
                    for n in range(100_000)
                )
            ),
        )
    with show("?run=r&mode=log") as page:
        expect(page.locator(".live.open")).to_be_visible()  # by then all of it has been read
        expect(page.locator(".run-head")).to_contain_text("100,000 entries")
        expect(rows(page).first).to_contain_text("message 0")
        page.keyboard.press("G")
        expect(page.locator(".row.selected")).to_contain_text("message 99999")
        page.keyboard.press("e")
        expect(page.locator(".row.selected")).to_contain_text("message 999")
        assert rows(page).count() < 100
        page.get_by_label("Level").select_option("error")
        expect(page.locator(".matches")).to_have_text("100 of 100,000")


@pytest.mark.parametrize("language", ["C", "en-US@posix", ""])
def test_a_browser_without_a_language_shows_the_page(
    browser: Browser, ui: UiProcess, runs: StoredRuns, language: str
) -> None:
    """As one says that runs on a system without a locale; in English then."""
    runs.store(entry(1))
    with opened(browser, "about:blank") as page:
        page.add_init_script(
            f"Object.defineProperty(Navigator.prototype, 'language', {{ get: () => {json.dumps(language)} }})"
        )
        page.goto(ui.url)
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Statistics").click()
        expect(page.get_by_role("heading", name="Statistics")).to_be_visible()


def test_the_list_of_runs_is_live(runs: StoredRuns, show: Open) -> None:
    """It says how the first entry comes; a run appears, and grows, by itself."""
    with show() as page:
        expect(page.locator(".box.first")).to_contain_text("execution-logger worker")
        begin, end = operation("run", 3000, 3005, task_id="new", details={"run_state": "running"})
        runs.store(begin)
        line = page.locator("tr").filter(has_text="new")
        expect(line.get_by_role("img", name="Running")).to_be_visible()
        runs.store(*(entry(n, task_id="new", level="error") for n in range(3001, 3005)))
        expect(line).to_contain_text("4")
        fields = json.loads(end)
        runs.store(json.dumps({**fields, "details": {"run_state": "failed"}}))
        expect(line.get_by_role("img", name="Failed")).to_be_visible()


def test_more_runs_are_loaded_and_filtered(runs: StoredRuns, show: Open) -> None:
    """What is shown and whether there is more is said."""
    runs.store(*(entry(n, task_id=f"run-{n}", level="error" if n == 3 else "info") for n in range(60)))
    with show() as page:
        expect(page.locator("tbody tr")).to_have_count(50)
        expect(page.locator(".foot")).to_contain_text("50 runs shown")
        page.get_by_role("button", name="Load more").click()
        expect(page.locator("tbody tr")).to_have_count(60)
        page.get_by_label("With errors").check()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("tbody tr")).to_contain_text("run-3")


def test_two_runs_are_compared_by_the_names_of_their_operations(runs: StoredRuns, show: Open) -> None:
    """What took longer, and what one of them alone did."""
    for task_id, names in (("a", {"plan": 1, "write": 2}), ("b", {"plan": 3, "check": 1, "write": 2})):
        for n, (name, seconds) in enumerate(names.items()):
            runs.store(*operation(name, n * 10, n * 10 + seconds, task_id=task_id))
    with show() as page:
        for name in ("a", "b"):
            page.get_by_label(f"Choose for comparison: {name}", exact=True).check()
        page.get_by_role("link", name="Compare the two").click()
        lines = page.locator("virtual-list .compare-row")
        expect(lines).to_have_count(3)
        expect(lines.nth(0)).to_contain_text(re.compile(r"plan.*1 s.*3 s.*\+2 s", re.DOTALL))
        expect(lines.nth(1)).to_contain_text(re.compile(r"check.*only.*B", re.DOTALL))
        page.get_by_label("Differences only").check()
        expect(lines).to_have_count(2)


def test_dead_letters_are_retried_by_who_may(
    browser: Browser, runs: StoredRuns, ui: UiProcess, tmp_path: Path
) -> None:
    """With `--allow-changes`; others see them, and why they were refused."""
    refused = entry(0, task_id="dead")
    runs.execute(
        "INSERT INTO execution_log_dead_letters (id, batch_id, entry, reason)"
        f" VALUES ('d', 'b', '{refused}', 'a reason')"
    )
    with opened(browser, f"{ui.url}?view=health", locale="en-US") as page:
        expect(page.locator(".letters")).to_contain_text("a reason")
        expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    with (
        UiProcess(runs.environment["DATABASE_URL"], tmp_path, "--allow-changes") as changing,
        opened(browser, f"{changing.url}?view=health", locale="en-US") as page,
    ):
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".letters")).to_have_count(0)
        page.get_by_role("link", name="Runs").click()
        expect(page.get_by_role("link", name="dead", exact=True)).to_be_visible()


def count_hours(runs: StoredRuns) -> None:
    """Have the statistics counted, in a process of its own: a loop runs in that of the browser's."""
    command = [sys.executable, "-m", "execution_logger.cli", "jobs", "run", "statistics"]
    subprocess.run(command, env={**os.environ, **runs.environment}, check=True, capture_output=True)


VIEWS = {
    "runs": ("", "tbody tr"),
    "waterfall": ("?run=one", "run-waterfall .row"),
    "log": ("?run=one&mode=log", "run-log .row"),
    "compare": ("?compare=one&with=two", "virtual-list .compare-row"),
    "statistics": ("?view=statistics", "time-chart canvas"),
    "health": ("?view=health", ".findings li"),
}


@pytest.mark.parametrize("width", [1440, 375])
@pytest.mark.parametrize(("locale", "color_scheme"), [("en-US", "light"), ("zh-CN", "dark")])
def test_everybody_can_use_it(
    runs: StoredRuns, ui: UiProcess, show: Open, locale: str, color_scheme: str, width: int
) -> None:
    """No view breaks a rule of WCAG 2.1 AA or is wider than the screen."""
    for task_id in ("one", "two"):
        root = str(uuid7())
        runs.store(
            *operation("outer", 0, 40, task_id=task_id, operation_id=root),
            *operation("inner", 1, 2, task_id=task_id, parent_id=root, level="error"),
            *(
                entry(n, task_id=task_id, level=random.choice(["debug", "warning", "info"]))
                for n in range(3, 30)
            ),
        )
    count_hours(runs)
    options = {"locale": locale, "color_scheme": color_scheme, "viewport": {"width": width, "height": 700}}
    found: dict[str, Any] = {}
    with show(**options) as page:
        for name, (query, awaited) in VIEWS.items():
            page.goto(ui.url + query)
            expect(page.locator(awaited).first).to_be_visible()
            if name in {"waterfall", "log"}:
                rows(page).nth(1).click()
                expect(page.locator("entry-pane dl").first).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            violations = Axe().run(page).response["violations"]
            found[name] = [wide, *((each["id"], each["nodes"][0]["html"]) for each in violations)]
    assert found == {name: [0] for name in VIEWS}

"""The resources of the API: a function for each, from the query to the answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import execution_logger
from execution_logger.entry.entry import LogEntry
from execution_logger.read.completeness import completeness_of
from execution_logger.read.formats import FORMATS, Format
from execution_logger.read.groups import count_names, group_errors
from execution_logger.read.overview import count_dead_letters
from execution_logger.read.pages import Pages
from execution_logger.read.place import Place
from execution_logger.read.runs import recent_runs
from execution_logger.read.skeleton import count_entries, read_outlines
from execution_logger.read.statistics import HOUR, count_latest, last_hour, read_statistics
from execution_logger.read.summary import Run, activity_of, describe_run
from execution_logger.read.timeline import Only, Timeline
from execution_logger.store.dead_letters import DeadLetters, retry
from execution_logger.store.schema import storable
from execution_logger.store.table import look_up_table
from execution_logger.web import answers, queries
from execution_logger.web.access import allows_change, permissions
from execution_logger.web.refusal import Refusal
from execution_logger.web.site import Site

NOTE = "This API is new, and may still change."
MOST_FOUND = 10_000
_MAX_PAGE_BYTES = 4 * 1024 * 1024
_LIST_SECONDS = 4.0

MEDIA_TYPES = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "chrome-trace": "application/json",
}
"""Of an export, by its format."""

encode = msgspec.json.Encoder().encode


async def about(site: Site, query: queries.Nothing, request: Request) -> answers.About:  # noqa: ARG001
    """What this is, and what you may do."""
    return answers.About(
        version=execution_logger.__version__,
        table=site.settings.table,
        permissions=[each.value for each in permissions(request.scope)],
        celery_enabled=site.settings.celery_enabled,
        note=NOTE,
    )


async def runs(site: Site, query: queries.RunsQuery, request: Request) -> answers.RunList:  # noqa: ARG001
    """The newest runs, a page at a time; filters find those with an entry that all of them take."""
    async with site.engine() as engine:
        found = await recent_runs(
            engine,
            site.settings,
            limit=query.limit,
            only=query.only(),
            with_errors=query.with_errors,
            states=query.states(),
            after=place(query.after),
            within_seconds=_LIST_SECONDS,
        )
    return answers.RunList.of(found)


async def activity(site: Site, query: queries.ActivityQuery, request: Request) -> answers.Activity:  # noqa: ARG001
    """How many entries of some runs there are in each of equal shares of their times."""
    found: dict[str, list[int] | None] = {}
    for task_id in dict.fromkeys(query.task_id):
        async with site.timeline(task_id) as timeline:
            found[task_id] = await activity_of(timeline, query.buckets)
    return answers.Activity(activity=found)


async def run(site: Site, query: queries.OfRun, request: Request) -> answers.RunSummary:  # noqa: ARG001
    """A run, and the names in it."""
    async with site.timeline(query.task_id) as timeline:
        summary = await _described(timeline)
        return answers.RunSummary.of(summary, await count_names(timeline))


async def completeness(site: Site, query: queries.OfRun, request: Request) -> answers.Completeness:  # noqa: ARG001
    """What is known to be missing from a run, to have come late, to be refused, or to be left out."""
    async with site.engine() as engine:
        timeline = Timeline(engine, site.settings, query.task_id)
        described = await _described(timeline)
        found = await completeness_of(engine, site.settings, timeline, described.first_at, described.last_at)
    return answers.Completeness.of(found)


async def skeleton(site: Site, query: queries.SkeletonQuery, request: Request) -> answers.Skeleton:  # noqa: ARG001
    """All entries of a run, a page at a time, with what a picture needs of each."""
    async with site.timeline(query.task_id) as timeline:
        total = await count_entries(timeline) if query.after is None else None
        if total == 0:
            raise _unknown(query.task_id)
        outlines = await read_outlines(timeline, place(query.after), query.limit + 1)
    is_last = len(outlines) <= query.limit
    shown = outlines[: query.limit]
    end = _end(shown) or query.after
    return await asyncio.to_thread(answers.to_skeleton, shown, None if is_last else end, end, total)


async def entries(site: Site, query: queries.EntriesQuery, request: Request) -> answers.Entries:  # noqa: ARG001
    """Entries of a run with every field: those with some ids, or a page from any place in both directions."""
    async with site.timeline(query.task_id) as timeline:
        pages = Pages(timeline)
        if query.id:
            found = _shown(await pages.by_id(query.id), query)
            return answers.Entries(entries=_within_bytes(found), before=None, after=None)
        only = await _located(timeline, query.only())
        start = await _start(pages, query.after, query.after_id)
        end = await _start(pages, query.before, query.before_id)
        if query.last or end is not None:
            found = _shown(await pages.before(end, query.limit + 1, only), query)
            return _page(found, query.limit, from_end=True, edge=end)
        found = _shown(await pages.after(start, query.limit + 1, only), query)
        return _page(found, query.limit, from_end=False, edge=start)


async def search(site: Site, query: queries.SearchQuery, request: Request) -> answers.Search:  # noqa: ARG001
    """Where the wanted entries of a run are; the whole run is searched."""
    async with site.timeline(query.task_id) as timeline:
        only = await _located(timeline, query.only())
        found = await Pages(timeline).search(only, MOST_FOUND)
    return answers.Search(ids=found.ids, total=found.total, is_complete=found.is_complete)


async def export(site: Site, query: queries.ExportQuery, request: Request) -> Response:  # noqa: ARG001
    """The wanted entries of a run as a file: ndjson, csv, or a trace for https://ui.perfetto.dev."""
    async with site.timeline(query.task_id) as timeline:
        only = await _located(timeline, query.only())
        if not await timeline.exists():
            raise _unknown(query.task_id)
    form = FORMATS[query.format]()
    suffix = {"chrome-trace": "trace.json"}.get(query.format, query.format)
    name = quote(f"{query.task_id[:100]}.{suffix}", safe="")
    return StreamingResponse(
        _exported(site, query.task_id, only, form),
        media_type=MEDIA_TYPES[query.format],
        headers={"content-disposition": f"attachment; filename*=UTF-8''{name}"},
    )


async def statistics(site: Site, query: queries.TimeQuery, request: Request) -> answers.Statistics:  # noqa: ARG001
    """The hours of a time, as the hourly job has counted them, and the latest ones, which are counted now."""
    since, until = query.span(datetime.now(UTC))
    async with site.connection() as connection:
        hours = await read_statistics(connection, site.settings, since, until)
        last = await last_hour(connection, site.settings)
        table = await look_up_table(connection, site.settings)
        latest, uncounted_until = await count_latest(connection, table, last, since, until)
    return answers.Statistics(
        since=since,
        until=until,
        counted_until=None if last is None else last + HOUR,
        uncounted_until=uncounted_until,
        hours=list(map(answers.Hour.of, [*hours, *latest])),
    )


async def errors(site: Site, query: queries.ErrorsQuery, request: Request) -> answers.Errors:  # noqa: ARG001
    """The most frequent errors of a time, grouped by what their messages have in common."""
    since, until = query.span(datetime.now(UTC))
    async with site.timeline(None) as timeline:
        found = await group_errors(timeline, since, until, query.limit)
    groups = list(map(answers.ErrorGroup.of, found.groups))
    return answers.Errors(groups=groups, looked_at=found.looked_at, is_complete=found.is_complete)


async def health(site: Site, query: queries.Nothing, request: Request) -> answers.Health:  # noqa: ARG001
    """The pipeline as it is now: hosts' journals on this machine, queue, workers, tables, jobs, findings."""
    seen = await site.watch.look()
    parts = {
        name: answers.Part(facts=msgspec.to_builtins(part.facts, enc_hook=str), error=part.error)
        for name, part in seen.parts.items()
    }
    findings = [
        answers.Finding(check=each.name, level=each.level.value, message=each.what, advice=each.advice)
        for each in seen.findings
    ]
    return answers.Health(asked_at=seen.asked_at, parts=parts, findings=findings)


async def dead_letters(site: Site, query: queries.LettersQuery, request: Request) -> answers.Letters:  # noqa: ARG001
    """What the database has refused for good, the newest first."""
    letters = DeadLetters(site.settings)
    after = place(query.after)
    async with site.connection() as connection:
        found = await letters.list(connection, query.limit + 1, after=after)
        total = await count_dead_letters(connection, site.settings)
    shown = found[: query.limit]
    is_last = len(found) <= query.limit
    return answers.Letters(
        letters=list(map(answers.Letter.of, shown)),
        next=None if is_last else Place(shown[-1].created_at, shown[-1].id).to_token(),
        total=total,
    )


async def retry_letters(site: Site, query: queries.RetryRequest, request: Request) -> answers.Retried:
    """Store dead letters again that the database takes by now; needs the permission to change."""
    if not allows_change(request.scope):
        raise Refusal(403, "not_authorized", "You may read, and not change anything.")
    letters = DeadLetters(site.settings)
    async with site.connection() as connection:
        found = await letters.get(connection, dict.fromkeys(map(storable, query.ids)))
    async with site.engine() as engine:
        refused = await retry(engine, site.settings, found)
    return answers.Retried(stored=len(found) - len(refused), refused=dict(refused))


def place(token: str | None) -> Place | None:
    """The place that a query names."""
    return None if token is None else Place.from_token(token)


async def _described(timeline: Timeline) -> Run:
    found = await describe_run(timeline)
    if found is None:
        raise _unknown(timeline.task_id or "")
    return found


def _unknown(task_id: str) -> Refusal:
    return Refusal(
        404, "unknown_run", f"No entry of the run {task_id[:200]!r} is stored. It may be on its way."
    )


async def _located(timeline: Timeline, only: Only) -> Only:
    """With all operations that are within the wanted ones."""
    return replace(only, operations=await timeline.beneath(only.operations)) if only.operations else only


async def _start(pages: Pages, token: str | None, entry_id: str | None) -> Place | None:
    if entry_id is None:
        return place(token)
    found = await pages.by_id([entry_id])
    if not found:
        raise Refusal(404, "unknown_entry", f"The entry {entry_id[:80]!r} is not in this run.")
    return Place(found[0].created_at, found[0].id)


def _shown(found: Sequence[LogEntry], query: queries.EntriesQuery) -> list[answers.Entry]:
    """The entries, without their details where those are not wanted."""
    shown = list(map(answers.Entry.of, found))
    for entry in () if query.details else shown:
        entry.details = None
    return shown


def _page(found: list[answers.Entry], limit: int, *, from_end: bool, edge: Place | None) -> answers.Entries:
    """A page of what was found, which is one more than wanted where there are more."""
    has_more = len(found) > limit
    wanted = found[-limit:] if from_end else found[:limit]
    kept = _within_bytes(wanted[::-1])[::-1] if from_end else _within_bytes(wanted)
    is_cut = has_more or len(kept) < len(wanted)
    first, last = (_token(kept[0]), _token(kept[-1])) if kept else (None, None)
    is_edge = edge is not None
    before = first if (is_cut if from_end else is_edge) else None
    after = last if (is_edge if from_end else is_cut) else None
    return answers.Entries(entries=kept, before=before, after=after)


def _within_bytes(found: Sequence[answers.Entry]) -> list[answers.Entry]:
    """As many as fit into an answer, and at least one."""
    kept: list[answers.Entry] = []
    size_bytes = 0
    for entry in found:
        size_bytes += len(encode(entry))
        if kept and size_bytes > _MAX_PAGE_BYTES:
            break
        kept.append(entry)
    return kept


def _token(entry: answers.Entry) -> str:
    return Place(entry.created_at, entry.id).to_token()


def _end(outlines: Sequence[Any]) -> str | None:
    return outlines[-1].place.to_token() if outlines else None


async def _exported(site: Site, task_id: str, only: Only, form: Format) -> AsyncIterator[bytes]:
    async with site.timeline(task_id) as timeline:
        yield form.head()
        async with aclosing(timeline.pages(only)) as pages:
            async for page in pages:
                yield form.body(page)
        yield form.foot()

"""The answers of the API: what each holds, in which types and units."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from execution_logger.entry.entry import LogEntry, RunState
from execution_logger.read import audit, completeness, groups, statistics
from execution_logger.read.runs import RecentRuns
from execution_logger.read.skeleton import Outline
from execution_logger.read.summary import Run as StoredRun
from execution_logger.store.dead_letters import DeadLetter

STATES = tuple(RunState)
_MAX_TEXT_CHARS = 500


class Answer(msgspec.Struct):
    """The base of all: an object with these fields and no others."""


class About(Answer):
    """What this is, and what whoever asks may do.

    `note` says how far the API may change.
    """

    version: str
    table: str
    permissions: list[str]
    celery_enabled: bool
    note: str


class Run(Answer):
    """How a run went; `state` is null where its host tells none, `is_cut` true where not all are counted."""

    task_id: str
    first_at: datetime
    last_at: datetime
    duration_ms: float
    entries: int
    errors: int
    warnings: int
    is_cut: bool
    last_step: str | None
    last_agent: str | None
    ended_in_error: bool
    state: RunState | None

    @classmethod
    def of(cls, run: StoredRun) -> "Run":
        """The run, with its duration in the unit of all others."""
        values = {name: getattr(run, name) for name in cls.__struct_fields__ if name != "duration_ms"}
        return cls(**values, duration_ms=round(run.duration_seconds * 1000, 3))


class RunList(Answer):
    """A page of the newest runs.

    `next` goes on behind it. When `is_complete` is false there was no time to look further back than
    `looked_back_to`.
    """

    runs: list[Run]
    next: str | None
    is_complete: bool
    looked_back_to: datetime | None
    missing_indexes: list[str]

    @classmethod
    def of(cls, found: RecentRuns) -> "RunList":
        """What was found."""
        return cls(
            runs=list(map(Run.of, found.runs)),
            next=None if found.next is None else found.next.to_token(),
            is_complete=found.is_complete,
            looked_back_to=found.looked_back_to,
            missing_indexes=list(found.missing_indexes),
        )


class Activity(Answer):
    """Of each run, how many entries there are in each of equal shares of its time; null: none is stored."""

    activity: dict[str, list[int] | None]


class Name(Answer):
    """How many entries, and errors among them, have a name."""

    name: str
    entries: int
    errors: int


class RunSummary(Answer):
    """A run, and what is in it."""

    run: Run
    levels: list[Name]
    categories: list[Name]
    steps: list[Name]
    agents: list[Name]

    @classmethod
    def of(cls, run: StoredRun, names: groups.Names) -> "RunSummary":
        """The run with its names."""
        listed = {
            field: [
                Name(name=name, entries=number, errors=errors) for name, (number, errors) in found.items()
            ]
            for field, found in names.counts.items()
        }
        return cls(
            run=Run.of(run),
            levels=listed["level"],
            categories=listed["category"],
            steps=listed["step"],
            agents=listed["agent_name"],
        )


class Gap(Answer):
    """Entries of a process of which nothing is known; they may be of the run."""

    process: str
    entries: int
    made_after: datetime | None
    made_before: datetime | None

    @classmethod
    def of(cls, gap: audit.Gap) -> "Gap":
        """The gap, by its size."""
        number = gap.last - gap.first + 1
        return cls(
            process=gap.process, entries=number, made_after=gap.made_after, made_before=gap.made_before
        )


class Delay(Answer):
    """Entries of a process that were stored late; they may be of the run."""

    process: str
    entries: int
    seconds: float
    stored_at: datetime

    @classmethod
    def of(cls, delay: audit.Delay) -> "Delay":
        """The delay, by its size."""
        number = delay.last - delay.first + 1
        return cls(process=delay.process, entries=number, seconds=delay.seconds, stored_at=delay.stored_at)


class Letter(Answer):
    """An entry that the database has refused."""

    id: str
    batch_id: str
    task_id: str | None
    reason: str
    created_at: datetime
    entry: str

    @classmethod
    def of(cls, letter: DeadLetter) -> "Letter":
        """The letter, with the run that its entry names."""
        return cls(
            id=letter.id,
            batch_id=letter.batch_id,
            task_id=letter.task_id,
            reason=letter.reason,
            created_at=letter.created_at,
            entry=letter.entry[:_MAX_ENTRY_CHARS],
        )


_MAX_ENTRY_CHARS = 10_000


class Completeness(Answer):
    """What is known of a run beside its entries.

    `missing`, `pending` and `late` are of processes that were at work during the run, so they may be of it;
    `dead_letters` and `left_out` are of it. When `is_known` is false the ledger could not be asked.
    """

    is_known: bool
    why_not: str | None
    missing: list[Gap]
    pending: list[Gap]
    late: list[Delay]
    dead_letters: list[Letter]
    left_out: int

    @classmethod
    def of(cls, found: completeness.Completeness) -> "Completeness":
        """What was found."""
        return cls(
            is_known=found.why_unknown is None,
            why_not=found.why_unknown,
            missing=list(map(Gap.of, found.missing)),
            pending=list(map(Gap.of, found.pending)),
            late=list(map(Delay.of, found.late)),
            dead_letters=list(map(Letter.of, found.dead_letters)),
            left_out=found.left_out,
        )


_Index = Annotated[int, Meta(ge=-1)]


class Columns(Answer):
    """The entries of a skeleton, a list for each field; all lists have the same length.

    `at_us` are microseconds since 1970: the first as it is, each other as the difference to the one before.
    The fields of names are places in the lists of the skeleton; -1 stands for null.
    """

    id: list[str]
    at_us: list[int]
    level: list[_Index]
    category: list[_Index]
    step: list[_Index]
    agent: list[_Index]
    tool: list[_Index]
    name: list[_Index]
    operation: list[_Index]
    parent: list[_Index]
    duration_ms: list[int | None]
    state: list[_Index]


class Skeleton(Answer):
    """A page of all entries of a run, oldest first, with what a picture needs of each.

    `next` goes on behind it; null: there are no more. `place` is where the page ends: the live stream begins
    there. `total` counts all entries of the run, and is null on further pages.
    """

    next: str | None
    place: str | None
    total: int | None
    levels: list[str]
    categories: list[str]
    steps: list[str]
    agents: list[str]
    tools: list[str]
    names: list[str]
    operations: list[str]
    columns: Columns


class _Dictionary(dict[str | None, int]):
    """Gives each name a number, in the order of their first appearance."""

    def __missing__(self, name: str | None) -> int:
        number = self[name] = -1 if name is None else len(self) - (None in self)
        return number

    def names(self) -> list[str]:
        return [name for name in self if name is not None]


def to_skeleton(
    outlines: Sequence[Outline], following: str | None, place: str | None, total: int | None
) -> Skeleton:
    """Pack a page."""
    fields = ("level", "category", "step", "agent", "tool", "name")
    known = {field: _Dictionary() for field in fields}
    operations, before = _Dictionary(), 0
    columns: dict[str, list[Any]] = {field: [] for field in Columns.__struct_fields__}
    for outline in outlines:
        columns["id"].append(outline.id)
        columns["at_us"].append(outline.at_us - before)
        before = outline.at_us
        for field in fields:
            columns[field].append(known[field][getattr(outline, field)])
        columns["operation"].append(operations[outline.operation])
        columns["parent"].append(operations[outline.parent])
        columns["duration_ms"].append(outline.duration_ms)
        columns["state"].append(-1 if outline.state is None else STATES.index(RunState(outline.state)))
    return Skeleton(
        next=following,
        place=place,
        total=total,
        levels=known["level"].names(),
        categories=known["category"].names(),
        steps=known["step"].names(),
        agents=known["agent"].names(),
        tools=known["tool"].names(),
        names=known["name"].names(),
        operations=operations.names(),
        columns=Columns(**columns),
    )


class Entry(msgspec.Struct, kw_only=True):
    """An entry with every field; what has no value is null."""

    id: str
    created_at: datetime
    task_id: str
    level: str
    category: str
    message: str | None
    step: str | None
    agent_name: str | None
    roadmap_id: str | None
    concept_id: str | None
    details: dict[str, Any] | None
    duration_ms: int | None
    operation_id: str | None
    parent_id: str | None
    trace_id: str | None
    span_id: str | None

    @classmethod
    def of(cls, entry: LogEntry) -> "Entry":
        """The entry."""
        return cls(**{name: getattr(entry, name) for name in cls.__struct_fields__})


class Entries(Answer):
    """A page of entries, oldest first; `before` and `after` are the places where the next ones are."""

    entries: list[Entry]
    before: str | None
    after: str | None


class Search(Answer):
    """Where the wanted entries are: the ids of the first ones, oldest first, and how many there are."""

    ids: list[str]
    total: int
    is_complete: bool


class Live(Outline, frozen=True, gc=False):
    """An entry that has just been stored: an outline, and the beginning of its message."""

    message: str

    @classmethod
    def of(cls, entry: LogEntry, outline: Outline) -> "Live":
        """The entry, cut."""
        return cls(**msgspec.structs.asdict(outline), message=(entry.message or "")[:_MAX_TEXT_CHARS])


class Hour(Answer):
    """What was logged in an hour, in all or by one name; see `Statistic`."""

    hour: datetime
    dimension: str
    name: str
    entries: int
    errors: int
    runs: int | None
    timed: int
    p50_ms: float | None
    p95_ms: float | None

    @classmethod
    def of(cls, statistic: statistics.Statistic) -> "Hour":
        """The statistic."""
        return cls(**{name: getattr(statistic, name) for name in cls.__struct_fields__})


class Statistics(Answer):
    """The hours of a time.

    The job has counted those before `counted_until` (null: none). Of those behind it the ones from
    `uncounted_until` on were counted now; those between, if any, have too many entries for that.
    """

    since: datetime
    until: datetime
    counted_until: datetime | None
    uncounted_until: datetime
    hours: list[Hour]


class ErrorGroup(Answer):
    """Errors whose messages differ in numbers, ids and quoted words alone; the newest is shown."""

    fingerprint: str
    message: str
    entries: int
    runs: int
    first_at: datetime
    last_at: datetime
    task_id: str
    entry_id: str
    step: str | None
    agent: str | None

    @classmethod
    def of(cls, group: groups.ErrorGroup) -> "ErrorGroup":
        """The group, with the number of its runs."""
        values = {name: getattr(group, name) for name in cls.__struct_fields__ if name != "runs"}
        return cls(**values, runs=len(group.runs))


class Errors(Answer):
    """The most frequent errors of a time; `looked_at` errors were grouped, all of them if `is_complete`."""

    groups: list[ErrorGroup]
    looked_at: int
    is_complete: bool


class Part(Answer):
    """What a part of the pipeline says, and why it does not say more."""

    facts: dict[str, Any]
    error: str | None


class Finding(Answer):
    """What the doctor has found, and what to do about it."""

    check: str
    level: str
    message: str
    advice: str


class Health(Answer):
    """The pipeline: its parts in the order of an entry's way, and the doctor's findings."""

    asked_at: datetime
    parts: dict[str, Part]
    findings: list[Finding]


class Letters(Answer):
    """A page of dead letters, the newest first; `next` goes on behind it."""

    letters: list[Letter]
    next: str | None
    total: int


class Retried(Answer):
    """How many dead letters were stored, and why the database refuses the others still, by their ids."""

    stored: int
    refused: dict[str, str]

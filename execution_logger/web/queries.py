"""The queries of the API: what may be asked, within which bounds, and how a URL says it."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_type_hints
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.datastructures import QueryParams

from execution_logger.entry.entry import LogLevel, RunState
from execution_logger.read.timeline import Only
from execution_logger.store.schema import storable
from execution_logger.web.refusal import Refusal

UNKNOWN = "unknown"
"""The state of a run whose host tells nothing of it."""

Text = Annotated[str, Meta(max_length=2000)]
Names = Annotated[list[Text], Meta(max_length=100)]
TaskId = Annotated[str, Meta(min_length=1, max_length=2000, description="The name of the run.")]
Token = Annotated[str, Meta(max_length=4096, description="A place, as an answer has named it.")]
Moment = Annotated[datetime, Meta(tz=True)]
State = Literal["running", "done", "failed", "cancelled", "no end recorded", "unknown"]
Format = Literal["ndjson", "csv", "chrome-trace"]

_A_DAY = timedelta(days=1)
_MOST_STATISTICS = timedelta(days=400)

Q = TypeVar("Q", bound="Query")


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """The base of all: these parameters and no others."""


class Filtered(Query):
    """Which entries are wanted.

    `level` means this one and graver ones; `text` is looked for in messages and details, in any case;
    `operation` means these operations and all that is within them.
    """

    level: LogLevel | None = None
    category: Names = []
    step: Names = []
    agent: Names = []
    text: Text = ""
    operation: Annotated[list[UUID], Meta(max_length=100)] = []
    since: Moment | None = None
    until: Moment | None = None

    def only(self) -> Only:
        """The same, as it is read."""
        check_times(self.since, self.until)
        return Only.at_least(
            self.level,
            self.category,
            steps=tuple(self.step),
            agents=tuple(self.agent),
            text=self.text,
            operations=tuple(map(str, self.operation)),
            since=self.since,
            until=self.until,
        )


class RunsQuery(Filtered):
    """Which runs: those with an entry that all of the filters take."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    after: Token | None = None
    state: Annotated[list[State], Meta(max_length=10)] = []
    with_errors: bool = False

    def states(self) -> list[RunState | None]:
        """The same, as it is read."""
        return [None if state == UNKNOWN else RunState(state) for state in self.state]


class ActivityQuery(Query):
    """Of which runs."""

    task_id: Annotated[list[TaskId], Meta(min_length=1, max_length=50)]
    buckets: Annotated[int, Meta(ge=2, le=100)] = 24


class OfRun(Query, kw_only=True):
    """Of which run."""

    task_id: TaskId


class SkeletonQuery(OfRun):
    """Which part of a skeleton."""

    after: Token | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 5000


class FilteredOfRun(Filtered, kw_only=True):
    """Which entries of which run."""

    task_id: TaskId


class EntriesQuery(FilteredOfRun):
    """Which entries: those with an `id`, or a page of the others.

    A page begins behind the place `after` or the entry `after_id`, or ends right before `before` or
    `before_id`; `last` means the last page. Without `details` those are null.
    """

    id: Annotated[list[Text], Meta(max_length=200)] = []
    after: Token | None = None
    before: Token | None = None
    after_id: Text | None = None
    before_id: Text | None = None
    last: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 100
    details: bool = True


class SearchQuery(FilteredOfRun):
    """Which entries of which run."""


class ExportQuery(FilteredOfRun):
    """Which entries of which run, and how they are written."""

    format: Format = "ndjson"


class LiveQuery(OfRun):
    """From where on: `<place of a skeleton>.<how many entries were read>`; without it, from now on."""

    from_: Annotated[str, Meta(max_length=5000)] | None = msgspec.field(default=None, name="from")


class TimeQuery(Query):
    """Which time: the last 24 hours without one."""

    since: Moment | None = None
    until: Moment | None = None

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when to when, in UTC."""
        check_times(self.since, self.until)
        until = (self.until or now).astimezone(UTC)
        since = (self.since or until - _A_DAY).astimezone(UTC)
        if not since < until or until - since > _MOST_STATISTICS:
            raise Refusal(
                400, "bad_request", f"since: must be before until, by {_MOST_STATISTICS.days} days at most"
            )
        return since, until


class ErrorsQuery(TimeQuery):
    """How many groups of the errors of a time."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class LettersQuery(Query):
    """Which dead letters."""

    after: Token | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class Nothing(Query):
    """No parameters."""


class RetryRequest(Query):
    """Which dead letters are to be tried again: the body of the request."""

    ids: Annotated[list[Text], Meta(min_length=1, max_length=100)]


def parse(kind: type[Q], parameters: QueryParams) -> Q:
    """The query that a URL holds.

    Raises:
        Refusal: naming the parameter, and what is allowed.
    """
    values: dict[str, Any] = {}
    for name in parameters:
        given = [storable(text) for text in parameters.getlist(name)]
        if name in _lists(kind):
            values[name] = given
        elif len(given) > 1:
            raise Refusal(400, "bad_request", f"{name[:80]}: is given {len(given)} times; give it once")
        else:
            values[name] = given[0]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(400, "bad_request", _explained(str(error))) from None


def decode(kind: type[Q], body: bytes) -> Q:
    """The query that a body holds.

    Raises:
        Refusal: naming the field, and what is allowed.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(400, "bad_request", _explained(str(error))) from None


def check_times(*moments: datetime | None) -> None:
    """Raise Refusal for a time that is no local time everywhere."""
    try:
        _ = [(moment - _A_DAY, moment + _A_DAY) for moment in moments if moment is not None]
    except OverflowError:
        raise Refusal(400, "bad_request", "since, until: a year must be between 1 and 9999") from None


@cache
def _lists(kind: type[Query]) -> frozenset[str]:
    """The parameters that may be given several times."""
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if getattr(hint, "__origin__", None) is list)


def _explained(problem: str) -> str:
    """Msgspec's words, with the name of the parameter in front."""
    what, _, place = problem.partition(" - at `$.")
    return f"{place.rstrip('`')}: {what}" if place else what

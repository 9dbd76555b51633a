// The runs that a reader has looked at so far, kept up to date by the stream. It knows no DOM.
import { get } from "../api/client";
import { Stream, type StreamState } from "../api/stream";
import type { Run, RunsPage } from "../api/types";
import { filterQuery, hasFilters, type Place } from "../model/place";

const AGAIN_MS = 3000;

export class RunList {
  runs: Run[] = [];
  next: string | null = null;
  lookedBackTo: string | null = null;
  missingIndexes: string[] = [];
  isComplete = true;
  isLoading = false;
  isAsked = false;
  error: unknown = null;
  streamState: StreamState = "connecting";
  trouble: string | null = null;

  private place: Place | null = null;
  private query = "";
  private reading = new AbortController();
  private againTimer = 0;
  private isHeld = false;
  private readonly stream: Stream;

  /** @param onChange called with the names of the runs that have changed. */
  constructor(private readonly onChange: (changed: readonly string[]) => void) {
    const listeners = {
      runs: (data: unknown) => this.changed((data as { runs: Run[] }).runs),
      trouble: (data: unknown) => {
        this.trouble = (data as { message: string | null }).message;
        onChange([]);
      },
    };
    this.stream = new Stream("runs/live", {}, listeners, state => {
      this.streamState = state;
      onChange([]);
    });
  }

  close(): void {
    this.stream.close();
    this.reading.abort();
    clearTimeout(this.againTimer);
  }

  /** Shows the runs that these filters take. */
  show(place: Place): void {
    const query = JSON.stringify([place.filters, place.state, place.withErrors]);
    if (query === this.query) return;
    this.query = query;
    this.place = place;
    this.runs = [];
    this.isAsked = false;
    this.next = null;
    void this.read(null);
  }

  more(): void {
    if (this.next !== null && !this.isLoading) void this.read(this.next);
  }

  again(): void {
    void this.read(null);
  }

  private async read(after: string | null): Promise<void> {
    const { place } = this;
    if (place === null) return;
    this.reading.abort();
    this.reading = new AbortController();
    const { signal } = this.reading;
    this.isLoading = true;
    this.onChange([]);
    try {
      const { filters, state, withErrors } = place;
      const query = { ...filterQuery(filters), state, with_errors: withErrors || null, after };
      const page = await get<RunsPage>("runs", query, signal);
      const isFirst = after === null && this.runs.length === 0;
      this.put(page.runs);
      if (after !== null || isFirst) this.next = page.next;
      this.lookedBackTo = page.looked_back_to;
      this.missingIndexes = page.missing_indexes;
      this.isComplete = page.is_complete;
      this.isAsked = true;
      this.error = null;
      this.isLoading = false;
      this.onChange(page.runs.map(run => run.task_id));
    } catch (error) {
      if (signal.aborted) return;
      this.isLoading = false;
      this.error = error;
      this.onChange([]);
    }
  }

  /** As long as it is held the order stays, so that nothing moves away under a pointer; new runs come to the top. */
  hold(isHeld: boolean): void {
    this.isHeld = isHeld;
    if (isHeld) return;
    this.put([]);
    this.onChange([]);
  }

  private put(runs: readonly Run[]): void {
    const byId = new Map(runs.map(run => [run.task_id, run]));
    const known = this.runs.map(run => byId.get(run.task_id) ?? run);
    for (const run of known) byId.delete(run.task_id);
    this.runs = [...byId.values(), ...known];
    if (!this.isHeld) this.runs.sort(newestFirst);
  }

  /** Without a filter every run belongs here; with one, the server tells which of the new ones do. */
  private changed(runs: readonly Run[]): void {
    const { place } = this;
    if (place === null || !this.isAsked) return;
    const isFiltered = hasFilters(place.filters) || place.state.length > 0 || place.withErrors;
    const known = new Set(this.runs.map(run => run.task_id));
    const oldest = this.next === null ? "" : (this.runs.at(-1)?.last_at ?? "");
    const taken = runs.filter(run => known.has(run.task_id) || (!isFiltered && run.last_at >= oldest));
    this.put(taken);
    if (isFiltered && taken.length < runs.length && !this.againTimer)
      this.againTimer = window.setTimeout(() => {
        this.againTimer = 0;
        this.again();
      }, AGAIN_MS);
    this.onChange(taken.map(run => run.task_id));
  }
}

function newestFirst(a: Run, b: Run): number {
  return a.last_at < b.last_at ? 1 : a.last_at > b.last_at ? -1 : 0;
}

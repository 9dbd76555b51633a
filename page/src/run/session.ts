// A run as it is read: all of its rows, what comes in later, and which of them the filters take. It knows no DOM.
import { get } from "../api/client";
import { Stream, type StreamState } from "../api/stream";
import type { Completeness, LiveEntry, Run, RunSummary, SearchResult } from "../api/types";
import { decode, type Row, RunLog, rowOf } from "../model/log";
import { type Filters, filterQuery, hasFilters } from "../model/place";
import { takes } from "../model/selection";
import { Briefs } from "./briefs";
import { skeletonPages } from "./skeleton";

export interface Matches {
  /** Tells whether an entry is one of them. */
  has(row: Row): boolean;
  total: number;
  /** Fewer are shown than there are. */
  isCut: boolean;
}

const SEARCH_PAUSE_MS = 1500;
const COMPLETENESS_MS = 15_000;

export class RunSession {
  readonly log = new RunLog();
  readonly briefs: Briefs;
  summary: RunSummary | null = null;
  run: Run | null = null;
  total = 0;
  isLoaded = false;
  completeness: Completeness | null = null;
  error: unknown = null;
  streamState: StreamState = "connecting";
  /** What keeps live entries from coming. */
  trouble: string | null = null;
  /** null: there is no filter. */
  matches: Matches | null = null;
  isSearching = false;
  /** Counts changes of the rows. */
  version = 0;

  private isRestAsked = false;
  private filters: Filters | null = null;
  private stream: Stream | null = null;
  private searchTimer = 0;
  private completenessTimer = 0;
  private search = new AbortController();
  private readonly life = new AbortController();

  /**
   * @param onChange called when anything has changed.
   * @param onArrival called with entries that have come live.
   */
  constructor(
    readonly taskId: string,
    private readonly onChange: () => void,
    private readonly onArrival: (rows: Row[]) => void,
  ) {
    this.briefs = new Briefs(taskId, onChange);
  }

  /** The first entries are there at once, as long as nothing else is asked for before; whether they come or not. */
  start(): void {
    void this.attempt(async () => {
      const place = await this.readSkeleton();
      this.isLoaded = true;
      this.onChange();
      this.listen(place);
    }).finally(() => this.readRest());
  }

  private readRest(): void {
    if (this.isRestAsked) return;
    this.isRestAsked = true;
    void this.attempt(() => this.readSummary());
    void this.readCompleteness();
  }

  close(): void {
    this.life.abort();
    this.search.abort();
    clearTimeout(this.searchTimer);
    clearTimeout(this.completenessTimer);
    this.stream?.close();
  }

  setFilters(filters: Filters): void {
    if (JSON.stringify(filters) === JSON.stringify(this.filters)) return;
    this.filters = filters;
    this.find();
  }

  private async attempt(read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (error) {
      if (this.life.signal.aborted) return;
      this.error = error;
      this.onChange();
    }
  }

  private async readSummary(): Promise<void> {
    this.summary = await get<RunSummary>("run", { task_id: this.taskId }, this.life.signal);
    this.run ??= this.summary.run;
    this.onChange();
  }

  private async readSkeleton(): Promise<string> {
    let place = "";
    for await (const page of skeletonPages(this.taskId, this.life.signal)) {
      this.total = Math.max(this.total, page.total ?? 0);
      this.add(decode(page));
      place = page.place;
      this.readRest();
    }
    return place;
  }

  private async readCompleteness(): Promise<void> {
    try {
      const query = { task_id: this.taskId };
      this.completeness = await get<Completeness>("run/completeness", query, this.life.signal);
      this.onChange();
    } catch (error) {
      if (!this.life.signal.aborted) console.warn("Completeness is not known", error);
    }
  }

  /** Entries that come live change it. */
  private readCompletenessLater(): void {
    this.completenessTimer ||= window.setTimeout(() => {
      this.completenessTimer = 0;
      void this.readCompleteness();
    }, COMPLETENESS_MS);
  }

  private listen(place: string): void {
    const from = `${place}.${this.log.rows.length}`;
    const listeners = {
      entries: (data: unknown) => this.arrived((data as { entries: LiveEntry[] }).entries),
      run: (data: unknown) => {
        this.run = (data as { run: Run }).run;
        this.onChange();
      },
      resync: () => void this.attempt(async () => void (await this.readSkeleton())),
      trouble: (data: unknown) => {
        this.trouble = (data as { message: string | null }).message;
        this.onChange();
      },
    };
    const onState = (state: StreamState) => {
      this.streamState = state;
      this.onChange();
    };
    if (!this.life.signal.aborted)
      this.stream = new Stream("run/live", { task_id: this.taskId, from }, listeners, onState);
  }

  private arrived(entries: LiveEntry[]): void {
    this.briefs.put(entries);
    const added = this.add(entries.map(rowOf));
    if (added.length > 0) this.onArrival(added);
  }

  private add(rows: Row[]): Row[] {
    const added = this.log.merge(rows);
    if (added.length === 0) return added;
    this.total = Math.max(this.total, this.log.rows.length);
    this.version++;
    if (this.isLoaded) this.readCompletenessLater();
    if (this.matches !== null) this.findLater();
    this.onChange();
    return added;
  }

  private findLater(): void {
    if (!this.needsServer) this.find();
    else if (!this.searchTimer) this.searchTimer = window.setTimeout(() => this.find(), SEARCH_PAUSE_MS);
  }

  /** Texts are searched by the server in all entries; all else is known of every row here. */
  private get needsServer(): boolean {
    return this.filters !== null && (this.filters.text !== "" || this.filters.operation.length > 0);
  }

  private find(): void {
    clearTimeout(this.searchTimer);
    this.searchTimer = 0;
    this.search.abort();
    const filters = this.filters;
    if (filters === null || !hasFilters(filters)) this.found(null);
    else if (this.needsServer) void this.ask(filters);
    else {
      const isTaken = takes(filters);
      const total = this.log.rows.reduce((sum, row) => sum + Number(isTaken(row)), 0);
      this.found({ has: isTaken, total, isCut: false });
    }
  }

  private async ask(filters: Filters): Promise<void> {
    this.search = new AbortController();
    const { signal } = this.search;
    this.isSearching = true;
    this.onChange();
    try {
      const query = { task_id: this.taskId, ...filterQuery(filters) };
      const result = await get<SearchResult>("run/search", query, signal);
      const ids = new Set(result.ids);
      this.found({ has: row => ids.has(row.id), total: result.total, isCut: ids.size < result.total });
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
      this.found(this.matches);
    }
  }

  private found(matches: Matches | null): void {
    this.isSearching = false;
    this.matches = matches;
    this.onChange();
  }
}

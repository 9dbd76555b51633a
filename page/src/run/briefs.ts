// The messages of the rows in sight. They are asked for in pages, and only so many are kept.
import { get } from "../api/client";
import type { EntriesPage, Entry, LiveEntry } from "../api/types";
import { firstLine } from "../model/format";

const MOST_KEPT = 5000;
const PAGE = 100;
const PAUSE_MS = 40; // a reader who scrolls on asks for the next rows by then

export class Briefs {
  private readonly kept = new Map<string, string>();
  private readonly refused = new Set<string>();
  private wanted: string[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;
  private isAsking = false;

  constructor(
    private readonly taskId: string,
    private readonly onChange: () => void,
    private readonly ask = (ids: string[]) =>
      get<EntriesPage>("run/entries", { task_id: taskId, id: ids, details: false }),
  ) {}

  get(id: string): string | undefined {
    return this.kept.get(id);
  }

  put(entries: readonly (Entry | LiveEntry)[]): void {
    for (const { id, message } of entries) {
      this.kept.delete(id);
      this.kept.set(id, firstLine(message));
    }
    for (const id of this.kept.keys()) {
      if (this.kept.size <= MOST_KEPT) break;
      this.kept.delete(id);
    }
  }

  /** Says what is in sight now; what was asked for before and is not in sight any more is not fetched. */
  want(ids: readonly string[]): void {
    this.wanted = ids.filter(id => !this.kept.has(id) && !this.refused.has(id));
    if (this.wanted.length > 0) this.timer ??= setTimeout(() => this.fetch(), PAUSE_MS);
  }

  private async fetch(): Promise<void> {
    this.timer = null;
    if (this.isAsking) return;
    this.isAsking = true;
    const ids = this.wanted.slice(0, PAGE);
    try {
      const { entries } = await this.ask(ids);
      this.put(entries);
      // An answer holds four mebibytes at most: what is missing is asked for again, unless nothing came.
      if (entries.length === 0) for (const id of ids) this.refused.add(id);
    } catch (error) {
      console.warn(`Messages of ${this.taskId} could not be read`, error);
      for (const id of ids) this.refused.add(id);
      setTimeout(() => this.refused.clear(), 5000);
    }
    this.isAsking = false;
    this.onChange();
    this.want(this.wanted);
  }
}

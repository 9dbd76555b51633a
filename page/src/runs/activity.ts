// How many entries a run had over its time, for the rows in sight.
import { get } from "../api/client";

const PAGE = 50;
const PAUSE_MS = 60;

export class Activity {
  private readonly known = new Map<string, number[] | null>();
  private readonly waiting = new Set<string>();
  private readonly observer: IntersectionObserver;
  private timer = 0;

  constructor(private readonly onChange: () => void) {
    this.observer = new IntersectionObserver(seen => {
      for (const { isIntersecting, target } of seen)
        if (isIntersecting) this.want((target as HTMLElement).dataset.run);
    });
  }

  get(taskId: string): number[] | null | undefined {
    return this.known.get(taskId);
  }

  watch(rows: Iterable<Element>): void {
    for (const row of rows) this.observer.observe(row);
  }

  /** They have changed: what is in sight is asked for again. */
  forget(taskIds: readonly string[]): void {
    for (const id of taskIds) if (this.known.has(id)) this.want(id);
  }

  close(): void {
    this.observer.disconnect();
    clearTimeout(this.timer);
  }

  private want(taskId: string | undefined): void {
    if (taskId === undefined) return;
    this.waiting.add(taskId);
    this.timer ||= window.setTimeout(() => this.ask(), PAUSE_MS);
  }

  private async ask(): Promise<void> {
    const ids = [...this.waiting].slice(0, PAGE);
    for (const id of ids) this.waiting.delete(id);
    try {
      const answer = await get<{ activity: Record<string, number[] | null> }>("runs/activity", {
        task_id: ids,
      });
      for (const id of ids) this.known.set(id, answer.activity[id] ?? null);
    } catch {
      for (const id of ids) this.known.set(id, null); // a picture that lacks is no reason for alarm
    }
    this.timer = 0;
    if (this.waiting.size > 0) this.timer = window.setTimeout(() => this.ask(), PAUSE_MS);
    this.onChange();
  }
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { Stream, type StreamState, type Surroundings } from "../src/api/stream";

class FakeSource {
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  private readonly listeners = new Map<string, (event: object) => void>();

  constructor(readonly url: string) {}

  addEventListener(name: string, listener: (event: object) => void): void {
    this.listeners.set(name, listener);
  }

  send(name: string, data: unknown, lastEventId: string): void {
    this.listeners.get(name)?.({ data: JSON.stringify(data), lastEventId });
  }

  close(): void {
    this.readyState = 2;
  }
}

class Around {
  sources: FakeSource[] = [];
  hidden = false;
  visibility = () => {};
  waiting: { milliseconds: number; action: () => void }[] = [];

  readonly surroundings: Surroundings = {
    open: url => {
      const source = new FakeSource(url);
      this.sources.push(source);
      return source as unknown as EventSource;
    },
    isHidden: () => this.hidden,
    onVisibility: listener => {
      this.visibility = listener;
      return () => {
        this.visibility = () => {};
      };
    },
    later: (milliseconds, action) => {
      const one = { milliseconds, action };
      this.waiting.push(one);
      return () => {
        this.waiting = this.waiting.filter(other => other !== one);
      };
    },
  };

  hide(hidden: boolean): void {
    this.hidden = hidden;
    this.visibility();
  }

  get last(): FakeSource {
    return this.sources.at(-1) as FakeSource;
  }
}

function listen(around: Around) {
  const heard: unknown[] = [];
  const states: StreamState[] = [];
  const query = { task_id: "r", from: "p.3" };
  const listeners = { entries: (data: unknown) => heard.push(data) };
  const stream = new Stream("run/live", query, listeners, state => states.push(state), around.surroundings);
  return { stream, heard, states };
}

test("a stream begins where it is told to, and hands on what comes", () => {
  const around = new Around();
  const { heard } = listen(around);
  assert.equal(around.last.url, "api/run/live?task_id=r&from=p.3");
  around.last.send("entries", { entries: [1] }, "p.4");
  assert.deepEqual(heard, [{ entries: [1] }]);
});

test("a hidden tab rests, and goes on behind the last event when it is shown", () => {
  const around = new Around();
  const { states } = listen(around);
  around.last.send("entries", {}, "q.9");
  around.hide(true);
  assert.equal(around.sources[0]?.readyState, 2);
  assert.equal(states.at(-1), "paused");
  around.hide(false);
  assert.equal(around.last.url, "api/run/live?task_id=r&from=q.9");
  assert.equal(around.sources.length, 2);
});

test("where the browser gives up, it is tried again, later and later", () => {
  const around = new Around();
  listen(around);
  for (const expected of [1000, 2000, 4000]) {
    around.last.readyState = 2;
    around.last.onerror?.();
    assert.deepEqual(
      around.waiting.map(one => one.milliseconds),
      [expected],
    );
    around.waiting.pop()?.action();
  }
  around.last.onopen?.();
  around.last.readyState = 2;
  around.last.onerror?.();
  assert.deepEqual(
    around.waiting.map(one => one.milliseconds),
    [1000],
  );
});

test("where the browser reconnects by itself, nothing is opened besides", () => {
  const around = new Around();
  listen(around);
  around.last.onerror?.();
  assert.equal(around.waiting.length, 0);
  assert.equal(around.sources.length, 1);
});

test("a closed stream stays closed", () => {
  const around = new Around();
  const { stream } = listen(around);
  stream.close();
  around.hide(false);
  assert.equal(around.sources.length, 1);
  assert.equal(around.last.readyState, 2);
});

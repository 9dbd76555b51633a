// A stream of server-sent events that survives restarts of the server and lets a hidden tab rest.
import { address, type Query } from "./client";

export type StreamState = "connecting" | "open" | "paused" | "closed";

/** What this needs of the browser; tests bring their own. */
export interface Surroundings {
  open(url: string): EventSource;
  isHidden(): boolean;
  onVisibility(listener: () => void): () => void;
  later(milliseconds: number, action: () => void): () => void;
}

const browser: Surroundings = {
  open: url => new EventSource(url),
  isHidden: () => document.hidden,
  onVisibility(listener) {
    document.addEventListener("visibilitychange", listener);
    return () => document.removeEventListener("visibilitychange", listener);
  },
  later(milliseconds, action) {
    const timer = setTimeout(action, milliseconds);
    return () => clearTimeout(timer);
  },
};

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

/**
 * Listens until it is closed. The browser itself reconnects where a connection breaks; this opens a new one where the
 * browser gives up (an answer that is an error), and when a hidden tab is shown again. Both go on behind the last event.
 */
export class Stream {
  private source: EventSource | null = null;
  private place: string | null;
  private pauseMs = FIRST_PAUSE_MS;
  private cancelRetry: (() => void) | null = null;
  private readonly stopWatching: () => void;
  private isClosed = false;

  /**
   * @param query the parameters; `from`, where it begins, is replaced by the id of the last event.
   * @param listeners by the name of the event; each is given its data.
   */
  constructor(
    private readonly path: string,
    private readonly query: Query,
    private readonly listeners: Record<string, (data: unknown) => void>,
    private readonly onState: (state: StreamState) => void = () => {},
    private readonly around: Surroundings = browser,
  ) {
    this.place = typeof query.from === "string" ? query.from : null;
    this.stopWatching = around.onVisibility(() => this.adapt());
    this.adapt();
  }

  close(): void {
    this.isClosed = true;
    this.stopWatching();
    this.disconnect();
    this.onState("closed");
  }

  private adapt(): void {
    if (this.isClosed) return;
    if (this.around.isHidden()) {
      this.disconnect();
      this.onState("paused");
    } else if (this.source === null) this.connect();
  }

  private disconnect(): void {
    this.cancelRetry?.();
    this.cancelRetry = null;
    this.source?.close();
    this.source = null;
  }

  private connect(): void {
    this.onState("connecting");
    const query = this.place === null ? this.query : { ...this.query, from: this.place };
    const source = this.around.open(address(this.path, query));
    this.source = source;
    source.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      this.onState("open");
    };
    source.onerror = () => this.failed(source);
    for (const [name, listener] of Object.entries(this.listeners)) {
      source.addEventListener(name, event => {
        const message = event as MessageEvent<string>;
        if (message.lastEventId) this.place = message.lastEventId;
        listener(JSON.parse(message.data));
      });
    }
  }

  private failed(source: EventSource): void {
    if (this.source !== source) return;
    this.onState("connecting");
    if (source.readyState !== 2) return; // the browser reconnects by itself
    this.disconnect();
    this.cancelRetry = this.around.later(this.pauseMs, () => this.adapt());
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

// Maps time to pixels. A gap in which nothing happens, wider than a twentieth of what is shown, takes 28 pixels: or
// else three calls of 40 ms within half a minute would be three invisible slivers (as Langfuse does it).

export interface Span {
  readonly from: number;
  readonly to: number;
}

export const GAP_WIDTH = 28;
const GAP_SHARE = 0.05;

interface Segment extends Span {
  readonly x: number;
  readonly width: number;
  readonly isGap: boolean;
}

export interface Tick {
  readonly x: number;
  readonly at: number;
}

/** Joins what overlaps. */
export function joined(spans: readonly Span[]): Span[] {
  const result: { from: number; to: number }[] = [];
  for (const span of [...spans].sort((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last === undefined || span.from > last.to) result.push({ from: span.from, to: span.to });
    else if (span.to > last.to) last.to = span.to;
  }
  return result;
}

export class TimeScale {
  readonly segments: readonly Segment[];

  /**
   * @param window what is shown, in microseconds.
   * @param width in pixels.
   * @param busy when something happened, joined and in order.
   * @param origin from where on ticks are counted.
   */
  constructor(
    readonly window: Span,
    readonly width: number,
    busy: readonly Span[],
    private readonly origin = window.from,
  ) {
    this.segments = segmentsOf(window, width, gapsOf(window, busy, width));
  }

  get gaps(): readonly Segment[] {
    return this.segments.filter(segment => segment.isGap);
  }

  /** Pixels from the left; what is outside of the window is at its edge. */
  x(at: number): number {
    const segment = this.find(one => at < one.to);
    const share = (at - segment.from) / Math.max(segment.to - segment.from, 1e-9);
    return segment.x + segment.width * Math.min(Math.max(share, 0), 1);
  }

  /** The moment at a pixel: the real one, also within a gap. */
  at(x: number): number {
    const segment = this.find(one => x < one.x + one.width);
    const share = (x - segment.x) / Math.max(segment.width, 1e-9);
    return segment.from + (segment.to - segment.from) * Math.min(Math.max(share, 0), 1);
  }

  /** Round moments, `spacing` pixels apart or more, none of them within a gap. */
  ticks(spacing: number): Tick[] {
    const open = this.segments.filter(segment => !segment.isGap);
    const shown = open.reduce((sum, segment) => sum + segment.to - segment.from, 0);
    const pixels = open.reduce((sum, segment) => sum + segment.width, 0);
    if (shown <= 0 || pixels <= 0) return [];
    const step = roundStep((shown / pixels) * spacing);
    const ticks: Tick[] = [];
    for (const segment of open) {
      // What is read is how long after the beginning something was.
      const first = Math.ceil((segment.from - this.origin) / step);
      for (let i = first; this.origin + i * step <= segment.to; i++) {
        const at = this.origin + i * step;
        const x = this.x(at);
        if (x - (ticks.at(-1)?.x ?? Number.NEGATIVE_INFINITY) >= spacing * 0.6) ticks.push({ x, at });
      }
    }
    return ticks;
  }

  private find(isIt: (segment: Segment) => boolean): Segment {
    return this.segments.find(isIt) ?? (this.segments.at(-1) as Segment);
  }
}

function gapsOf(window: Span, busy: readonly Span[], width: number): Span[] {
  const idle = idleSpans(window, busy);
  const all = window.to - window.from;
  const wide = idle.filter(gap => length(gap) > all * GAP_SHARE);
  if (leavesSomething(wide, all)) return widest(wide, width);
  // Nothing but single moments, as in a log with an entry a minute: only what breaks their rhythm is a gap.
  const usual = idle.map(length).sort((a, b) => a - b)[idle.length >> 1] ?? 0;
  const unusual = wide.filter(gap => length(gap) > usual * 3);
  return leavesSomething(unusual, all) ? widest(unusual, width) : [];
}

function length({ from, to }: Span): number {
  return to - from;
}

function leavesSomething(gaps: readonly Span[], all: number): boolean {
  return all - gaps.reduce((sum, gap) => sum + length(gap), 0) > all / 1000;
}

/** Markers alone are no picture: on a narrow screen only the widest gaps are closed. */
function widest(gaps: readonly Span[], width: number): Span[] {
  const most = Math.floor((width * 0.5) / GAP_WIDTH);
  const chosen = [...gaps].sort((a, b) => length(b) - length(a)).slice(0, most);
  return chosen.sort((a, b) => a.from - b.from);
}

function idleSpans(window: Span, busy: readonly Span[]): Span[] {
  const idle: Span[] = [];
  let { from } = window;
  for (const span of [...busy, { from: window.to, to: window.to }]) {
    const to = Math.min(span.from, window.to);
    if (to > from) idle.push({ from, to });
    from = Math.max(from, span.to);
    if (from >= window.to) break;
  }
  return idle;
}

function segmentsOf(window: Span, width: number, gaps: readonly Span[]): Segment[] {
  const closed = gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0);
  const open = window.to - window.from - closed;
  const scale = (width - gaps.length * GAP_WIDTH) / Math.max(open, 1e-9);
  const segments: Segment[] = [];
  let x = 0;
  const push = (span: Span, pixels: number, isGap: boolean) => {
    segments.push({ ...span, x, width: pixels, isGap });
    x += pixels;
  };
  let from = window.from;
  for (const gap of gaps) {
    if (gap.from > from) push({ from, to: gap.from }, (gap.from - from) * scale, false);
    push(gap, GAP_WIDTH, true);
    from = gap.to;
  }
  if (from < window.to || segments.length === 0)
    push({ from, to: window.to }, (window.to - from) * scale, false);
  return segments;
}

const SECOND = 1_000_000;
const ROUND = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map(s => s * SECOND);

/** The next round step that is not below: 1, 2 or 5 of a decimal place, beyond half a minute parts of hours and days. */
function roundStep(atLeast: number): number {
  if (atLeast > 30 * SECOND)
    return ROUND.find(step => step >= atLeast) ?? Math.ceil(atLeast / 86400e6) * 86400e6;
  const place = 10 ** Math.floor(Math.log10(Math.max(atLeast, 1)));
  return place * ([1, 2, 5, 10].find(factor => place * factor >= atLeast) ?? 10);
}

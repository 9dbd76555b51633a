// What stands in the times of a line of the waterfall: the bar of an operation, the mark of an entry.
import { html, nothing, type TemplateResult } from "lit";
import type { RunState } from "../api/types";
import { duration } from "../i18n/language";
import { stateText } from "../i18n/names";
import { clock } from "../model/format";
import { isError, type Row } from "../model/log";
import type { TimeScale } from "../model/timescale";
import type { Operation } from "../model/tree";
import { styled } from "../ui/element";

/** Pixels that a duration takes, at most. */
const TEXT_WIDTH = 72;

/**
 * @param state null where it is not known.
 * @param now until which an open operation of a running run reaches; null of a run that is not running.
 */
export function bar(
  scale: TimeScale,
  operation: Operation,
  state: RunState | null,
  now: number | null,
): TemplateResult {
  const isOpen = operation.endedAt === null;
  const to = operation.endedAt ?? now ?? operation.lastAt;
  const { from: start, to: end } = scale.window;
  if (to < start || operation.beganAt > end) return elsewhere(to < start);
  const left = scale.x(operation.beganAt);
  const width = Math.max(scale.x(to) - left, 2);
  const text = duration(operation.durationMs ?? (to - operation.beganAt) / 1000);
  const kind = operation.isGroup || state === null ? "group" : state.replaceAll(" ", "-");
  // The duration stands where there is room: behind the bar, before it, or in it.
  const [side, at] =
    scale.width - left - width > TEXT_WIDTH
      ? ["behind", left + width + 5]
      : left > TEXT_WIDTH
        ? ["before", left - 5]
        : ["inside", left + 4];
  return html`<span
      class="bar ${kind} ${isOpen ? "open" : ""}"
      title="${stateText(state)}, ${clock(operation.beganAt)} – ${isOpen ? "…" : clock(to)}, ${text}"
      ${styled({ left: `${left}px`, width: `${width}px` })}
    ></span
    ><span class="duration ${side}" ${styled({ left: `${at}px` })}>${text}</span>`;
}

export function mark(scale: TimeScale, row: Row): TemplateResult {
  const { from, to } = scale.window;
  if (row.at < from || row.at > to) return elsewhere(row.at < from);
  const left = scale.x(row.at);
  const width = row.durationMs === null ? 0 : left - scale.x(row.at - row.durationMs * 1000);
  const kind = isError(row) ? "failed" : "done";
  return html`${
    width > 2
      ? html`<span class="bar thin ${kind}" ${styled({ left: `${left - width}px`, width: `${width}px` })}></span>`
      : nothing
  }<i class="mark ${row.level}" title=${clock(row.at)} ${styled({ left: `${left}px` })}></i>`;
}

/** What is outside of the times that are shown. */
function elsewhere(isBefore: boolean): TemplateResult {
  return html`<span class="elsewhere ${isBefore ? "before" : "behind"}">${isBefore ? "‹" : "›"}</span>`;
}

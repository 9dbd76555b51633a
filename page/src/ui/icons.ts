// States and levels differ by shape as well as by colour.
import { html, svg, type TemplateResult } from "lit";
import type { RunState } from "../api/types";
import { stateText } from "../i18n/names";

const SHAPES = {
  done: svg`<circle cx="8" cy="8" r="7" /><path class="on" d="m4.8 8.2 2.2 2.3 4.2-4.8" />`,
  failed: svg`<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" /><path class="on" d="m5.5 5.5 5 5m0-5-5 5" />`,
  running: svg`<circle class="ring" cx="8" cy="8" r="6" /><path d="M8 4a4 4 0 0 1 0 8z" />`,
  cancelled: svg`<circle class="ring" cx="8" cy="8" r="6" /><path class="line" d="m4 12 8-8" />`,
  "no end recorded": svg`<circle class="ring dashed" cx="8" cy="8" r="6" /><path class="line" d="M8 5v3.5m0 2v.5" />`,
  none: svg`<path class="line" d="M4.5 8h7" />`,
  critical: svg`<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" /><path class="on" d="M8 4.2v4.6m0 2.2v.6" />`,
  error: svg`<path d="M8 1l7 7-7 7-7-7z" /><path class="on" d="m6 6 4 4m0-4-4 4" />`,
  warning: svg`<path d="M8 1.5 15 14H1z" /><path class="on" d="M8 6v4m0 1.6v.4" />`,
  info: svg`<circle cx="8" cy="8" r="3.5" />`,
  debug: svg`<circle class="ring" cx="8" cy="8" r="3" />`,
  retry: svg`<path class="line" d="M12.5 6A5 5 0 1 0 13 9M13 2.5V6H9.5" />`,
};

export type IconName = keyof typeof SHAPES;

/** Hidden from assistive technology, which is told the label where there is one. */
export function icon(name: IconName, label = ""): TemplateResult {
  return html`<svg
    class="icon ${name.replaceAll(" ", "-")}"
    viewBox="0 0 16 16"
    role=${label ? "img" : "presentation"}
    aria-label=${label || "none"}
    aria-hidden=${label ? "false" : "true"}
  >
    ${label ? svg`<title>${label}</title>` : ""}${SHAPES[name]}
  </svg>`;
}

export function stateIcon(state: RunState | null): TemplateResult {
  return icon(state ?? "none", stateText(state));
}

export function levelIcon(level: string): TemplateResult {
  return icon(level in SHAPES ? (level as IconName) : "info", level);
}

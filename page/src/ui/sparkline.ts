import { html, svg, type TemplateResult } from "lit";

const WIDTH = 96;
const HEIGHT = 20;

/** Bars of these numbers; `label` says what they are. */
export function sparkline(values: readonly number[], label: string): TemplateResult {
  const most = Math.max(...values, 1);
  const step = WIDTH / values.length;
  // The square root keeps small numbers in sight beside large ones.
  const bars = values.map((value, i) => {
    const height = value === 0 ? 0 : Math.max(Math.sqrt(value / most) * HEIGHT, 1.5);
    return svg`<rect x=${i * step} y=${HEIGHT - height} width=${Math.max(step - 1, 0.5)} height=${height} />`;
  });
  return html`<svg class="sparkline" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${label}>${bars}</svg>`;
}

// A chart over time, drawn by uPlot in the colours of the page.
import { html, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import uPlot from "uplot";
import { t } from "../i18n/language";
import { dateAndTime } from "../model/format";
import { PageElement } from "../ui/element";

export interface Line {
  label: string;
  values: (number | null)[];
  /** The name of a property of the style sheet. */
  colour: string;
  isBars?: boolean;
  isDashed?: boolean;
}

const HEIGHT = 200;
const HOUR_SECONDS = 3600;

@customElement("time-chart")
export class TimeChart extends PageElement {
  @property({ attribute: false }) times: number[] = [];
  @property({ attribute: false }) lines: Line[] = [];
  @property({ attribute: false }) format: (value: number) => string = String;
  @property({ attribute: false }) label = "";
  private chart: uPlot | null = null;

  override connectedCallback(): void {
    super.connectedCallback();
    const observer = new ResizeObserver(() =>
      this.chart?.setSize({ width: this.clientWidth, height: HEIGHT }),
    );
    observer.observe(this);
    const redraw = () => this.draw();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    addEventListener("themechange", redraw);
    scheme.addEventListener("change", redraw);
    this.untilRemoved(() => {
      observer.disconnect();
      removeEventListener("themechange", redraw);
      scheme.removeEventListener("change", redraw);
      this.chart?.destroy();
    });
  }

  override render(): TemplateResult {
    return html`<div class="plot" role="img" aria-label=${this.label}></div>`;
  }

  protected override updated(): void {
    this.draw();
  }

  private draw(): void {
    const place = this.querySelector<HTMLElement>(".plot");
    if (place === null || this.times.length === 0) return;
    this.chart?.destroy();
    const data = [this.times, ...this.lines.map(line => line.values)] as uPlot.AlignedData;
    this.chart = new uPlot(this.options(), data, place);
  }

  private options(): uPlot.Options {
    const style = getComputedStyle(this);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const font = `11px ${style.fontFamily}`;
    const axis = {
      stroke: colour("--soft"),
      font,
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
    };
    return {
      width: this.clientWidth || 600,
      height: HEIGHT,
      cursor: { points: { size: 6 } },
      axes: [
        { ...axis, space: 64, values: (_, times) => times.map(timeText) },
        { ...axis, size: 64, values: (_, values) => values.map(value => this.format(value)) },
      ],
      // The last hour has room, too.
      scales: {
        x: { range: (_, first, last) => [first, last + HOUR_SECONDS] },
        y: { range: (_, __, most) => [0, Math.max(most, 1) * 1.05] },
      },
      series: [
        {
          label: t("entry.time"),
          value: (_, seconds) => (seconds === null ? "–" : dateAndTime(seconds * 1e6)),
        },
        ...this.lines.map(line => this.series(line, colour(line.colour))),
      ],
    };
  }

  private series(line: Line, stroke: string): uPlot.Series {
    return {
      label: line.label,
      stroke,
      width: 1.5,
      points: { show: !line.isBars, size: 4 },
      value: (_, value) => (value === null ? "–" : this.format(value)),
      ...(line.isDashed ? { dash: [5, 4] } : {}),
      ...(line.isBars ? { fill: stroke, paths: uPlot.paths.bars?.({ size: [0.7, 40], align: 1 }) } : {}),
    };
  }
}

/** The hour; at midnight the day. */
function timeText(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  if (date.getHours() === 0 && date.getMinutes() === 0)
    return `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

declare global {
  interface HTMLElementTagNameMap {
    "time-chart": TimeChart;
  }
}

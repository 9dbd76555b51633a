// What is shown, as the address of the page tells it: a link leads to the very same view.
import type { Span } from "./timescale";

export interface Filters {
  /** The least gravity. */
  level: string;
  category: string[];
  step: string[];
  agent: string[];
  text: string;
  /** Operations and everything beneath them, by id. */
  operation: string[];
  since: string;
  until: string;
}

export type View = "runs" | "run" | "compare" | "statistics" | "health";

export interface Place {
  view: View;
  run: string;
  entry: string;
  mode: "waterfall" | "log";
  /** Of the waterfall: entries too, or operations only. */
  detail: "all" | "operations";
  zoom: Span | null;
  compare: string;
  with: string;
  filters: Filters;
  state: string[];
  withErrors: boolean;
  /** Of the statistics. */
  dimension: string;
  name: string[];
}

export const NO_FILTERS: Filters = {
  level: "",
  category: [],
  step: [],
  agent: [],
  text: "",
  operation: [],
  since: "",
  until: "",
};

export function placeOf(search: string): Place {
  const query = new URLSearchParams(search);
  const one = (name: string) => query.get(name) ?? "";
  const filters: Filters = {
    level: one("level"),
    category: query.getAll("category"),
    step: query.getAll("step"),
    agent: query.getAll("agent"),
    text: one("text"),
    operation: query.getAll("operation"),
    since: one("since"),
    until: one("until"),
  };
  return {
    view: viewOf(query),
    run: one("run"),
    entry: one("entry"),
    mode: one("mode") === "log" ? "log" : "waterfall",
    detail: one("detail") === "operations" ? "operations" : "all",
    zoom: spanOf(one("zoom")),
    compare: one("compare"),
    with: one("with"),
    filters,
    state: query.getAll("state"),
    withErrors: one("with_errors") === "true",
    dimension: one("dimension"),
    name: query.getAll("name"),
  };
}

function viewOf(query: URLSearchParams): View {
  if (query.get("run")) return "run";
  if (query.get("compare")) return "compare";
  const view = query.get("view");
  return view === "statistics" || view === "health" ? view : "runs";
}

function spanOf(text: string): Span | null {
  const match = /^(\d+)-(\d+)$/.exec(text);
  const span = { from: Number(match?.[1]), to: Number(match?.[2]) };
  return match && span.to > span.from ? span : null;
}

/** The query string of a place; what is not said is as it is by default. */
export function searchOf(place: Partial<Place>): string {
  const query = new URLSearchParams();
  const set = (name: string, value: string | undefined) => value && query.append(name, value);
  if (place.view === "statistics" || place.view === "health") set("view", place.view);
  set("run", place.run);
  set("compare", place.compare);
  set("with", place.with);
  set("entry", place.entry);
  if (place.mode === "log") set("mode", "log");
  if (place.detail === "operations") set("detail", "operations");
  if (place.zoom) set("zoom", `${Math.floor(place.zoom.from)}-${Math.ceil(place.zoom.to)}`);
  for (const state of place.state ?? []) set("state", state);
  if (place.withErrors) set("with_errors", "true");
  for (const [name, value] of Object.entries(filterQuery(place.filters ?? NO_FILTERS)))
    for (const single of Array.isArray(value) ? value : [value]) set(name, single);
  set("dimension", place.dimension);
  for (const name of place.name ?? []) set("name", name);
  const text = query.toString();
  return text ? `?${text}` : "./";
}

/** The filters as parameters of the read API. */
export function filterQuery(filters: Filters): Record<string, string | string[]> {
  return { ...filters };
}

export function hasFilters(filters: Filters): boolean {
  return Object.values(filters).some(value => value.length > 0);
}

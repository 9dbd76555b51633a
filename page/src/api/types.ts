// The answers of the read API, as documented by the server. Times are ISO 8601 in UTC unless `_us` or `_ms`.

export type RunState = "running" | "done" | "failed" | "cancelled" | "no end recorded";
export const RUN_STATES: readonly RunState[] = ["running", "done", "failed", "cancelled", "no end recorded"];
export const LEVELS: readonly string[] = ["debug", "info", "warning", "error", "critical"];

export interface About {
  version: string;
  table: string;
  permissions: string[];
  celery_enabled: boolean;
}

export interface Run {
  task_id: string;
  first_at: string;
  last_at: string;
  duration_ms: number;
  entries: number;
  errors: number;
  warnings: number;
  is_cut: boolean;
  last_step: string | null;
  last_agent: string | null;
  ended_in_error: boolean;
  /** null: the host says nothing of its runs. */
  state: RunState | null;
}

export interface RunsPage {
  runs: Run[];
  next: string | null;
  is_complete: boolean;
  looked_back_to: string | null;
  missing_indexes: string[];
}

export interface Share {
  name: string | null;
  entries: number;
  errors: number;
}

export interface RunSummary {
  run: Run;
  levels: Share[];
  categories: Share[];
  steps: Share[];
  agents: Share[];
}

export interface Outstanding {
  process: string;
  entries: number;
  made_after?: string | null;
  made_before?: string | null;
  seconds?: number;
  stored_at?: string;
}

export interface DeadLetter {
  id: string;
  batch_id?: string;
  task_id?: string | null;
  reason: string;
  created_at: string;
  entry: unknown;
}

export interface Completeness {
  is_known: boolean;
  why_not: string | null;
  missing: Outstanding[];
  pending: Outstanding[];
  late: Outstanding[];
  dead_letters: DeadLetter[];
  left_out: number;
}

export interface SkeletonPage {
  next: string | null;
  place: string;
  total: number;
  levels: string[];
  categories: string[];
  steps: string[];
  agents: string[];
  tools: string[];
  names: string[];
  operations: string[];
  columns: {
    id: string[];
    /** The first is absolute, each further one the difference to the one before. */
    at_us: number[];
    level: number[];
    category: number[];
    step: number[];
    agent: number[];
    tool: number[];
    name: number[];
    operation: number[];
    parent: number[];
    duration_ms: (number | null)[];
    state: number[];
  };
}

export interface Entry {
  id: string;
  created_at: string;
  task_id: string;
  level: string;
  category: string;
  message: string;
  step: string | null;
  agent_name: string | null;
  roadmap_id: string | null;
  concept_id: string | null;
  details: unknown;
  duration_ms: number | null;
  operation_id: string | null;
  parent_id: string | null;
  trace_id: string | null;
  span_id: string | null;
}

export interface EntriesPage {
  entries: Entry[];
  before: string | null;
  after: string | null;
}

export interface SearchResult {
  ids: string[];
  total: number;
  is_complete: boolean;
}

export interface LiveEntry {
  id: string;
  at_us: number;
  level: string;
  category: string;
  step: string | null;
  agent: string | null;
  tool: string | null;
  name: string | null;
  operation: string | null;
  parent: string | null;
  duration_ms: number | null;
  state: RunState | null;
  message: string;
}

export interface HourStatistics {
  hour: string;
  dimension: "all" | "level" | "category" | "step" | "agent";
  name: string | null;
  entries: number;
  errors: number;
  /** null: not counted for this dimension. */
  runs: number | null;
  timed: number;
  p50_ms: number | null;
  p95_ms: number | null;
}

export interface Statistics {
  since: string;
  until: string;
  /** The scheduled job has counted the hours before; null: none. */
  counted_until: string | null;
  /** The hours from here on were counted just now; those between the two, if any, are not known. */
  uncounted_until: string;
  hours: HourStatistics[];
}

export interface ErrorGroup {
  fingerprint: string;
  message: string;
  entries: number;
  runs: number;
  first_at: string;
  last_at: string;
  task_id: string;
  entry_id: string;
  step: string | null;
  agent: string | null;
}

export interface ErrorGroups {
  groups: ErrorGroup[];
  looked_at: number;
  is_complete: boolean;
}

export interface HealthPart {
  facts: Record<string, unknown>;
  error: string | null;
}

export interface Finding {
  check: string;
  level: "ok" | "warning" | "error";
  message: string;
  advice: string | null;
}

export interface Health {
  asked_at: string;
  parts: Record<string, HealthPart>;
  findings: Finding[];
}

export interface DeadLettersPage {
  letters: DeadLetter[];
  next: string | null;
  total: number;
}

export interface Retried {
  stored: number;
  refused: Record<string, string>;
}

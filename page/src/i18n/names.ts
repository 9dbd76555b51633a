// What the API's own words are called.
import type { RunState } from "../api/types";
import { t } from "./language";

export function stateText(state: RunState | null): string {
  switch (state) {
    case "running":
      return t("state.running");
    case "done":
      return t("state.done");
    case "failed":
      return t("state.failed");
    case "cancelled":
      return t("state.cancelled");
    case "no end recorded":
      return t("state.noEnd");
    default:
      return t("state.untold");
  }
}

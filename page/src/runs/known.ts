// The names that statistics know, with how often they occur.
import type { HourStatistics, Share } from "../api/types";
import type { Known } from "../ui/filter_fields";

export function knownFrom(hours: readonly HourStatistics[]): Known {
  return {
    categories: sharesOf(hours, "category"),
    steps: sharesOf(hours, "step"),
    agents: sharesOf(hours, "agent"),
  };
}

export function sharesOf(hours: readonly HourStatistics[], dimension: HourStatistics["dimension"]): Share[] {
  const shares = new Map<string, Share>();
  for (const hour of hours) {
    if (hour.dimension !== dimension || hour.name === null) continue;
    const share = shares.get(hour.name) ?? { name: hour.name, entries: 0, errors: 0 };
    share.entries += hour.entries;
    share.errors += hour.errors;
    shares.set(hour.name, share);
  }
  return [...shares.values()].sort((a, b) => b.entries - a.entries);
}

// Light, dark, or as the system has it.
import { saveChoice, savedChoice } from "./element";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export function theme(): Theme {
  return THEMES.find(one => one === savedChoice("theme")) ?? "system";
}

export function setTheme(chosen: Theme): void {
  saveChoice("theme", chosen);
  applyTheme(chosen);
}

export function applyTheme(chosen = theme()): void {
  document.documentElement.dataset.theme = chosen;
  dispatchEvent(new Event("themechange"));
}

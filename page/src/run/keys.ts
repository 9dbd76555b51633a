// What the keys do in the run view.
import { router } from "../ui/router";
import type { RunView } from "./run_view";

/** Does what a key is for; tells whether it is for anything. */
export function keyAction(view: RunView, event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const target = event.target as HTMLElement;
  if (target.closest("dialog[open]")) return false;
  const isTyping = target.closest("input:not([type=checkbox]), select, textarea") !== null;
  if (event.key === "Escape") return stepBack(view, isTyping ? target : null);
  if (isTyping) return false;
  const action = actions[event.key];
  if (action === undefined || (event.key.startsWith("Arrow") && target.closest("json-view, summary")))
    return false;
  action(view);
  return true;
}

function stepBack(view: RunView, input: HTMLElement | null): boolean {
  if (input !== null) input.blur();
  else if (view.place.entry !== "") view.select("");
  else return false;
  return true;
}

const actions: Record<string, (view: RunView) => void> = {
  "/": () => document.querySelector<HTMLInputElement>(".filters .search")?.focus(),
  j: view => view.moveBy(1),
  k: view => view.moveBy(-1),
  ArrowDown: view => view.moveBy(1),
  ArrowUp: view => view.moveBy(-1),
  PageDown: view => view.moveBy(20),
  PageUp: view => view.moveBy(-20),
  ArrowLeft: view => view.fold(true),
  ArrowRight: view => view.fold(false),
  g: view => view.moveTo(0),
  Home: view => view.moveTo(0),
  G: view => view.moveTo(-1),
  End: view => view.moveTo(-1),
  e: view => view.nextError(),
  f: view => view.setFollowing(!view.follows),
  l: view => router.change({ mode: view.place.mode === "log" ? "waterfall" : "log" }, true),
  "+": view => view.zoomBy(0.5),
  "-": view => view.zoomBy(2),
  "0": () => router.change({ zoom: null }),
  "?": view => view.help(),
};

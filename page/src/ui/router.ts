// The address of the page is the one place where the state of a view is kept.
import { type Place, placeOf, searchOf } from "../model/place";

type Listener = () => void;

class Router {
  place: Place = placeOf(location.search);
  private readonly listeners = new Set<Listener>();

  constructor() {
    addEventListener("popstate", () => this.changed());
  }

  /** Another view: Back returns to this one. */
  go(place: Partial<Place>): void {
    history.pushState(null, "", searchOf(place));
    this.changed();
  }

  /** The same view, otherwise. `isStep` lets Back undo it. */
  change(patch: Partial<Place>, isStep = false): void {
    const search = searchOf({ ...this.place, ...patch });
    if (isStep) history.pushState(null, "", search);
    else history.replaceState(null, "", search);
    this.changed();
  }

  subscribe(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private changed(): void {
    this.place = placeOf(location.search);
    for (const listener of this.listeners) listener();
  }
}

export const router = new Router();

/** For links: a plain click stays on the page, any other is the browser's. */
export function follow(event: MouseEvent): void {
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.currentTarget as HTMLAnchorElement;
  event.preventDefault();
  router.go(placeOf(new URL(link.href).search));
}

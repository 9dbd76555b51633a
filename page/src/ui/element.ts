// What all elements of the page have in common.
import { LitElement, noChange } from "lit";
import { Directive, directive, type ElementPart } from "lit/directive.js";
import { language } from "../i18n/language";

/** An element in the light DOM: there is one style sheet, and one document for assistive technology. */
export abstract class PageElement extends LitElement {
  private readonly endings: (() => void)[] = [];

  protected override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.untilRemoved(language.subscribe(() => this.requestUpdate()));
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    for (const end of this.endings.splice(0)) end();
  }

  /** Called when the element leaves the page. */
  protected untilRemoved(end: () => void): void {
    this.endings.push(end);
  }

  /** Listens for as long as the element is on the page. */
  protected listen<K extends keyof WindowEventMap>(
    name: K,
    listener: (event: WindowEventMap[K]) => void,
  ): void {
    addEventListener(name, listener);
    this.untilRemoved(() => removeEventListener(name, listener));
  }
}

/** Sets style properties through the object model: the page's policy forbids attributes named `style`. */
class Styled extends Directive {
  override render(_: Record<string, string>): unknown {
    return noChange;
  }

  override update(part: ElementPart, [properties]: [Record<string, string>]): unknown {
    const { style } = part.element as HTMLElement;
    for (const [name, value] of Object.entries(properties)) style.setProperty(name, value);
    return noChange;
  }
}

export const styled = directive(Styled);

export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // without TLS there is no clipboard
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  return isCopied;
}

export function savedChoice(name: string): string | null {
  try {
    return localStorage.getItem(`execution-logger.${name}`);
  } catch {
    return null; // storage may be forbidden
  }
}

export function saveChoice(name: string, value: string): void {
  try {
    localStorage.setItem(`execution-logger.${name}`, value);
  } catch {
    // It holds until the page is left.
  }
}

// A menu of names to filter by: those that are known, and any other that is typed.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import type { Share } from "../api/types";
import { n, t } from "../i18n/language";
import { visible } from "../model/format";
import { PageElement } from "./element";

const MOST_SHOWN = 200;

@customElement("choice-menu")
export class ChoiceMenu extends PageElement {
  @property({ attribute: false }) label = "";
  @property({ attribute: false }) known: readonly Share[] = [];
  @property({ attribute: false }) chosen: readonly string[] = [];
  @property({ attribute: false }) nameOf: (name: string) => string = name => name;
  @property({ attribute: false }) takesOther = true;
  @property({ attribute: false }) onChange: (chosen: string[]) => void = () => {};
  @state() private typed = "";

  override connectedCallback(): void {
    super.connectedCallback();
    this.listen("pointerdown", event => {
      if (!event.composedPath().includes(this)) this.close();
    });
  }

  private close(): void {
    this.querySelector("details")?.removeAttribute("open");
  }

  override render(): TemplateResult {
    const count = this.chosen.length;
    return html`<details
      class="menu"
      @keydown=${(event: KeyboardEvent) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        this.close();
        this.querySelector("summary")?.focus();
      }}
    >
      <summary class=${count > 0 ? "active" : ""}>${this.label}${count > 0 ? `: ${this.inShort()}` : nothing}</summary>
      <div class="panel">
        ${
          this.takesOther
            ? html`<input
              type="text"
              .value=${this.typed}
              placeholder=${t("filter.name")}
              aria-label="${this.label}: ${t("filter.name")}"
              @input=${(event: InputEvent) => {
                this.typed = (event.target as HTMLInputElement).value;
              }}
              @keydown=${(event: KeyboardEvent) => event.key === "Enter" && this.addTyped()}
            />`
            : nothing
        }
        <ul>
          ${this.choices().map(share => this.choice(share))}
        </ul>
        ${count > 0 ? html`<button @click=${() => this.onChange([])}>${t("filter.clear")}</button>` : nothing}
      </div>
    </details>`;
  }

  private inShort(): string {
    const [first, ...others] = this.chosen.map(this.nameOf);
    const text = visible(first ?? "").slice(0, 24);
    return others.length > 0 ? `${text} +${others.length}` : text;
  }

  private choices(): Share[] {
    const names = new Set(this.known.map(share => share.name));
    const others = this.chosen
      .filter(name => !names.has(name))
      .map(name => ({ name, entries: -1, errors: 0 }));
    const typed = this.typed.toLowerCase();
    return [...others, ...this.known]
      .filter(({ name }) => name !== null && this.nameOf(name).toLowerCase().includes(typed))
      .slice(0, MOST_SHOWN);
  }

  private choice({ name, entries, errors }: Share): TemplateResult | typeof nothing {
    if (name === null) return nothing;
    const isChosen = this.chosen.includes(name);
    return html`<li>
      <label>
        <input
          type="checkbox"
          .checked=${isChosen}
          @change=${() => this.onChange(isChosen ? this.chosen.filter(one => one !== name) : [...this.chosen, name])}
        />
        <span dir="auto">${visible(this.nameOf(name))}</span>
        ${errors > 0 ? html`<span class="errors">${n(errors)}</span>` : nothing}
        ${entries >= 0 ? html`<span class="count">${n(entries)}</span>` : nothing}
      </label>
    </li>`;
  }

  private addTyped(): void {
    const name = this.typed.trim();
    this.typed = "";
    if (name && !this.chosen.includes(name)) this.onChange([...this.chosen, name]);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "choice-menu": ChoiceMenu;
  }
}

// Two panes beside each other, with a handle between them; on a narrow screen the right one lies over the left one.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { t } from "../i18n/language";
import { PageElement, saveChoice, savedChoice, styled } from "./element";

const LEAST = 20;
const MOST = 80;

@customElement("split-panes")
export class SplitPanes extends PageElement {
  @property({ attribute: false }) left: unknown = nothing;
  @property({ attribute: false }) right: unknown = nothing;
  @property({ attribute: false }) isOpen = false;
  @property({ attribute: false }) label = "";
  /** Of the right pane, in hundredths. */
  @state() private share = Number(savedChoice("panes")) || 38;

  override render(): TemplateResult {
    return html`<div class="panes" ${styled({ "--share": `${this.share}%` })}>
      <section class="left-pane">${this.left}</section>
      ${
        this.isOpen
          ? html`<div
              class="handle"
              role="separator"
              tabindex="0"
              aria-orientation="vertical"
              aria-label=${t("panes.resize")}
              aria-valuenow=${Math.round(this.share)}
              aria-valuemin=${LEAST}
              aria-valuemax=${MOST}
              @pointerdown=${this.dragged}
              @keydown=${this.keyed}
            ></div>
            <aside class="right-pane" aria-label=${this.label}>${this.right}</aside>`
          : nothing
      }
    </div>`;
  }

  private readonly dragged = (event: PointerEvent): void => {
    event.preventDefault();
    const handle = event.currentTarget as HTMLElement;
    handle.setPointerCapture(event.pointerId);
    const moved = (move: PointerEvent) => {
      const { right, width } = this.getBoundingClientRect();
      this.set(((right - move.clientX) / width) * 100);
    };
    handle.addEventListener("pointermove", moved);
    handle.addEventListener("lostpointercapture", () => handle.removeEventListener("pointermove", moved), {
      once: true,
    });
  };

  private readonly keyed = (event: KeyboardEvent): void => {
    const by = { ArrowLeft: 2, ArrowRight: -2 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.set(this.share + by);
  };

  private set(share: number): void {
    this.share = Math.min(Math.max(share, LEAST), MOST);
    saveChoice("panes", String(this.share));
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "split-panes": SplitPanes;
  }
}

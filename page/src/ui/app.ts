// The frame of the page: where one can go, the language, the theme, and the view that the address names.
import { html, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { keyed } from "lit/directives/keyed.js";
import { get } from "../api/client";
import type { About } from "../api/types";
import { language, t } from "../i18n/language";
import { type Place, searchOf } from "../model/place";
import { PageElement, saveChoice } from "./element";
import { follow, router } from "./router";
import { setTheme, THEMES, type Theme, theme } from "./theme";
import "../compare/compare_view";
import "../health/health_view";
import "../run/run_view";
import "../runs/runs_view";
import "../statistics/statistics_view";

@customElement("execution-logger")
export class App extends PageElement {
  @state() private place: Place = router.place;
  @state() private about: About | null = null;

  override connectedCallback(): void {
    super.connectedCallback();
    this.untilRemoved(
      router.subscribe(() => {
        this.place = router.place;
      }),
    );
    void get<About>("about").then(
      about => {
        this.about = about;
      },
      () => {}, // the view that is shown says what is wrong
    );
  }

  override render(): TemplateResult {
    document.title = [this.place.run || this.place.compare, "Execution logger"].filter(Boolean).join(" – ");
    return html`<a class="skip" href="#main" @click=${this.skip}>${t("nav.skip")}</a>
      <header class="page-head">
        <a class="brand" href="./" @click=${follow}><img src="icon.svg" alt="" width="20" height="20" /> Execution logger</a>
        <nav aria-label=${t("nav.title")}>
          ${this.link("runs", t("nav.runs"))} ${this.link("statistics", t("nav.statistics"))}
          ${this.link("health", t("nav.health"))}
        </nav>
        <span class="grow"></span>
        ${this.languageSwitch()} ${this.themeSwitch()}
      </header>
      ${this.view()}`;
  }

  private link(view: Place["view"], text: string): TemplateResult {
    const isHere =
      this.place.view === view || (view === "runs" && ["run", "compare"].includes(this.place.view));
    return html`<a href=${searchOf({ view })} aria-current=${isHere ? "page" : "false"} @click=${follow}>${text}</a>`;
  }

  private view(): TemplateResult {
    const { place } = this;
    switch (place.view) {
      case "run":
        return html`${keyed(place.run, html`<run-view .place=${place}></run-view>`)}`;
      case "compare":
        return html`${keyed(`${place.compare} ${place.with}`, html`<compare-view .place=${place}></compare-view>`)}`;
      case "statistics":
        return html`<statistics-view .place=${place}></statistics-view>`;
      case "health":
        return html`<health-view tabindex="0" .mayChange=${this.about?.permissions.includes("change") ?? false}></health-view>`;
      default:
        return html`<runs-view .place=${place}></runs-view>`;
    }
  }

  private languageSwitch(): TemplateResult {
    const isChinese = language.current === "zh";
    return html`<button
      lang=${isChinese ? "en" : "zh-CN"}
      aria-label=${isChinese ? "Switch to English" : "切换到中文"}
      @click=${() => {
        language.set(isChinese ? "en" : "zh");
        saveChoice("language", language.current);
      }}
    >
      ${isChinese ? "English" : "中文"}
    </button>`;
  }

  private themeSwitch(): TemplateResult {
    const names: Record<Theme, string> = {
      system: t("theme.system"),
      light: t("theme.light"),
      dark: t("theme.dark"),
    };
    return html`<select
      aria-label=${t("theme.title")}
      @change=${(event: Event) => setTheme((event.target as HTMLSelectElement).value as Theme)}
    >
      ${THEMES.map(one => html`<option value=${one} .selected=${one === theme()}>${names[one]}</option>`)}
    </select>`;
  }

  private skip(event: Event): void {
    event.preventDefault();
    const main = document.getElementById("main");
    main?.setAttribute("tabindex", "-1");
    main?.focus();
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "execution-logger": App;
  }
}

// The language of the page, and its texts.
import { durationText, roundDurationText, UNITS } from "../model/format";
import { en, type TextKey, zh } from "./texts";

export type Language = "en" | "zh";
type Values = Record<string, string | number>;

const texts: Record<Language, Record<TextKey, string>> = { en, zh };

class LanguageChoice {
  current: Language = "en";
  private readonly listeners = new Set<() => void>();

  set(language: Language): void {
    this.current = language;
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    for (const listener of this.listeners) listener();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export const language = new LanguageChoice();

/** The text in the reader's language: `{n}` is a value, `{n|entry|entries}` the form that goes with it. */
export function t(key: TextKey, values: Values = {}): string {
  return fill(texts[language.current][key], values, language.current);
}

export function fill(text: string, values: Values, language: Language): string {
  return text
    .replace(/\{(\w+)\|([^|}]*)\|([^}]*)\}/g, (_, name, one, many) => (values[name] === 1 ? one : many))
    .replace(/\{(\w+)\}/g, (_, name) => {
      const value = values[name];
      return typeof value === "number" ? value.toLocaleString(language) : String(value ?? "");
    });
}

/** Whether numbers and dates can be formatted for a language. */
export function isKnown(tag: string): boolean {
  try {
    return Intl.getCanonicalLocales(tag).length > 0;
  } catch {
    return false;
  }
}

/** A number as the reader writes it. */
export function n(value: number): string {
  return value.toLocaleString(language.current);
}

/** @param milliseconds of a duration; see `durationText`. */
export function duration(milliseconds: number): string {
  return durationText(milliseconds, UNITS[language.current]);
}

export function roundDuration(milliseconds: number): string {
  return roundDurationText(milliseconds, UNITS[language.current]);
}

// How times, durations, numbers and users' texts are shown. Pure: the language is a parameter.

export interface Units {
  microseconds: string;
  milliseconds: string;
  seconds: string;
  minutes: string;
  hours: string;
  days: string;
}

export const UNITS: Record<"en" | "zh", Units> = {
  en: { microseconds: "µs", milliseconds: "ms", seconds: "s", minutes: "min", hours: "h", days: "d" },
  zh: { microseconds: "微秒", milliseconds: "毫秒", seconds: "秒", minutes: "分", hours: "小时", days: "天" },
};

/** A duration in the shortest form that still tells three figures: `850 µs`, `12.4 ms`, `3.21 s`, `4 min 05 s`. */
export function durationText(milliseconds: number, units: Units): string {
  const one = (value: string | number, unit: keyof Units) => `${value} ${units[unit]}`;
  const pair = (value: number, unit: keyof Units, size: number, smaller: keyof Units) =>
    `${one(Math.floor(value / size), unit)} ${one(two(value % size), smaller)}`;
  if (milliseconds < 0) return `−${durationText(-milliseconds, units)}`;
  if (milliseconds === 0) return one(0, "milliseconds");
  if (milliseconds < 1) return one(Math.round(milliseconds * 1000), "microseconds");
  if (milliseconds < 1000) return one(figures(milliseconds), "milliseconds");
  const seconds = Math.round(milliseconds / 1000);
  if (milliseconds < 60_000) return one(figures(milliseconds / 1000), "seconds");
  if (seconds < 3600) return pair(seconds, "minutes", 60, "seconds");
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return pair(minutes, "hours", 60, "minutes");
  return pair(Math.round(minutes / 60), "days", 24, "hours");
}

/** The same, without a second part that is nothing: `2 min`. */
export function roundDurationText(milliseconds: number, units: Units): string {
  return milliseconds === 0 ? "0" : durationText(milliseconds, units).replace(/ 00 \S+$/, "");
}

function figures(value: number): string {
  const text = value.toPrecision(3);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : String(Math.round(value));
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** A moment of the reader's clock, to the millisecond: `14:03:27.120`. */
export function clock(microseconds: number): string {
  const date = new Date(microseconds / 1000);
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${milliseconds}`;
}

/** A day and a time of the reader's clock: `2026-11-29 14:03:27`. */
export function dateAndTime(microseconds: number): string {
  const date = new Date(microseconds / 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** An ISO time of the API in microseconds since the epoch; fractions beyond milliseconds are kept. */
export function microsecondsOf(iso: string): number {
  const fraction = /\.(\d+)/.exec(iso)?.[1] ?? "";
  const seconds = Math.floor(Date.parse(iso) / 1000);
  return seconds * 1_000_000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

const UNSEEN = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
// Tabs, line ends, and the joiners that emoji and some scripts are written with.
const HARMLESS = new Set(["\t", "\n", "\u200c", "\u200d"]);

/** A user's text with what cannot be seen, or turns what follows around, as escapes. */
export function visible(text: string): string {
  return text.replace(UNSEEN, character => {
    if (HARMLESS.has(character)) return character;
    const code = (character.codePointAt(0) ?? 0).toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`;
  });
}

/** The first line of a text for a row, cut: a row is never longer than a screen. */
export function firstLine(text: string, most = 400): string {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return visible(cut.replace(/\s*\n\s*/g, " ⏎ "));
}

/** A text in pieces, of which each second one is what was sought, in whatever case. */
export function piecesOf(text: string, sought: string): string[] {
  if (sought === "") return [text];
  return text.split(new RegExp(`(${sought.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")})`, "giu"));
}

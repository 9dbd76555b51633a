// How times, durations, numbers and users' texts are shown. Pure: the language is a parameter.

/** A duration in the shortest form that still tells three figures: `850 µs`, `12.4 ms`, `3.21 s`, `4 min 05 s`. */
export function duration(milliseconds: number): string {
  if (milliseconds < 0) return `−${duration(-milliseconds)}`;
  if (milliseconds === 0) return "0 ms";
  if (milliseconds < 1) return `${Math.round(milliseconds * 1000)} µs`;
  if (milliseconds < 1000) return `${figures(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${figures(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

function figures(value: number): string {
  const text = value.toPrecision(3);
  return text.includes("e")
    ? String(Math.round(value))
    : text.replace(/\.?0+$/, match => (match.includes(".") ? "" : match));
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

/** Times and dates in the words of the reader. */

import { language, locale } from "../words/words.js";

const DAY_MS = 86_400_000;

const formats = new Map<string, Intl.DateTimeFormat>();

/** Making a format takes long, so each is made once. */
function format(at: number, options: Intl.DateTimeFormatOptions): string {
  const key = locale() + JSON.stringify(options);
  const made = formats.get(key) ?? new Intl.DateTimeFormat(locale(), options);
  formats.set(key, made);
  return made.format(at);
}

/** The number of midnights between then and now. */
function daysAgo(at: number, now: number): number {
  const midnight = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);
  return Math.round((midnight(now) - midnight(at)) / DAY_MS);
}

export const isSameDay = (a: number, b: number): boolean => new Date(a).toDateString() === new Date(b).toDateString();

/** Such as `14:05`. */
export const time = (at: number): string => format(at, { hour: "2-digit", minute: "2-digit" });

/** Such as `22 November 2026 at 14:05`. */
export const dateTime = (at: number): string => format(at, { dateStyle: "long", timeStyle: "short" });

/** The day above its messages: today, yesterday, or the full date. */
export function day(at: number, now = Date.now()): string {
  const days = daysAgo(at, now);
  if (days === 0 || days === 1) {
    const text = new Intl.RelativeTimeFormat(language.value, { numeric: "auto" }).format(-days, "day");
    return text.charAt(0).toUpperCase() + text.slice(1);
  }
  const isThisYear = new Date(at).getFullYear() === new Date(now).getFullYear();
  return format(at, { weekday: "long", day: "numeric", month: "long", ...(!isThisYear && { year: "numeric" }) });
}

/** When something was said, for a list: the time, the day of this week, or the date. */
export function short(at: number, now = Date.now()): string {
  const days = daysAgo(at, now);
  if (days === 0) return time(at);
  if (days > 0 && days < 7) return format(at, { weekday: "short" });
  return format(at, { dateStyle: "short" });
}

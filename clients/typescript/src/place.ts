/** The places of messages and recalls in the log. */

import type { LogEntry } from "./protocol.js";
import { firstIdAt } from "./ulid.js";

/** The place of an entry, to compare with the ids of messages. That of a recall is known to the millisecond. */
export function placeOf(entry: LogEntry): string {
  return entry.type === "RECALLED" ? firstIdAt(entry.timestamp) : entry.id;
}

/** Sorts entries by their places. */
export function byPlace(a: LogEntry, b: LogEntry): number {
  return placeOf(a) < placeOf(b) ? -1 : 1;
}

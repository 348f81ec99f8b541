/** The places of messages and recalls in the log. */

import type { LogEntry, RecalledFrame } from "./protocol.js";
import { firstIdAt } from "./ulid.js";

export function isRecall(entry: LogEntry): entry is RecalledFrame {
  return entry.type === "RECALLED";
}

/** The place of an entry, to compare with the ids of messages. That of a recall is known to the millisecond. */
export function placeOf(entry: LogEntry): string {
  return isRecall(entry) ? firstIdAt(entry.timestamp) : entry.id;
}

/** Sorts entries by their places. */
export function byPlace(a: LogEntry, b: LogEntry): number {
  return placeOf(a) < placeOf(b) ? -1 : 1;
}

/** The arrived messages and recalls: drops duplicates, sorts them by id, and delivers them. */

import type { Clock, Timer } from "./clock.js";
import { isRecall, placeOf } from "./place.js";
import type { LogEntry } from "./protocol.js";
import { createSeen } from "./seen.js";
import type { Timing } from "./timing.js";
import { firstIdAt, timeOf } from "./ulid.js";

export interface InboxSettings {
  timing: Pick<Timing, "holdMs" | "orderMs" | "overlapMs">;
  clock: Clock;
}

/** A pushed entry, and the timer that ends its wait for older ones. */
interface Held {
  entry: LogEntry;
  place: string;
  timer: Timer;
}

/**
 * A pushed message waits briefly for older ones that it overtook. While a catch-up runs, it waits for that. A pulled
 * message is delivered after older pushed messages and before newer ones.
 *
 * After an interruption, everything after the position is read again. Pushed messages move the position, but only
 * while no older message can be missing, that is, after a complete catch-up. Missed messages do not move it, because a
 * dead connection may have received older ones.
 *
 * A recall has its place among the messages, and is delivered there. From the moment that it arrives, the message that
 * it names is not delivered any more.
 */
export type Inbox = ReturnType<typeof createInbox>;

/**
 * Makes an inbox that remembers so many ids. `deliver` gives an entry to the application, after those before it. It
 * resolves when the application has the entry, and never rejects.
 */
export function createInbox(
  { timing, clock }: InboxSettings,
  remember: number,
  deliver: (entry: LogEntry) => Promise<unknown>,
) {
  const seen = createSeen(remember);
  /** The ids of recalled messages. */
  const recalled = createSeen(remember);
  /** Sorted by place. */
  const held: Held[] = [];
  let isComplete = false;
  /** The start of the client's time. No resumption reads older messages. */
  let start = "";
  let position = "";
  /** The greatest id of a delivered pushed message. */
  let highest = "";
  let given: Promise<unknown> = Promise.resolve();

  /** A resumption reads nothing up to this id. Only the first call has an effect. */
  const startAt = (id: string): void => {
    start ||= id;
  };

  /** A resumption has read everything up to this id. */
  const advance = (id: string): void => {
    if (id > position) position = id;
  };

  /** The id that is `overlapMs` before this one. The server may store messages between the two late. */
  const before = (id: string) => firstIdAt(timeOf(id) - timing.overlapMs);

  /** Remembers a recall, and returns whether it is the first of its message. Messages are remembered when given. */
  const isNew = (entry: LogEntry) => !isRecall(entry) || recalled.add(entry.id);

  const give = (entry: LogEntry): void => {
    if (isRecall(entry) || (!recalled.has(entry.id) && seen.add(entry.id))) given = deliver(entry);
  };

  /** Delivers waiting entries up to the first that must still wait. */
  const giveHeld = (isToGo: (held: Held) => boolean): void => {
    while (held[0] && isToGo(held[0])) {
      const { entry, timer } = held.shift()!;
      timer.cancel();
      give(entry);
      if (!isRecall(entry) && entry.id > highest) highest = entry.id;
    }
    if (isComplete) advance(highest);
  };

  /** Delivers all waiting messages, even if older ones may be missing. Resolves when the application has them. */
  const flush = (): Promise<unknown> => {
    giveHeld(() => true);
    return given;
  };

  return {
    startAt,
    advance,
    flush,

    /**
     * Ids that the application has from an earlier client. None is delivered again, and a resumption starts with the
     * greatest. Returns whether there is one.
     */
    knows(ids: Iterable<string>): boolean {
      const sorted = [...ids].sort();
      for (const id of sorted) seen.add(id);
      const greatest = sorted.pop();
      if (greatest) startAt(before(greatest));
      return !!greatest;
    },

    /** Never delivers this message: the application has it already. */
    ignore: seen.add,

    /** Whether the recall of this message has arrived. */
    isRecalled: recalled.has,

    /** The id from which all messages must be read again. Known messages are dropped here. */
    get resumePoint(): string {
      return [start, seen.forgotten, position && before(position)].sort().pop()!;
    },

    /** The connection is gone. Messages of the next one wait until it has caught up. */
    interrupt(): void {
      isComplete = false;
    },

    /** Takes a pushed entry. */
    push(entry: LogEntry): void {
      if (!isNew(entry)) return;
      const place = placeOf(entry);
      let index = held.length;
      while (index > 0 && held[index - 1]!.place > place) index -= 1;
      const waitMs = isComplete ? timing.orderMs : timing.holdMs;
      const give = () => giveHeld((held) => held.place <= place);
      held.splice(index, 0, { entry, place, timer: clock.after(waitMs, give) });
      if (!waitMs) give();
    },

    /** Takes a pulled entry. Resolves when the application has it and all before it. */
    pull(entry: LogEntry): Promise<unknown> {
      const place = placeOf(entry);
      const mayGo = isNew(entry);
      giveHeld((held) => held.place < place);
      if (mayGo) give(entry);
      return given;
    },

    /** No older message is missing any more: delivers all waiting messages. */
    caughtUp(): void {
      void flush();
      isComplete = true;
      advance(highest);
    },

    /** The application has refused this entry, and is not asked again. The next resumption reads and delivers it. */
    forget(entry: LogEntry): void {
      (isRecall(entry) ? recalled : seen).delete(entry.id);
      const place = placeOf(entry);
      if (position > place) position = place;
      if (highest > place) highest = place;
    },
  };
}

/** The arrived messages and recalls: drops duplicates, sorts them by id, and delivers them. */

import type { Clock, Timer } from "./clock.js";
import { placeOf } from "./place.js";
import type { LogEntry } from "./protocol.js";
import { Seen } from "./seen.js";
import type { Timing } from "./timing.js";
import { firstIdAt, timeOf } from "./ulid.js";

export interface InboxSettings {
  /** The number of remembered ids. */
  remember: number;
  timing: Pick<Timing, "holdMs" | "orderMs" | "overlapMs">;
  clock: Clock;
  /** Gives an entry to the application, after those before it. Resolves when the application has it. Never rejects. */
  deliver: (entry: LogEntry) => Promise<void>;
}

/** A pushed entry, and until when it waits for older ones. */
interface Held {
  entry: LogEntry;
  place: string;
  dueAt: number;
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
export class Inbox {
  readonly #settings: InboxSettings;
  readonly #seen: Seen;
  /** The ids of recalled messages. */
  readonly #recalled: Seen;
  /** Sorted by id. */
  #held: Held[] = [];
  #alarm: Timer | undefined;
  #complete = false;
  /** The start of the client's time. No resumption reads older messages. */
  #start = "";
  #position = "";
  /** The greatest id of a delivered pushed message. */
  #highest = "";
  #given: Promise<void> = Promise.resolve();

  constructor(settings: InboxSettings) {
    this.#settings = settings;
    this.#seen = new Seen(settings.remember);
    this.#recalled = new Seen(settings.remember);
  }

  /**
   * Ids that the application has from an earlier client. None is delivered again, and a resumption starts with the
   * greatest.
   */
  knows(ids: Iterable<string>): void {
    const sorted = [...ids].sort();
    for (const id of sorted) this.#seen.add(id);
    const greatest = sorted[sorted.length - 1];
    if (greatest !== undefined) this.startAt(this.#before(greatest));
  }

  /** Never delivers this message: the application has it already. */
  ignore(id: string): void {
    this.#seen.add(id);
  }

  /** Whether the recall of this message has arrived. */
  isRecalled(id: string): boolean {
    return this.#recalled.has(id);
  }

  /** A resumption reads nothing up to this id. Only the first call has an effect. */
  startAt(id: string): void {
    if (this.#start === "") this.#start = id;
  }

  get hasStart(): boolean {
    return this.#start !== "";
  }

  /** The id from which all messages must be read again. Known messages are dropped here. */
  get resumePoint(): string {
    const overlap = this.#position === "" ? "" : this.#before(this.#position);
    return [this.#start, this.#seen.forgotten, overlap].reduce((a, b) => (a > b ? a : b));
  }

  /** The connection is gone. Messages of the next one wait until it has caught up. */
  interrupt(): void {
    this.#complete = false;
  }

  /** Takes a pushed entry. */
  push(entry: LogEntry): void {
    if (!this.#isNew(entry)) return;
    const { clock, timing } = this.#settings;
    const dueAt = clock.now() + (this.#complete ? timing.orderMs : timing.holdMs);
    const place = placeOf(entry);
    let index = this.#held.length;
    while (index > 0 && this.#held[index - 1]!.place > place) index -= 1;
    this.#held.splice(index, 0, { entry, place, dueAt });
    this.#giveDue();
  }

  /** Takes a pulled entry. Resolves when the application has it and all before it. */
  pull(entry: LogEntry): Promise<void> {
    const place = placeOf(entry);
    const isNew = this.#isNew(entry);
    this.#giveHeld((held) => held.place < place);
    if (isNew) this.#give(entry);
    return this.#given;
  }

  /** A resumption has read everything up to this id. */
  advance(id: string): void {
    if (id > this.#position) this.#position = id;
  }

  /** No older message is missing any more: delivers all waiting messages. */
  caughtUp(): void {
    this.flush();
    this.#complete = true;
    this.advance(this.#highest);
  }

  /** Delivers all waiting messages, even if older ones may be missing. */
  flush(): void {
    this.#giveHeld(() => true);
    this.#alarm?.cancel();
  }

  /** The application has refused this entry, and is not asked again. The next resumption reads and delivers it. */
  forget(entry: LogEntry): void {
    (entry.type === "RECALLED" ? this.#recalled : this.#seen).delete(entry.id);
    const place = placeOf(entry);
    if (this.#position > place) this.#position = place;
    if (this.#highest > place) this.#highest = place;
  }

  /** Delivers entries that have waited long enough, and older ones. */
  #giveDue(): void {
    const { clock } = this.#settings;
    const due = this.#held.filter(({ dueAt }) => dueAt <= clock.now());
    const last = due[due.length - 1];
    if (last !== undefined) this.#giveHeld(({ place }) => place <= last.place);
    this.#alarm?.cancel();
    if (this.#held.length === 0) return;
    const next = this.#held.reduce((soonest, { dueAt }) => Math.min(soonest, dueAt), Infinity);
    this.#alarm = clock.after(next - clock.now(), () => this.#giveDue());
  }

  /** Delivers waiting entries up to the first that must still wait. */
  #giveHeld(isToGo: (held: Held) => boolean): void {
    for (let first = this.#held[0]; first !== undefined && isToGo(first); first = this.#held[0]) {
      this.#held.shift();
      this.#give(first.entry);
      const { id, type } = first.entry;
      if (type !== "RECALLED" && id > this.#highest) this.#highest = id;
    }
    if (this.#complete) this.advance(this.#highest);
  }

  /** Remembers a recall, and returns whether it is the first of its message. Messages are remembered when given. */
  #isNew(entry: LogEntry): boolean {
    return entry.type !== "RECALLED" || this.#recalled.add(entry.id);
  }

  #give(entry: LogEntry): void {
    if (entry.type !== "RECALLED" && (this.isRecalled(entry.id) || !this.#seen.add(entry.id))) return;
    this.#given = this.#settings.deliver(entry);
  }

  /** The id that is `overlapMs` before this one. The server may store messages between the two late. */
  #before(id: string): string {
    return firstIdAt(timeOf(id) - this.#settings.timing.overlapMs);
  }
}

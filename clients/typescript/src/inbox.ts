/** What has arrived: drops duplicates, puts messages in the order of their ids, and gives them on. */

import type { Clock, Timer } from "./clock.js";
import type { Message } from "./protocol.js";
import { Seen } from "./seen.js";
import type { Timing } from "./timing.js";
import { firstIdAt, timeOf } from "./ulid.js";

export interface InboxSettings {
  /** How many ids are remembered. */
  remember: number;
  timing: Pick<Timing, "holdMs" | "orderMs" | "overlapMs">;
  clock: Clock;
  /** Give a message to the application, after those before it. Resolves when it has it; never rejects. */
  deliver: (message: Message) => Promise<void>;
}

/** A pushed message, and until when it waits for older ones. */
interface Held {
  message: Message;
  dueAt: number;
}

/**
 * A push waits a moment for pushes that it overtook; while a catch-up runs, it waits for that. What is pulled goes
 * after the pushes that are older, and before those that are not.
 *
 * The position, behind which everything is asked for again after an interruption, moves with pushes, and only while
 * nothing can have been missed before them: after a catch-up was complete. It does not move with missed messages: what
 * a dead connection took may be older than these.
 */
export class Inbox {
  readonly #settings: InboxSettings;
  readonly #seen: Seen;
  /** In the order of ids. */
  #held: Held[] = [];
  #alarm: Timer | undefined;
  #complete = false;
  /** Where the client's own time begins: no resumption reads what is older. */
  #start = "";
  #position = "";
  /** The greatest id of a push that was given on. */
  #highest = "";
  #given: Promise<void> = Promise.resolve();

  constructor(settings: InboxSettings) {
    this.#settings = settings;
    this.#seen = new Seen(settings.remember);
  }

  /** The application has these, from an earlier client: none is given, and a resumption begins with the greatest. */
  knows(ids: Iterable<string>): void {
    const sorted = [...ids].sort();
    for (const id of sorted) this.#seen.add(id);
    const greatest = sorted.at(-1);
    if (greatest !== undefined) this.startAt(this.#before(greatest));
  }

  /** Nothing up to this id is asked for by a resumption. Only the first call counts. */
  startAt(id: string): void {
    if (this.#start === "") this.#start = id;
  }

  get hasStart(): boolean {
    return this.#start !== "";
  }

  /** The id behind which all messages are to be read again; what is known of them is dropped here. */
  get resumePoint(): string {
    const overlap = this.#position === "" ? "" : this.#before(this.#position);
    return [this.#start, this.#seen.forgotten, overlap].reduce((a, b) => (a > b ? a : b));
  }

  /** The connection is gone: what the next one pushes waits until it has caught up. */
  interrupt(): void {
    this.#complete = false;
  }

  /** A message was pushed. */
  push(message: Message): void {
    const { clock, timing } = this.#settings;
    const dueAt = clock.now() + (this.#complete ? timing.orderMs : timing.holdMs);
    const place = this.#held.findLastIndex((held) => held.message.id <= message.id) + 1;
    this.#held.splice(place, 0, { message, dueAt });
    this.#giveDue();
  }

  /** A message was pulled. Resolves when the application has it, and all before it. */
  pull(message: Message): Promise<void> {
    this.#giveHeld(({ id }) => id < message.id);
    this.#give(message);
    return this.#given;
  }

  /** A resumption has read everything up to this id. */
  advance(id: string): void {
    if (id > this.#position) this.#position = id;
  }

  /** Nothing older is missing any more: give on what is held. */
  caughtUp(): void {
    this.flush();
    this.#complete = true;
    this.advance(this.#highest);
  }

  /** Give on what is held, whatever may be missing. */
  flush(): void {
    this.#giveHeld(() => true);
    this.#alarm?.cancel();
  }

  /** Give on what has waited long enough, and what is older than that. */
  #giveDue(): void {
    const { clock } = this.#settings;
    const last = this.#held.findLast(({ dueAt }) => dueAt <= clock.now());
    if (last !== undefined) this.#giveHeld(({ id }) => id <= last.message.id);
    this.#alarm?.cancel();
    if (this.#held.length === 0) return;
    const next = this.#held.reduce((soonest, { dueAt }) => Math.min(soonest, dueAt), Infinity);
    this.#alarm = clock.after(next - clock.now(), () => this.#giveDue());
  }

  /** Give on the held ones up to the first that is not to be given. */
  #giveHeld(isToGo: (message: Message) => boolean): void {
    for (let first = this.#held[0]; first !== undefined && isToGo(first.message); first = this.#held[0]) {
      this.#held.shift();
      this.#give(first.message);
      if (first.message.id > this.#highest) this.#highest = first.message.id;
    }
    if (this.#complete) this.advance(this.#highest);
  }

  #give(message: Message): void {
    if (this.#seen.add(message.id)) this.#given = this.#settings.deliver(message);
  }

  /** What is stored so much later than its id says may be missing behind this. */
  #before(id: string): string {
    return firstIdAt(timeOf(id) - this.#settings.timing.overlapMs);
  }
}

/** What has arrived: drops duplicates, holds pushes back while a catch-up runs, and gives messages on one at a time. */

import type { Message } from "./protocol.js";
import { Seen } from "./seen.js";
import { firstIdAt, timeOf } from "./ulid.js";

export interface InboxSettings {
  /** How many ids are remembered. */
  remember: number;
  /** How much time before the last message a resumption reads again. */
  overlapMs: number;
  /** Give a message to the application. It must not throw. */
  deliver: (message: Message) => Promise<void>;
}

/**
 * Between `interrupt` and `release`, pushes are held, sorted by id, and what is pulled goes first. The position, behind
 * which everything is asked for again after an interruption, moves with pushes only while nothing can have been missed
 * before them: after a catch-up was complete.
 */
export class Inbox {
  readonly #settings: InboxSettings;
  readonly #seen: Seen;
  #held: Message[] | undefined = [];
  #complete = false;
  /** Where the client's own time begins: no resumption reads what is older. */
  #start = "";
  #position = "";
  #highest = "";
  #queue: Promise<void> = Promise.resolve();

  constructor(settings: InboxSettings) {
    this.#settings = settings;
    this.#seen = new Seen(settings.remember);
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
    const { overlapMs } = this.#settings;
    const overlap = this.#position === "" ? "" : firstIdAt(timeOf(this.#position) - overlapMs);
    return [this.#start, this.#seen.forgotten, overlap].reduce((a, b) => (a > b ? a : b));
  }

  /** The connection is gone: hold what the next one pushes until it has caught up. */
  interrupt(): void {
    this.#complete = false;
    this.#held ??= [];
  }

  /** A message was pushed. */
  push(message: Message): void {
    if (this.#held === undefined) void this.#accept(message);
    else this.#held.push(message);
    if (this.#complete) this.advance(this.#highest);
  }

  /** A message was pulled. Resolves when the application has it, and all before it. */
  pull(message: Message): Promise<void> {
    return this.#accept(message);
  }

  /** A resumption has read everything up to this id. */
  advance(id: string): void {
    if (id > this.#position) this.#position = id;
  }

  /** Give on what is held, in the order of ids. `complete`: nothing older is missing any more. */
  release(complete: boolean): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    held.sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const message of held) void this.#accept(message);
    if (complete) {
      this.#complete = true;
      this.advance(this.#highest);
    }
  }

  /** Resolves when the application has everything that was given on so far. */
  settled(): Promise<void> {
    return this.#queue;
  }

  #accept(message: Message): Promise<void> {
    if (this.#seen.add(message.id)) {
      if (message.id > this.#highest) this.#highest = message.id;
      this.#queue = this.#queue.then(() => this.#settings.deliver(message));
    }
    return this.#queue;
  }
}

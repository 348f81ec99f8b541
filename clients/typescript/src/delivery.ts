/** The delivery of messages and recalls to the application: one at a time, and each until the application takes it. */

import { backoffMs, sleep, type Backoff, type Clock } from "./clock.js";

export interface DeliverySettings<Entry> {
  /** The callback of the application. If it throws or rejects, the application does not have the entry. */
  take: (entry: Entry) => void | Promise<void>;
  /** Called with an entry that is given no more, although the application does not have it. */
  dropped: (entry: Entry) => void;
  /** Called with what `take` threw. It must not throw. */
  failed: (thrown: unknown) => void;
  /** The waits before an entry is given again. */
  backoff: Backoff;
  clock: Clock;
  random: () => number;
  /** After the abort, nothing is given again. */
  signal: AbortSignal;
}

/** An entry is given only when all entries before it were accepted. */
export class Delivery<Entry> {
  readonly #settings: DeliverySettings<Entry>;
  #queue: Promise<void> = Promise.resolve();

  constructor(settings: DeliverySettings<Entry>) {
    this.#settings = settings;
  }

  /** Gives an entry after those before it. Resolves when the application has accepted it. Never rejects. */
  give(entry: Entry): Promise<void> {
    this.#queue = this.#queue.then(() => this.#untilTaken(entry));
    return this.#queue;
  }

  /** Resolves when all entries so far were given. */
  settled(): Promise<void> {
    return this.#queue;
  }

  async #untilTaken(entry: Entry): Promise<void> {
    const { take, failed, dropped, backoff, clock, random, signal } = this.#settings;
    for (let attempt = 0; ; attempt++) {
      try {
        return await take(entry);
      } catch (thrown) {
        failed(thrown);
      }
      if (signal.aborted) return dropped(entry);
      await sleep(clock, backoffMs(backoff, attempt, random), signal);
    }
  }
}

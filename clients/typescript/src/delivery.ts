/** The giving of messages to the application: one at a time, and each until it is taken. */

import { backoffMs, sleep, type Backoff, type Clock } from "./clock.js";
import type { Message } from "./protocol.js";

export interface DeliverySettings {
  /** The application's. What it throws, or rejects with, means that it does not have the message. */
  take: (message: Message) => void | Promise<void>;
  /** Told what `take` threw. It must not throw. */
  failed: (thrown: unknown) => void;
  /** The waits before a message is given again. */
  backoff: Backoff;
  clock: Clock;
  random: () => number;
  /** Aborted when nothing is to be given again any more. */
  signal: AbortSignal;
}

/** Nothing is given while something before it has not been taken. */
export class Delivery {
  readonly #settings: DeliverySettings;
  #queue: Promise<void> = Promise.resolve();

  constructor(settings: DeliverySettings) {
    this.#settings = settings;
  }

  /** Give a message after those before it. Resolves when the application has taken it; never rejects. */
  give(message: Message): Promise<void> {
    this.#queue = this.#queue.then(() => this.#untilTaken(message));
    return this.#queue;
  }

  /** Resolves when everything that was to be given so far has been. */
  settled(): Promise<void> {
    return this.#queue;
  }

  async #untilTaken(message: Message): Promise<void> {
    const { take, failed, backoff, clock, random, signal } = this.#settings;
    for (let attempt = 0; ; attempt++) {
      try {
        return await take(message);
      } catch (thrown) {
        failed(thrown);
      }
      if (signal.aborted) return;
      await sleep(clock, backoffMs(backoff, attempt, random), signal);
    }
  }
}

/** The delivery of messages to the application: one at a time, and each until the application accepts it. */

import { backoffMs, sleep, type Backoff, type Clock } from "./clock.js";
import type { Message } from "./protocol.js";

export interface DeliverySettings {
  /** The callback of the application. If it throws or rejects, the application does not have the message. */
  take: (message: Message) => void | Promise<void>;
  /** Called with what `take` threw. It must not throw. */
  failed: (thrown: unknown) => void;
  /** The waits before a message is given again. */
  backoff: Backoff;
  clock: Clock;
  random: () => number;
  /** After the abort, nothing is given again. */
  signal: AbortSignal;
}

/** A message is given only when all messages before it were accepted. */
export class Delivery {
  readonly #settings: DeliverySettings;
  #queue: Promise<void> = Promise.resolve();

  constructor(settings: DeliverySettings) {
    this.#settings = settings;
  }

  /** Gives a message after those before it. Resolves when the application has accepted it. Never rejects. */
  give(message: Message): Promise<void> {
    this.#queue = this.#queue.then(() => this.#untilTaken(message));
    return this.#queue;
  }

  /** Resolves when all messages so far were given. */
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

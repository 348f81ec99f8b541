/** The signal that the user is typing, sent only now and then. */

import type { Clock } from "./clock.js";

export interface TypistSettings {
  clock: Clock;
  /** How often one receiver is told at most. */
  everyMs: number;
}

/** Limits how often a receiver is told that the user is typing. */
export class Typist {
  readonly #settings: TypistSettings;
  /** When each receiver was last told. The oldest is first. */
  readonly #toldAt = new Map<string, number>();

  constructor(settings: TypistSettings) {
    this.#settings = settings;
  }

  /** Tells a receiver by this function, unless that was done a moment ago. */
  tell(receiverId: string, send: (text: string) => void): void {
    const now = this.#settings.clock.now();
    this.#forget(now);
    if (this.#toldAt.has(receiverId)) return;
    this.#toldAt.set(receiverId, now);
    send(JSON.stringify({ type: "typing", receiverId }));
  }

  #forget(now: number): void {
    for (const [receiverId, toldAt] of this.#toldAt) {
      // The machine's clock may have been set back.
      if (toldAt <= now && toldAt > now - this.#settings.everyMs) return;
      this.#toldAt.delete(receiverId);
    }
  }
}

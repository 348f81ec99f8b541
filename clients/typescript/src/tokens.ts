/** The application's tokens: asked for when needed, and again when one is refused. */

import type { Clock } from "./clock.js";
import { ChatError } from "./errors.js";

export interface TokensSettings {
  ask: () => string | Promise<string>;
  clock: Clock;
  /** An answer may take this long, in milliseconds. */
  answerMs: number;
  /** Aborted when there is no hurry any more: an answer may take any time. */
  signal: AbortSignal;
}

export class Tokens {
  readonly #settings: TokensSettings;
  #current: Promise<string> | undefined;

  constructor(settings: TokensSettings) {
    this.#settings = settings;
  }

  /** The token that was last asked for. Rejects with a `ChatError` of code `token`, and is forgotten then. */
  current(): Promise<string> {
    return this.#current ?? this.renew();
  }

  /** A token that is asked for now. Rejects likewise. */
  renew(): Promise<string> {
    const asked = this.#ask().catch((thrown: unknown) => {
      if (this.#current === asked) this.#current = undefined;
      throw ChatError.because("token", thrown);
    });
    this.#current = asked;
    return asked;
  }

  /** A token in place of one that was refused; asked for once, however many ask for it. Rejects likewise. */
  async instead(refused: string): Promise<string> {
    const asked = this.current();
    if ((await asked) === refused && this.#current === asked) return this.renew();
    return this.current();
  }

  #ask(): Promise<string> {
    const { ask, clock, answerMs, signal } = this.#settings;
    return new Promise((resolve, reject) => {
      const deadline = clock.after(answerMs, () => reject(new Error("no token came in time")));
      const cancel = () => deadline.cancel();
      signal.addEventListener("abort", cancel);
      const answered = Promise.resolve().then(ask).then(resolve, reject);
      void answered.then(() => {
        cancel();
        signal.removeEventListener("abort", cancel);
      });
    });
  }
}

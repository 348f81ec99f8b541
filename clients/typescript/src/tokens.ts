/** The tokens of the application: requested when needed, and again when one is refused. */

import type { Clock } from "./clock.js";
import { ChatError } from "./errors.js";

export interface TokensSettings {
  ask: () => string | Promise<string>;
  clock: Clock;
  /** The time limit of an answer, in milliseconds. */
  answerMs: number;
  /** When aborted, the time limit no longer applies. */
  signal: AbortSignal;
}

export class Tokens {
  readonly #settings: TokensSettings;
  #current: Promise<string> | undefined;

  constructor(settings: TokensSettings) {
    this.#settings = settings;
  }

  /** The token that was last requested. Rejects with a `ChatError` of code `token`, and then forgets it. */
  current(): Promise<string> {
    return this.#current ?? this.renew();
  }

  /** Requests a new token. Rejects likewise. */
  renew(): Promise<string> {
    const asked = this.#ask().catch((thrown: unknown) => {
      if (this.#current === asked) this.#current = undefined;
      throw ChatError.because("token", thrown);
    });
    this.#current = asked;
    return asked;
  }

  /** A token to replace a refused one. Concurrent calls request only one. Rejects likewise. */
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
      const answered = Promise.resolve().then(ask).then(checked).then(resolve, reject);
      void answered.then(() => {
        cancel();
        signal.removeEventListener("abort", cancel);
      });
    });
  }
}

/** Returns the answer of the application if it may be a token. Otherwise says what is wrong with it. */
function checked(answer: unknown): string {
  if (!answer) throw new Error("the option token returned no token");
  // A WebSocket carries the token as a subprotocol, which has these characters only.
  if (typeof answer === "string" && /^[\w.!#$%&'*+^`|~-]+$/.test(answer)) return answer;
  throw new Error("the option token must return the JWT alone, without Bearer, quotes and spaces");
}

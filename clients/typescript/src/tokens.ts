/** The application's tokens: asked for when needed, and again when one is refused. */

import { asChatError } from "./errors.js";

export class Tokens {
  readonly #ask: () => Promise<string>;
  #current: Promise<string> | undefined;

  constructor(ask: () => Promise<string>) {
    this.#ask = ask;
  }

  /** The token that was last asked for. */
  current(): Promise<string> {
    return this.#current ?? this.renew();
  }

  /** A token that is asked for now. */
  renew(): Promise<string> {
    const asked = Promise.resolve().then(this.#ask).catch((thrown) => {
      if (this.#current === asked) this.#current = undefined;
      throw asChatError(thrown, "token");
    });
    this.#current = asked;
    return asked;
  }
}

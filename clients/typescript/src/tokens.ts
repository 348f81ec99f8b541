/** The tokens of the application: requested when needed, and again when one is refused. */

import { within, type Clock } from "./clock.js";
import { because } from "./errors.js";
import type { Timing } from "./timing.js";

export interface TokensSettings {
  clock: Clock;
  timing: Pick<Timing, "requestMs">;
  /** Returns the signal whose abort ends the wait for a token. */
  signal: () => AbortSignal;
}

export type Tokens = ReturnType<typeof createTokens>;

export function createTokens({ clock, timing, signal }: TokensSettings, ask: () => string | Promise<string>) {
  let known: Promise<string> | undefined;

  /** Requests a new token. Rejects with a `ChatError` of code `token`, and then forgets it. */
  const renew = (): Promise<string> => {
    const life = signal();
    const asked = new Promise<string>((resolve, reject) => {
      const late = () => reject(new Error("no token came in time"));
      const cancel = within(clock, timing.requestMs, life.aborted ? undefined : life, late);
      Promise.resolve().then(ask).then(checked).finally(cancel).then(resolve, reject);
    }).catch((thrown: unknown) => {
      if (known === asked) known = undefined;
      throw because("token", thrown);
    });
    return (known = asked);
  };

  /** The token that was last requested. Rejects likewise. */
  const current = (): Promise<string> => known ?? renew();

  return {
    renew,
    current,

    /** A token to replace a refused one. Concurrent calls request only one. Rejects likewise. */
    async instead(refused: string): Promise<string> {
      const asked = current();
      return (await asked) === refused && known === asked ? renew() : current();
    },
  };
}

/** Returns the answer of the application if it may be a token. Otherwise says what is wrong with it. */
function checked(answer: unknown): string {
  // A WebSocket carries the token as a subprotocol, which has these characters only.
  if (typeof answer === "string" && /^[\w.!#$%&'*+^`|~-]+$/.test(answer)) return answer;
  const what = answer ? "more than the JWT alone: leave out Bearer, quotes and spaces" : "no token";
  throw new Error(`the option token returned ${what}`);
}

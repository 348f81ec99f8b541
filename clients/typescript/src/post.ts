/** Sends by REST. */

import type { ChatApi } from "./api.js";
import { backoffMs, sleep, within, type Clock } from "./clock.js";
import { closed, type ChatError } from "./errors.js";
import { unacknowledged, type Receipt } from "./outbox.js";
import type { Timing } from "./timing.js";

interface Post {
  timing: Pick<Timing, "backoff" | "idempotentMs">;
  clock: Clock;
  random: () => number;
  /** Returns the signal that a close aborts. */
  signal: () => AbortSignal;
}

/** The codes of failures that say nothing about the message: a busy service, no answer, or no token. */
const SAYS_NOTHING = /^(unavailable|rate_limited|network|token)$/;

/**
 * Sends an encoded message, and repeats that with the same bytes until it has a result. Rejects if it is refused, or
 * when a repeat is not safe any more, because the server may have forgotten the `requestId`.
 */
export function post(by: Post, send: ChatApi["postMessage"], text: string): Promise<Receipt> {
  const signal = by.signal();
  const end = new AbortController();
  /** By this it is known that nothing was stored: all attempts so far were beyond the limit of sends. */
  let refusal: ChatError | undefined;

  const untilAnswered = async (): Promise<Receipt> => {
    let isDoubtful = false;
    for (let attempt = 0; ; attempt++) {
      let waitMs = backoffMs(by, attempt);
      try {
        refusal = undefined;
        return await send(text, end.signal);
      } catch (thrown) {
        const error = thrown as ChatError;
        if (end.signal.aborted || !SAYS_NOTHING.test(error.code)) throw error;
        isDoubtful ||= error.code !== "rate_limited";
        if (!isDoubtful) refusal = error;
        // Sends that wait for the same moment are not repeated all at once.
        waitMs += error.retryAfterMs ?? 0;
      }
      await sleep(by.clock, waitMs, end.signal);
    }
  };

  return new Promise((resolve, reject) => {
    const cancel = within(by.clock, by.timing.idempotentMs, signal, () => {
      reject(signal.aborted ? closed() : (refusal ?? unacknowledged()));
      end.abort();
    });
    untilAnswered().finally(cancel).then(resolve, reject);
  });
}

/** Sends by REST. */

import type { ChatApi } from "./api.js";
import { backoffMs, sleep, type Clock } from "./clock.js";
import { ChatError } from "./errors.js";
import { unacknowledged, type Receipt } from "./outbox.js";
import type { Timing } from "./timing.js";

export interface Post {
  api: Pick<ChatApi, "postMessage">;
  timing: Pick<Timing, "backoff" | "idempotentMs">;
  clock: Clock;
  random: () => number;
  /** Aborted when the client is closed. */
  signal: AbortSignal;
}

/**
 * Sends an encoded message, and repeats that with the same bytes until it has a result. Rejects if it is refused, or
 * when a repeat is not safe any more, because the server may have forgotten the `requestId`.
 */
export async function post({ signal, clock, timing, ...by }: Post, text: string): Promise<Receipt> {
  const end = new AbortController();
  const abort = () => end.abort();
  let refusal: ChatError | undefined;
  const expiry = clock.after(timing.idempotentMs, abort);
  signal.addEventListener("abort", abort);
  const ended = new Promise<never>((_, reject) => {
    end.signal.addEventListener("abort", () => reject(signal.aborted ? closed() : (refusal ?? unacknowledged())));
  });
  try {
    const known = (error: ChatError | undefined) => (refusal = error);
    return await Promise.race([ended, untilAnswered({ ...by, clock, timing, signal: end.signal }, text, known)]);
  } finally {
    expiry.cancel();
    signal.removeEventListener("abort", abort);
  }
}

/**
 * Sends until there is a result. Tells the refusal by which it is known that nothing was stored: all attempts so far
 * were beyond the limit of sends.
 */
async function untilAnswered(
  { api, timing, clock, random, signal }: Post,
  text: string,
  known: (refusal: ChatError | undefined) => void,
): Promise<Receipt> {
  let isDoubtful = false;
  for (let attempt = 0; ; attempt++) {
    let waitMs = backoffMs(timing.backoff, attempt, random);
    try {
      known(undefined);
      return await api.postMessage(text, signal);
    } catch (error) {
      if (signal.aborted || !mayRepeat(error)) throw error;
      isDoubtful ||= error.code !== "rate_limited";
      if (!isDoubtful) known(error);
      // Sends that wait for the same moment are not repeated all at once.
      waitMs += error.retryAfterMs ?? 0;
    }
    await sleep(clock, waitMs, signal);
  }
}

/** Whether the failure says nothing about the message: no answer came, or there was no token. */
function mayRepeat(error: unknown): error is ChatError {
  return error instanceof ChatError && (error.isTemporary || error.code === "network" || error.code === "token");
}

function closed(): ChatError {
  return new ChatError("closed", "the client was closed");
}

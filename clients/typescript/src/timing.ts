/** The waits and limits of a client, all in milliseconds. */

import type { Backoff } from "./clock.js";

/** The waits of a client. The defaults suit API Gateway, which ends a connection after 10 idle minutes. */
export interface Timing {
  /** A connection on which nothing was sent for this long is pinged. A ping causes no function call. */
  pingEveryMs: number;
  /** After this long without a frame, a probe replaces the ping. Pings are never answered. */
  silenceMs: number;
  /** When a page is shown again after this long without a frame, the server is probed. */
  hiddenMs: number;
  /** A connection that does not answer within this time is dead. */
  answerMs: number;
  /** The time limit of a handshake. */
  handshakeMs: number;
  /** The time limit of a REST call, and of the `token` callback. */
  requestMs: number;
  /** A send is repeated after this long without acknowledgement, then after twice the time, up to eight times. */
  ackMs: number;
  /** A send is not repeated later than this after its first attempt. The server recognises it for 10 minutes. */
  idempotentMs: number;
  /** The waits between connections, and between repeats of what the service or the application failed to do. */
  backoff: Backoff;
  /** A connection that was open this long resets the waits. */
  stableMs: number;
  /** The longest time that a pushed message waits for older missed messages while they are pulled. */
  holdMs: number;
  /** At other times, how long a pushed message waits for older ones that it has overtaken. 0 means not at all. */
  orderMs: number;
  /** How long after connecting missed messages are pulled again: a sender may have recorded one just then. */
  settleMs: number;
  /** How often missed messages are pulled while the connection is open. */
  pullEveryMs: number;
  /** How much a resumption reads again: messages may be stored in another order than that of their ids. */
  overlapMs: number;
  /** How often one receiver is told at most that the user is typing. */
  typingEveryMs: number;
}

export const DEFAULT_TIMING: Timing = {
  // Browsers let timers of hidden pages wait for another minute.
  pingEveryMs: 510_000,
  // The time of two pings, so that a probe replaces the second.
  silenceMs: 1_020_000,
  hiddenMs: 60_000,
  answerMs: 10_000,
  handshakeMs: 15_000,
  requestMs: 30_000,
  ackMs: 10_000,
  idempotentMs: 540_000,
  backoff: { baseMs: 500, maxMs: 30_000 },
  stableMs: 10_000,
  holdMs: 10_000,
  orderMs: 100,
  settleMs: 20_000,
  pullEveryMs: 1_800_000,
  overlapMs: 660_000,
  typingEveryMs: 3_000,
};

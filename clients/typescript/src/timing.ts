/** The waits and limits of a client, all in milliseconds. */

import type { Backoff } from "./clock.js";

/** How long a client waits for what. The defaults suit API Gateway, which ends a connection after 10 idle minutes. */
export interface Timing {
  /** An open connection is pinged this often; a ping costs the service no function call. */
  pingEveryMs: number;
  /** After so long without a frame from the server, it is asked for one: a ping is never answered. */
  silenceMs: number;
  /** A connection that does not answer in this time is dead. */
  answerMs: number;
  /** A handshake may take this long. */
  handshakeMs: number;
  /** A REST call may take this long, and the `token` callback. */
  requestMs: number;
  /** A send is repeated after so long without acknowledgement; then after twice the time, up to eight times. */
  ackMs: number;
  /** A send is not repeated later than this after its first attempt: the server knows it again for 10 minutes. */
  idempotentMs: number;
  /** The waits between connections, and between repeats of what the service or the application could not do. */
  backoff: Backoff;
  /** A connection that stood this long starts the waits from the beginning. */
  stableMs: number;
  /** While missed messages are pulled, a pushed one waits for them, which are older, no longer than this. */
  holdMs: number;
  /** At other times a pushed message waits this long for older ones that it has overtaken; 0: not at all. */
  orderMs: number;
  /** Missed messages are pulled again this long after connecting: a sender may have been writing one down just then. */
  settleMs: number;
  /** ... and this often as long as the connection stands. */
  pullEveryMs: number;
  /** A resumption reads so much again: messages may be stored in another order than that of their ids. */
  overlapMs: number;
}

export const DEFAULT_TIMING: Timing = {
  pingEveryMs: 60_000,
  silenceMs: 300_000,
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
  pullEveryMs: 600_000,
  overlapMs: 660_000,
};

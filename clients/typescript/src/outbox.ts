/**
 * The messages to send: in order for each addressee, and repeated with their `requestId` until they are acknowledged.
 */

import { backoffMs, type Clock, type Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import type { AckFrame, Content } from "./protocol.js";
import { encode, type Address } from "./submission.js";
import type { Timing } from "./timing.js";

/** A message that was accepted. */
export interface Receipt {
  /** The message's id. */
  id: string;
  /** When the message reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** The part of a connection that sending needs. */
export interface Transport {
  send(text: string): void;
  /** Checks whether the server is still there, if no frame came for this long. Ends the connection if it is not. */
  probe(silenceMs: number): void;
}

export interface OutboxSettings {
  timing: Timing;
  clock: Clock;
  random: () => number;
}

/**
 * Called before the first attempt of a send. Resolves with the time of its first attempt, which may have been made
 * before a reload, or undefined if it was sent elsewhere. Never rejects.
 */
export type Begin = (requestId: string, now: number) => Promise<number | undefined>;

/** A send without a result. */
interface Pending {
  /** Sends the message, or does nothing if it must wait. `fill` sends it later. */
  transmit(): void;
  /** Repeats nothing before the next connection. */
  pause(): void;
  accepted(receipt: Receipt): void;
  refused(error: ChatError): void;
  reject(error: ChatError): void;
}

export type Outbox = ReturnType<typeof createOutbox>;

/**
 * Makes an outbox. `limited` is called when sends begin to wait, because the user has sent too much.
 *
 * A function with variables is smaller than a class with fields, here and in other modules.
 */
export function createOutbox(settings: OutboxSettings, limited: (error: ChatError) => void, begin?: Begin) {
  const { timing, clock } = settings;
  /** The waiting messages of each addressee. Only the first is sent. */
  const lanes = new Map<string, Pending[]>();
  const byRequest = new Map<string | undefined, Pending>();
  /** The sends that wait for an answer. */
  const underWay = new Set<Pending>();
  /**
   * How many sends may be under way at once. After a limit it is one, and it grows by one with each acknowledgement. So
   * the sends that have waited do not exceed the limit again all at once.
   */
  let room = Infinity;
  /** Ends a limit. Nothing is sent before. */
  let waiting: Timer | undefined;
  let limitedUntil = 0;
  /** The number of limits since the last acknowledgement. */
  let limits = 0;
  let transport: Transport | undefined;

  /** The user has sent too much. Nothing is sent before the server takes more. */
  const limit = (error: ChatError): void => {
    const until = clock.now() + (error.retryAfterMs ?? 0);
    if (waiting && until <= limitedUntil) return;
    room = 1;
    // Other devices of the user wait for the same moment.
    limitedUntil = until + backoffMs(settings, limits);
    const isLimited = !!waiting;
    waiting?.cancel();
    waiting = clock.after(limitedUntil - clock.now(), () => {
      waiting = undefined;
      fill();
    });
    if (isLimited) return;
    limits += 1;
    limited(error);
  };

  /** Sends the first message of each addressee that is not under way, while there is room. */
  const fill = (): void => {
    for (const [first] of lanes.values()) if (!underWay.has(first!)) first!.transmit();
  };

  /** Returns the text of a message. @throws ChatError of code `bad_request` if `send` would refuse it. */
  const check = (to: Address, content: Content, requestId: string): string => {
    if (byRequest.has(requestId)) throw new ChatError("bad_request", `requestId ${requestId} is under way`);
    return encode(to, content, requestId);
  };

  /** Makes a send. A repeat has exactly the same text. */
  const createPending = (
    text: string,
    requestId: string,
    key: string,
    resolve: (receipt: Receipt) => void,
    reject: (error: ChatError) => void,
  ): Pending => {
    const lane = lanes.get(key) ?? [];
    let attempts = 0;
    /** The number of attempts that may have been accepted. */
    let doubts = 0;
    /** The last refusal, if no attempt may have been accepted. */
    let refusal: ChatError | undefined;
    let sentAt = 0;
    /** Whether `begin` was asked. */
    let isAsked = false;
    let retry: Timer | undefined;
    /** Gives the send up. Set with the first attempt. */
    let expiry: Timer | undefined;

    /** Removes the send, which has a result, and sends the next one to the same addressee. */
    const end = (): void => {
      retry?.cancel();
      expiry?.cancel();
      byRequest.delete(requestId);
      underWay.delete(pending);
      const index = lane.indexOf(pending);
      lane.splice(index, 1);
      if (!lane[0]) lanes.delete(key);
      else if (index === 0) lane[0].transmit();
      if (room < Infinity) fill();
    };

    const expireAfter = (ms: number): void => {
      expiry = clock.after(ms, () => pending.reject(refusal ?? unacknowledged()));
    };

    const repeatAfter = (ms: number, ifUnanswered = false): void => {
      retry?.cancel();
      retry = clock.after(ms, () => {
        if (ifUnanswered) transport?.probe(clock.now() - sentAt);
        underWay.delete(pending);
        pending.transmit();
      });
    };

    const pending: Pending = {
      transmit() {
        if (!transport || waiting || underWay.size >= room) return;
        if (!expiry) {
          if (begin) {
            if (!isAsked) void begin(requestId, clock.now()).then(begun);
            isAsked = true;
            return;
          }
          expireAfter(timing.idempotentMs);
        }
        underWay.add(pending);
        refusal = undefined;
        sentAt = clock.now();
        repeatAfter(timing.ackMs * 2 ** Math.min(attempts, 3), true);
        attempts += 1;
        doubts += 1;
        transport.send(text);
      },

      pause: () => retry?.cancel(),

      accepted(receipt) {
        end();
        resolve(receipt);
      },

      refused(error) {
        if (error.code === "rate_limited") {
          retry?.cancel();
          attempts = 0;
          doubts -= 1;
          if (!doubts) refusal = error;
          underWay.delete(pending);
        } else if (error.isTemporary) {
          repeatAfter(Math.max(backoffMs(settings, attempts), error.retryAfterMs ?? 0));
        } else if (error.code !== "token_expired") {
          pending.reject(error);
        }
        // After `token_expired` the connection ends. The next one has a new token.
      },

      reject(error) {
        end();
        reject(error);
      },
    };

    /** Makes the first attempt, or another one of a message that was tried before a reload. */
    const begun = (firstAt: number | undefined): void => {
      if (byRequest.get(requestId) !== pending) return;
      if (firstAt === undefined) return pending.reject(new ChatError("sent_elsewhere", "another tab has sent it"));
      const leftMs = firstAt + timing.idempotentMs - clock.now();
      // The clock may have been set back, so a time in the future says nothing.
      if (leftMs <= 0 || leftMs > timing.idempotentMs) return pending.reject(unacknowledged());
      expireAfter(leftMs);
      pending.transmit();
    };

    byRequest.set(requestId, pending);
    lanes.set(key, lane);
    if (lane.push(pending) === 1) pending.transmit();
    return pending;
  };

  return {
    limit,
    check,

    /** The number of sends without a result. */
    get size(): number {
      return byRequest.size;
    },

    /** Until when nothing is sent, by this machine's clock. Undefined if there is no limit. */
    get limitedUntil(): number | undefined {
      return waiting && limitedUntil;
    },

    /** Whether a send with this id has no result yet. */
    has: (requestId: string) => byRequest.has(requestId),

    /** Sends as soon as there is a connection and earlier messages to the same addressee have a result. */
    send: (to: Address, content: Content, requestId: string) =>
      new Promise<Receipt>((resolve, reject) => {
        createPending(check(to, content, requestId), requestId, JSON.stringify(to), resolve, reject);
      }),

    /** Called when a connection is open. Sends the first message of each addressee again, unless there is a limit. */
    connected(to: Transport): void {
      transport = to;
      underWay.clear();
      fill();
    },

    disconnected(): void {
      transport = undefined;
      for (const pending of byRequest.values()) pending.pause();
    },

    acknowledged({ requestId, id, timestamp }: AckFrame): void {
      const pending = byRequest.get(requestId);
      if (!pending) return;
      if (!waiting) {
        limits = 0;
        room += 1;
      }
      pending.accepted({ id, timestamp });
      if (room > lanes.size) room = Infinity;
    },

    /** Returns whether the error is reported elsewhere: by the promise of its send, or as a limit. */
    refused(error: ChatError, requestId: string | undefined): boolean {
      const isLimit = error.code === "rate_limited";
      if (isLimit) limit(error);
      const pending = byRequest.get(requestId);
      pending?.refused(error);
      return isLimit || !!pending;
    },

    /** Rejects all sends, and forgets the connection and the limit. */
    close(error: ChatError): void {
      transport = undefined;
      waiting?.cancel();
      waiting = undefined;
      room = Infinity;
      for (const pending of [...byRequest.values()]) pending.reject(error);
    },
  };
}

/** The error of a send that was given up. */
export function unacknowledged(): ChatError {
  return new ChatError("unacknowledged", "no acknowledgement came; it may have been accepted");
}

/**
 * The messages to send: in order for each addressee, and repeated with their `requestId` until they are acknowledged.
 */

import { backoffMs, type Clock, type Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import type { AckFrame, Content, ErrorFrame } from "./protocol.js";
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
  /** When the last frame came. */
  readonly heardAt: number;
  /** Checks whether the server is still there, and ends the connection if it is not. */
  probe(): void;
}

export interface OutboxSettings {
  timing: Timing;
  clock: Clock;
  random: () => number;
}

interface Pending {
  requestId: string;
  /** Kept because a repeat must have exactly the same bytes. */
  text: string;
  lane: Pending[];
  attempts: number;
  sentAt: number;
  retry?: Timer;
  expiry?: Timer;
  resolve(receipt: Receipt): void;
  reject(error: ChatError): void;
}

export class Outbox {
  readonly #settings: OutboxSettings;
  /** The waiting messages of each addressee. Only the first is sent. */
  readonly #lanes = new Map<string, Pending[]>();
  readonly #byRequest = new Map<string, Pending>();
  #transport: Transport | undefined;

  constructor(settings: OutboxSettings) {
    this.#settings = settings;
  }

  /** The number of sends without a result. */
  get size(): number {
    return this.#byRequest.size;
  }

  /** Sends as soon as there is a connection and earlier messages to the same addressee have a result. */
  send(to: Address, content: Content, requestId: string): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const text = encode(to, content, requestId);
      if (this.#byRequest.has(requestId)) throw new ChatError("bad_request", `requestId ${requestId} is under way`);
      const key = "groupId" in to ? `group ${to.groupId}` : `user ${to.receiverId}`;
      const lane = this.#lanes.get(key) ?? [];
      this.#lanes.set(key, lane);
      const settle = <T>(how: (value: T) => void) => (value: T) => {
        this.#remove(pending, key);
        how(value);
      };
      const pending: Pending = {
        requestId, text, lane, attempts: 0, sentAt: 0, resolve: settle(resolve), reject: settle(reject),
      };
      this.#byRequest.set(requestId, pending);
      lane.push(pending);
      if (lane[0] === pending) this.#transmit(pending);
    });
  }

  /** Called when a connection is open. Sends the first message of each addressee again. */
  connected(transport: Transport): void {
    this.#transport = transport;
    for (const lane of [...this.#lanes.values()]) if (lane[0]) this.#transmit(lane[0]);
  }

  disconnected(): void {
    this.#transport = undefined;
    for (const pending of this.#byRequest.values()) pending.retry?.cancel();
  }

  acknowledged({ requestId, id, timestamp }: AckFrame): void {
    this.#byRequest.get(requestId)?.resolve({ id, timestamp });
  }

  /** Returns whether the error belongs to a send. If so, the promise of the send reports it. */
  refused(frame: ErrorFrame): boolean {
    const pending = frame.requestId === undefined ? undefined : this.#byRequest.get(frame.requestId);
    if (pending === undefined) return false;
    const error = ChatError.of(frame);
    if (error.isTemporary) {
      const waitMs = backoffMs(this.#settings.timing.backoff, pending.attempts, this.#settings.random);
      this.#repeatAfter(pending, Math.max(waitMs, error.retryAfterMs ?? 0));
    } else if (error.code !== "token_expired") {
      pending.reject(error);
    }
    // After `token_expired` the connection ends. The next one has a new token.
    return true;
  }

  /** Rejects all sends. */
  close(error: ChatError): void {
    this.#transport = undefined;
    for (const pending of [...this.#byRequest.values()]) pending.reject(error);
  }

  #transmit(pending: Pending): void {
    const { clock, timing } = this.#settings;
    const transport = this.#transport;
    if (transport === undefined) return;
    pending.expiry ??= clock.after(timing.idempotentMs, () => {
      pending.reject(unacknowledged());
    });
    pending.sentAt = clock.now();
    this.#repeatAfter(pending, timing.ackMs * 2 ** Math.min(pending.attempts, 3), true);
    pending.attempts += 1;
    transport.send(pending.text);
  }

  #repeatAfter(pending: Pending, ms: number, ifUnanswered = false): void {
    pending.retry?.cancel();
    pending.retry = this.#settings.clock.after(ms, () => {
      if (ifUnanswered && (this.#transport?.heardAt ?? 0) <= pending.sentAt) this.#transport?.probe();
      this.#transmit(pending);
    });
  }

  /** Removes a send that has a result, and sends the next one to the same addressee. */
  #remove(pending: Pending, key: string): void {
    pending.retry?.cancel();
    pending.expiry?.cancel();
    this.#byRequest.delete(pending.requestId);
    const index = pending.lane.indexOf(pending);
    pending.lane.splice(index, 1);
    const next = pending.lane[0];
    if (next === undefined) this.#lanes.delete(key);
    else if (index === 0) this.#transmit(next);
  }
}

/** The error of a send that was given up. */
export function unacknowledged(): ChatError {
  return new ChatError("unacknowledged", "no acknowledgement came; it may have been accepted");
}

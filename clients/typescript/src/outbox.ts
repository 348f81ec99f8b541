/** What is to be sent: in order for each addressee, repeated under its `requestId` until it is acknowledged. */

import { backoffMs, type Clock, type Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import { MAX_FRAME_BYTES, MAX_REQUEST_ID_BYTES, type AckFrame, type Content, type ErrorFrame } from "./protocol.js";
import type { Timing } from "./timing.js";

/** Whom a message is for. */
export type Address = { receiverId: string } | { groupId: string };

/** A message that was accepted. */
export interface Receipt {
  /** The message's id. */
  id: string;
  /** When it reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** A connection, as far as sending needs one. */
export interface Transport {
  send(text: string): void;
  /** When a frame last came. */
  readonly heardAt: number;
  /** Find out whether anybody is there; ends the connection if not. */
  probe(): void;
}

export interface OutboxSettings {
  timing: Timing;
  clock: Clock;
  random: () => number;
}

interface Pending {
  requestId: string;
  /** The text is kept: a repeat must be the same to the byte. */
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
  /** For each addressee what waits; only the first is under way. */
  readonly #lanes = new Map<string, Pending[]>();
  readonly #byRequest = new Map<string, Pending>();
  #transport: Transport | undefined;

  constructor(settings: OutboxSettings) {
    this.#settings = settings;
  }

  /** How many sends are not settled. */
  get size(): number {
    return this.#byRequest.size;
  }

  /** Send now, or as soon as there is a connection and what was sent before to the same addressee is settled. */
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

  /** There is a connection: send what is under way once more. */
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

  /** Whether the error was that of a send, and so told by its promise. */
  refused({ requestId, code, message }: ErrorFrame): boolean {
    const pending = requestId === undefined ? undefined : this.#byRequest.get(requestId);
    if (pending === undefined) return false;
    if (code === "unavailable") {
      this.#repeatAfter(pending, backoffMs(this.#settings.timing.backoff, pending.attempts, this.#settings.random));
    } else if (code !== "token_expired") {
      pending.reject(new ChatError(code, message));
    }
    // After token_expired the connection ends; the next one has a new token.
    return true;
  }

  /** Give up: reject everything. */
  close(error: ChatError): void {
    this.#transport = undefined;
    for (const pending of [...this.#byRequest.values()]) pending.reject(error);
  }

  #transmit(pending: Pending): void {
    const { clock, timing } = this.#settings;
    const transport = this.#transport;
    if (transport === undefined) return;
    pending.expiry ??= clock.after(timing.idempotentMs, () => {
      pending.reject(new ChatError("unacknowledged", "no acknowledgement came; it may have been accepted"));
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

  /** It is settled: the next one to the same addressee is under way. */
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

function encode(to: Address, content: Content, requestId: string): string {
  const requestIdBytes = bytesOf(requestId);
  if (requestIdBytes < 1 || requestIdBytes > MAX_REQUEST_ID_BYTES) {
    throw new ChatError("bad_request", `requestId has ${requestIdBytes} bytes, not 1 to ${MAX_REQUEST_ID_BYTES}`);
  }
  const type = "groupId" in to ? "multicast" : "unicast";
  let text: string;
  try {
    text = JSON.stringify({ type, ...to, content, requestId });
  } catch (cause) {
    throw new ChatError("bad_request", "the content is not JSON", { cause });
  }
  if (content === undefined || content === null) throw new ChatError("bad_request", "the content is missing");
  const bytes = bytesOf(text);
  // The gateway would close the connection.
  if (bytes > MAX_FRAME_BYTES) {
    throw new ChatError("bad_request", `the frame is ${bytes} bytes long; the limit is ${MAX_FRAME_BYTES}`);
  }
  return text;
}

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

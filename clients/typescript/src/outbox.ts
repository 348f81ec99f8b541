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
  /**
   * Called before the first attempt of a send. Resolves with the time of its first attempt, which may have been made
   * before a reload, or undefined if it was sent elsewhere. Never rejects.
   */
  begin?: ((requestId: string, now: number) => Promise<number | undefined>) | undefined;
  /** Called when sends begin to wait, because the user has sent too much. */
  limited: (error: ChatError) => void;
}

interface Pending {
  requestId: string;
  /** Kept because a repeat must have exactly the same bytes. */
  text: string;
  lane: Pending[];
  attempts: number;
  /** The number of attempts that may have been accepted. */
  doubts: number;
  /** The last refusal, if no attempt may have been accepted. */
  refusal?: ChatError | undefined;
  sentAt: number;
  /** Whether the first attempt may be made, if `begin` must be asked. */
  begun?: "asked" | "yes";
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
  /** The sends that wait for an answer. */
  readonly #underWay = new Set<Pending>();
  /**
   * How many sends may be under way at once. After a limit it is one, and it grows by one with each acknowledgement. So
   * the sends that have waited do not exceed the limit again all at once.
   */
  #room = Infinity;
  /** Ends a limit. Nothing is sent before. */
  #limit: Timer | undefined;
  #limitedUntil = 0;
  /** The number of limits since the last acknowledgement. */
  #limits = 0;
  #transport: Transport | undefined;

  constructor(settings: OutboxSettings) {
    this.#settings = settings;
  }

  /** The number of sends without a result. */
  get size(): number {
    return this.#byRequest.size;
  }

  /** Until when nothing is sent, by this machine's clock. Undefined if there is no limit. */
  get limitedUntil(): number | undefined {
    return this.#limit && this.#limitedUntil;
  }

  /** The user has sent too much. Nothing is sent before the server takes more. */
  limit(error: ChatError): void {
    const { clock, timing, random, limited } = this.#settings;
    const until = clock.now() + (error.retryAfterMs ?? 0);
    const isLimited = this.#limit !== undefined;
    if (isLimited && until <= this.#limitedUntil) return;
    this.#limit?.cancel();
    this.#room = 1;
    // Other devices of the user wait for the same moment.
    this.#limitedUntil = until + backoffMs(timing.backoff, this.#limits, random);
    this.#limit = clock.after(this.#limitedUntil - clock.now(), () => {
      this.#limit = undefined;
      this.#fill();
    });
    if (isLimited) return;
    this.#limits += 1;
    limited(error);
  }

  /** Whether a send with this id has no result yet. */
  has(requestId: string): boolean {
    return this.#byRequest.has(requestId);
  }

  /** Returns the text of a message. @throws ChatError of code `bad_request` if `send` would refuse it. */
  check(to: Address, content: Content, requestId: string): string {
    if (this.has(requestId)) throw new ChatError("bad_request", `requestId ${requestId} is under way`);
    return encode(to, content, requestId);
  }

  /** Sends as soon as there is a connection and earlier messages to the same addressee have a result. */
  send(to: Address, content: Content, requestId: string): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const text = this.check(to, content, requestId);
      const key = "groupId" in to ? `group ${to.groupId}` : `user ${to.receiverId}`;
      const lane = this.#lanes.get(key) ?? [];
      this.#lanes.set(key, lane);
      const settle = <T>(how: (value: T) => void) => (value: T) => {
        this.#remove(pending, key);
        how(value);
      };
      const pending: Pending = {
        requestId, text, lane, attempts: 0, doubts: 0, sentAt: 0, resolve: settle(resolve), reject: settle(reject),
      };
      this.#byRequest.set(requestId, pending);
      lane.push(pending);
      if (lane[0] === pending) this.#transmit(pending);
    });
  }

  /** Called when a connection is open. Sends the first message of each addressee again, unless there is a limit. */
  connected(transport: Transport): void {
    this.#transport = transport;
    this.#underWay.clear();
    this.#fill();
  }

  disconnected(): void {
    this.#transport = undefined;
    for (const pending of this.#byRequest.values()) pending.retry?.cancel();
  }

  acknowledged({ requestId, id, timestamp }: AckFrame): void {
    const pending = this.#byRequest.get(requestId);
    if (pending === undefined) return;
    if (this.#limit === undefined) {
      this.#limits = 0;
      this.#room += 1;
    }
    pending.resolve({ id, timestamp });
    if (this.#room > this.#lanes.size) this.#room = Infinity;
  }

  /** Returns whether the error is reported elsewhere: by the promise of its send, or as a limit. */
  refused(frame: ErrorFrame): boolean {
    const error = ChatError.of(frame);
    const isLimit = error.code === "rate_limited";
    if (isLimit) this.limit(error);
    const pending = frame.requestId === undefined ? undefined : this.#byRequest.get(frame.requestId);
    if (pending === undefined) return isLimit;
    if (isLimit) {
      pending.retry?.cancel();
      pending.attempts = 0;
      pending.doubts -= 1;
      if (pending.doubts === 0) pending.refusal = error;
      this.#underWay.delete(pending);
    } else if (error.isTemporary) {
      const waitMs = backoffMs(this.#settings.timing.backoff, pending.attempts, this.#settings.random);
      this.#repeatAfter(pending, Math.max(waitMs, error.retryAfterMs ?? 0));
    } else if (error.code !== "token_expired") {
      pending.reject(error);
    }
    // After `token_expired` the connection ends. The next one has a new token.
    return true;
  }

  /** Rejects all sends, and forgets the connection and the limit. */
  close(error: ChatError): void {
    this.#transport = undefined;
    this.#limit?.cancel();
    this.#limit = undefined;
    this.#room = Infinity;
    for (const pending of [...this.#byRequest.values()]) pending.reject(error);
  }

  /** Sends the first message of each addressee that is not under way, while there is room. */
  #fill(): void {
    for (const [first] of this.#lanes.values()) if (first && !this.#underWay.has(first)) this.#transmit(first);
  }

  /** Sends a message, or does nothing if it must wait. `#fill` sends it later. */
  #transmit(pending: Pending): void {
    const { clock, timing } = this.#settings;
    const transport = this.#transport;
    if (transport === undefined || this.#limit !== undefined || this.#underWay.size >= this.#room) return;
    if (this.#settings.begin && pending.begun !== "yes") return this.#begin(pending);
    this.#underWay.add(pending);
    pending.expiry ??= clock.after(timing.idempotentMs, () => {
      pending.reject(pending.refusal ?? unacknowledged());
    });
    pending.doubts += 1;
    pending.refusal = undefined;
    pending.sentAt = clock.now();
    this.#repeatAfter(pending, timing.ackMs * 2 ** Math.min(pending.attempts, 3), true);
    pending.attempts += 1;
    transport.send(pending.text);
  }

  /** Asks whether the first attempt may be made, and makes it. */
  #begin(pending: Pending): void {
    const { begin, clock, timing } = this.#settings;
    if (begin === undefined || pending.begun === "asked") return;
    pending.begun = "asked";
    void begin(pending.requestId, clock.now()).then((firstAt) => {
      if (this.#byRequest.get(pending.requestId) !== pending) return;
      if (firstAt === undefined) return pending.reject(new ChatError("sent_elsewhere", "another tab has sent it"));
      const leftMs = firstAt + timing.idempotentMs - clock.now();
      // The clock may have been set back, so a time in the future says nothing.
      if (leftMs <= 0 || leftMs > timing.idempotentMs) return pending.reject(unacknowledged());
      pending.begun = "yes";
      pending.expiry = clock.after(leftMs, () => pending.reject(pending.refusal ?? unacknowledged()));
      this.#transmit(pending);
    });
  }

  #repeatAfter(pending: Pending, ms: number, ifUnanswered = false): void {
    pending.retry?.cancel();
    pending.retry = this.#settings.clock.after(ms, () => {
      if (ifUnanswered && (this.#transport?.heardAt ?? 0) <= pending.sentAt) this.#transport?.probe();
      this.#underWay.delete(pending);
      this.#transmit(pending);
    });
  }

  /** Removes a send that has a result, and sends the next one to the same addressee. */
  #remove(pending: Pending, key: string): void {
    pending.retry?.cancel();
    pending.expiry?.cancel();
    this.#byRequest.delete(pending.requestId);
    this.#underWay.delete(pending);
    const index = pending.lane.indexOf(pending);
    pending.lane.splice(index, 1);
    const next = pending.lane[0];
    if (next === undefined) this.#lanes.delete(key);
    else if (index === 0) this.#transmit(next);
    if (this.#room < Infinity) this.#fill();
  }
}

/** The error of a send that was given up. */
export function unacknowledged(): ChatError {
  return new ChatError("unacknowledged", "no acknowledgement came; it may have been accepted");
}

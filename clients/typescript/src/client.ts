/** The client: keeps a connection, catches up on it, and sends over it. */

import { ChatApi } from "./api.js";
import { catchUp } from "./catchup.js";
import { backoffMs, sleep, systemClock, type Clock, type Timer } from "./clock.js";
import { Connection, type WebSocketConstructor } from "./connection.js";
import { Delivery } from "./delivery.js";
import { ChatError, type ErrorCode } from "./errors.js";
import { Inbox } from "./inbox.js";
import { Outbox, type Address, type Receipt } from "./outbox.js";
import type { Content, Message, Notification, ServerFrame } from "./protocol.js";
import { DEFAULT_TIMING, type Timing } from "./timing.js";
import { Tokens } from "./tokens.js";
import { firstIdAt } from "./ulid.js";

/**
 * What a client is doing:
 * - `idle`: nothing; `connect` was not called.
 * - `connecting`: a token is asked for, or a handshake is under way.
 * - `catching_up`: connected; missed messages are being pulled. Sends go out.
 * - `online`: connected, and nothing is missing.
 * - `waiting`: for the next attempt to connect.
 * - `replaced`: nothing. The user opened more connections than allowed, and this one was the oldest. `connect` connects
 *   again, at the cost of the connection that is the oldest then. Sends wait.
 * - `closed`: for good.
 */
export type State = "idle" | "connecting" | "catching_up" | "online" | "waiting" | "replaced" | "closed";

export interface ClientOptions {
  /** The public address, as `https://chat.example.com`; below it lie `/api` and `/ws`. */
  url: string;
  /** The address of the WebSocket, where that is another. */
  socketUrl?: string;
  /** A token of the user's that is valid now. Asked for each connection, and when a REST call finds it refused. */
  token: () => string | Promise<string>;
  /**
   * A message, each once. One is given at a time: the next one waits for the promise, and missed messages are dropped
   * on the server only then. One at which this throws, or rejects, is given again later, and the others wait.
   */
  onMessage: (message: Message) => void | Promise<void>;
  /** A notification from the host application. */
  onNotification?: (notification: Notification) => void;
  /** What went wrong and belongs to no promise of yours. The client goes on by itself. */
  onError?: (error: ChatError) => void;
  /** What the client is doing now. */
  onState?: (state: State) => void;
  /**
   * Ids that the application has stored, of an earlier client: none of these is given again, and what came after the
   * greatest is read, missed or not. Those of the last `overlapMs` before the greatest are enough. Without any, only
   * what is missed is read.
   */
  stored?: Iterable<string>;
  /** How many ids are remembered to drop duplicates; by default 20,000. It must be more than come in half a minute. */
  remember?: number;
  /** Other waits than the defaults. */
  timing?: Partial<Timing>;
  /** In place of the runtime's own. */
  webSocket?: WebSocketConstructor;
  /** In place of the runtime's own. */
  fetch?: typeof fetch;
  /** In place of the machine's. */
  clock?: Clock;
  /** In place of `Math.random`. */
  random?: () => number;
}

/** How a send may be named. */
export interface SendOptions {
  /**
   * 1 to 64 bytes; by default 128 random bits. With the same one, the same message is accepted once in ten minutes. It
   * must be unique among all tabs, devices and reloads of the user, so never a counter: another message with the same one
   * is refused.
   */
  requestId?: string;
}

/** How far back a client's time begins: by the server's clock, which tells seconds, or by one's own for want of it. */
const DATE_SLACK_MS = 2_000;
const CLOCK_SLACK_MS = 60_000;

/** A connection to the chat, for one user. */
export class ChatClient {
  /** Groups and invitations. */
  readonly api: ChatApi;
  readonly #options: ClientOptions;
  readonly #timing: Timing;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #webSocket: WebSocketConstructor;
  readonly #socketUrl: string;
  readonly #tokens: Tokens;
  readonly #delivery: Delivery;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  /** Aborted when the client is closed. */
  readonly #life = new AbortController();
  #state: State = "idle";
  #connection: Connection | undefined;
  /** Aborted when the connection ends, with all that is done because of it. */
  #session = new AbortController();
  #wait: Timer | undefined;
  #attempt = 0;
  #openedAt = 0;
  #dialledAt: number | undefined;
  /** Whether an earlier connection may have taken messages that the application never saw. */
  #resumes: boolean;
  #closing: Promise<void> | undefined;

  /** @throws TypeError if the runtime has no WebSocket and none is given, or the url is none. */
  constructor(options: ClientOptions) {
    const webSocket = options.webSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    if (webSocket === undefined) throw new TypeError("this runtime has no WebSocket: pass the option webSocket");
    this.#options = options;
    this.#webSocket = webSocket;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    if (!/^https?:/.test(options.url)) throw new TypeError(`${options.url} is no address of http or https`);
    const url = new URL(options.url).href.replace(/\/+$/, "");
    this.#socketUrl = options.socketUrl ?? `${url.replace(/^http/, "ws")}/ws`;
    this.#tokens = new Tokens({
      ask: options.token,
      clock: this.#clock,
      answerMs: this.#timing.requestMs,
      signal: this.#life.signal,
    });
    this.#delivery = new Delivery({
      take: (message) => options.onMessage(message),
      failed: (thrown) => this.#tell(ChatError.because("handler", thrown)),
      backoff: this.#timing.backoff,
      clock: this.#clock,
      random: this.#random,
      signal: this.#life.signal,
    });
    this.#inbox = new Inbox({
      remember: options.remember ?? 20_000,
      timing: this.#timing,
      clock: this.#clock,
      deliver: (message) => this.#delivery.give(message),
    });
    this.#inbox.knows(options.stored ?? []);
    this.#resumes = this.#inbox.hasStart;
    this.#outbox = new Outbox({ timing: this.#timing, clock: this.#clock, random: this.#random });
    this.api = new ChatApi({
      url,
      tokens: this.#tokens,
      clock: this.#clock,
      requestMs: this.#timing.requestMs,
      fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      serverTime: (ms) => this.#begin(ms, DATE_SLACK_MS),
    });
  }

  get state(): State {
    return this.#state;
  }

  /** How many sends wait for their acknowledgement. */
  get unsent(): number {
    return this.#outbox.size;
  }

  /** Connect, and stay connected until `close`, or until the connection is `replaced`: then this connects again. */
  connect(): void {
    if (this.#state !== "idle" && this.#state !== "replaced") return;
    globalThis.addEventListener?.("online", this.#online);
    void this.#dial();
  }

  /**
   * Send a private message. Resolves when the server has stored it, whatever becomes of the connection meanwhile;
   * rejects with a `ChatError` if it refuses it. Messages to one user are accepted in the order of these calls.
   */
  sendToUser(receiverId: string, content: Content, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ receiverId }, content, options);
  }

  /** Send a message to a group, under the same conditions. */
  sendToGroup(groupId: string, content: Content, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ groupId }, content, options);
  }

  /**
   * Find out now whether the connection lives, or try again now: for when the application knows that the network is
   * back. A browser's `online` event does the same.
   */
  checkNow(): void {
    if (this.#state === "waiting") {
      this.#wait?.cancel();
      void this.#dial();
    } else {
      this.#connection?.probe();
    }
  }

  /**
   * Close for good: nothing more is read or sent, and sends without acknowledgement reject. Resolves when the messages
   * that had come were given, once each, and handled; so `onMessage` must not wait for it.
   */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    globalThis.removeEventListener?.("online", this.#online);
    this.#wait?.cancel();
    this.#session.abort();
    this.#inbox.flush();
    this.#setState("closed");
    this.#life.abort();
    this.#outbox.close(new ChatError("closed", "the client was closed"));
    await Promise.all([this.#connection?.close(), this.#delivery.settled()]);
  }

  readonly #online = () => this.checkNow();

  #send(to: Address, content: Content, { requestId }: SendOptions): Promise<Receipt> {
    if (this.#state === "closed") return Promise.reject(new ChatError("closed", "the client was closed"));
    return this.#outbox.send(to, content, requestId ?? randomId());
  }

  async #dial(): Promise<void> {
    this.#setState("connecting");
    try {
      const token = await this.#tokens.renew();
      if (this.#isClosed()) return;
      this.#dialledAt ??= this.#clock.now();
      this.#session = new AbortController();
      this.#connection = new Connection({
        url: this.#socketUrl,
        token,
        timing: this.#timing,
        clock: this.#clock,
        webSocket: this.#webSocket,
        opened: () => void this.#opened(),
        received: (frame) => this.#received(frame),
        ended: (why, isReplaced) => this.#ended(why, isReplaced),
      });
    } catch (error) {
      this.#report(error, "token");
      this.#dialLater();
    }
  }

  async #opened(): Promise<void> {
    if (this.#connection === undefined) return;
    const { signal } = this.#session;
    this.#openedAt = this.#clock.now();
    this.#outbox.connected(this.#connection);
    const resumes = this.#resumes;
    if (resumes) this.#begin(this.#clock.now(), CLOCK_SLACK_MS);
    this.#setState("catching_up");
    await this.#catchUp(resumes, signal);
    if (signal.aborted) return;
    this.#setState("online");
    await sleep(this.#clock, this.#timing.settleMs, signal);
    while (!signal.aborted) {
      await this.#untilDone(() => this.#look(signal), signal);
      await sleep(this.#clock, this.#timing.pullEveryMs, signal);
    }
  }

  /**
   * Is anything missed though a connection is open? If so, that may be dead, and have taken what is older: everything
   * is read again.
   */
  async #look(signal: AbortSignal): Promise<void> {
    let page = await this.api.pull({ signal });
    while (page.messages.length === 0) {
      if (page.next === undefined) return;
      page = await this.api.pull({ after: page.next, signal });
    }
    if (signal.aborted) return;
    this.#begin(this.#clock.now(), CLOCK_SLACK_MS);
    this.#inbox.interrupt();
    await this.#catchUp(true, signal);
  }

  /** Catch up, however often it takes, unless the connection ends. */
  async #catchUp(resumes: boolean, signal: AbortSignal): Promise<void> {
    await this.#untilDone(async () => {
      const since = resumes ? this.#inbox.resumePoint : undefined;
      await catchUp({ api: this.api, inbox: this.#inbox, since, signal });
    }, signal);
    if (!signal.aborted) this.#inbox.caughtUp();
  }

  /** Repeat what fails, until the connection ends. */
  async #untilDone(task: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      let waitMs = backoffMs(this.#timing.backoff, attempt, this.#random);
      try {
        return await task();
      } catch (error) {
        if (signal.aborted) return;
        this.#report(error, "network");
        if (error instanceof ChatError) waitMs = Math.max(waitMs, error.retryAfterMs ?? 0);
      }
      await sleep(this.#clock, waitMs, signal);
    }
  }

  /** When this client's time began, by the server's clock: it resumes no further back. The first word counts. */
  #begin(serverNow: number, slackMs: number): void {
    if (this.#inbox.hasStart || this.#dialledAt === undefined) return;
    const elapsed = this.#clock.now() - this.#dialledAt;
    this.#inbox.startAt(firstIdAt(serverNow - elapsed - slackMs));
  }

  #received(frame: ServerFrame): void {
    switch (frame.type) {
      case "unicast":
      case "multicast":
        this.#begin(frame.timestamp, DATE_SLACK_MS);
        return this.#inbox.push(frame);
      case "ACK":
        this.#begin(frame.timestamp, DATE_SLACK_MS);
        return this.#outbox.acknowledged(frame);
      case "ERROR":
        if (!this.#outbox.refused(frame)) this.#tell(new ChatError(frame.code, frame.message));
        return;
      case "NOTIFICATION":
        this.#guard(() => this.#options.onNotification?.(frame));
    }
  }

  #ended(why: string, isReplaced: boolean): void {
    // Also if it never opened here: it may have on the other side.
    this.#resumes = true;
    this.#connection = undefined;
    this.#session.abort();
    this.#outbox.disconnected();
    this.#inbox.interrupt();
    const wasStable = this.#openedAt > 0 && this.#clock.now() - this.#openedAt >= this.#timing.stableMs;
    if (wasStable) this.#attempt = 0;
    this.#openedAt = 0;
    // The ERROR frame was told. To connect again would only end another of the user's connections, which does the same.
    if (isReplaced) return this.#setState("replaced");
    this.#tell(new ChatError("network", why));
    this.#dialLater();
  }

  #dialLater(): void {
    if (this.#isClosed()) return;
    const ms = backoffMs(this.#timing.backoff, this.#attempt++, this.#random);
    this.#wait = this.#clock.after(ms, () => void this.#dial());
    this.#setState("waiting");
  }

  #report(error: unknown, code: ErrorCode): void {
    if (!this.#isClosed()) this.#tell(error instanceof ChatError ? error : ChatError.because(code, error));
  }

  #tell(error: ChatError): void {
    try {
      this.#options.onError?.(error);
    } catch (thrown) {
      // Nobody is left to tell: it is uncaught, but for this client's affairs.
      queueMicrotask(() => {
        throw thrown;
      });
    }
  }

  #setState(state: State): void {
    if (this.#state === state || this.#isClosed()) return;
    this.#state = state;
    this.#guard(() => this.#options.onState?.(state));
  }

  /** Call the application. What it throws is reported, and stops nothing. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (thrown) {
      this.#tell(ChatError.because("handler", thrown));
    }
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }
}

/** 128 bits of chance. `crypto.randomUUID` is for pages served over https alone. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

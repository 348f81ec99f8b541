/** The client: keeps a connection, catches up on it, and sends over it. */

import { ChatApi } from "./api.js";
import { catchUp } from "./catchup.js";
import { backoffMs, systemClock, type Clock, type Timer } from "./clock.js";
import { Connection, type WebSocketConstructor } from "./connection.js";
import { asChatError, ChatError } from "./errors.js";
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
 * - `closed`: for good.
 */
export type State = "idle" | "connecting" | "catching_up" | "online" | "waiting" | "closed";

export interface ClientOptions {
  /** The public address, as `https://chat.example.com`; below it lie `/api` and `/ws`. */
  url: string;
  /** The address of the WebSocket, where that is another. */
  socketUrl?: string;
  /** A token of the user's that is valid now. Asked for each connection, and when a REST call finds it refused. */
  token: () => Promise<string>;
  /**
   * A message, each once. One is given at a time: the next one waits for the promise, and missed messages are dropped
   * on the server only then.
   */
  onMessage: (message: Message) => void | Promise<void>;
  /** A notification from the host application. */
  onNotification?: (notification: Notification) => void;
  /** What went wrong and belongs to no promise of yours. The client goes on by itself. */
  onError?: (error: ChatError) => void;
  onState?: (state: State) => void;
  /** The greatest id that the application has stored, to resume behind it. Without it, only missed messages are old. */
  resumeFrom?: string;
  /** How many ids are remembered to drop duplicates; by default 20,000. */
  remember?: number;
  timing?: Partial<Timing>;
  /** In place of the runtime's own. */
  webSocket?: WebSocketConstructor;
  fetch?: typeof fetch;
  clock?: Clock;
  random?: () => number;
}

/** How a send may be named. */
export interface SendOptions {
  /** 1 to 64 bytes; by default a new UUID. With the same one, the same message is accepted once in ten minutes. */
  requestId?: string;
}

/** Beside the server's clock, which tells seconds, and beside one's own, which may be wrong. */
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
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  #state: State = "idle";
  #connection: Connection | undefined;
  /** Aborted when the connection ends, with all that is done because of it. */
  #session = new AbortController();
  #wait: Timer | undefined;
  #attempt = 0;
  #openedAt = 0;
  #dialledAt: number | undefined;
  /** Whether a connection may have taken messages that the application never saw. */
  #resumes: boolean;

  constructor(options: ClientOptions) {
    const webSocket = options.webSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    if (webSocket === undefined) throw new TypeError("this runtime has no WebSocket: pass the option webSocket");
    this.#options = options;
    this.#webSocket = webSocket;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    const url = options.url.replace(/\/+$/, "");
    this.#socketUrl = options.socketUrl ?? `${url.replace(/^http/, "ws")}/ws`;
    this.#tokens = new Tokens(options.token);
    this.#inbox = new Inbox({
      remember: options.remember ?? 20_000,
      overlapMs: this.#timing.overlapMs,
      deliver: (message) => this.#deliver(message),
    });
    this.#resumes = options.resumeFrom !== undefined;
    if (options.resumeFrom !== undefined) this.#inbox.startAt(options.resumeFrom);
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

  /** Connect, and stay connected until `close`. */
  connect(): void {
    if (this.#state !== "idle") return;
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

  /** Close for good. Sends without acknowledgement reject. Resolves when the last message given has been handled. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    this.#setState("closed");
    globalThis.removeEventListener?.("online", this.#online);
    this.#wait?.cancel();
    this.#session.abort();
    this.#outbox.close(new ChatError("closed", "the client was closed"));
    await Promise.all([this.#connection?.close(), this.#inbox.settled()]);
  }

  readonly #online = () => this.checkNow();

  #send(to: Address, content: Content, { requestId }: SendOptions): Promise<Receipt> {
    if (this.#state === "closed") return Promise.reject(new ChatError("closed", "the client was closed"));
    return this.#outbox.send(to, content, requestId ?? crypto.randomUUID());
  }

  async #dial(): Promise<void> {
    this.#setState("connecting");
    let token: string;
    try {
      token = await this.#tokens.renew();
    } catch (error) {
      this.#report(error, "token");
      this.#dialLater();
      return;
    }
    if (this.#isClosed()) return;
    this.#dialledAt ??= this.#clock.now();
    this.#session = new AbortController();
    try {
      this.#connection = new Connection({
        url: this.#socketUrl,
        token,
        timing: this.#timing,
        clock: this.#clock,
        webSocket: this.#webSocket,
        opened: () => void this.#opened(),
        received: (frame) => this.#received(frame),
        ended: (why) => this.#ended(why),
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
    this.#setState("catching_up");
    this.#outbox.connected(this.#connection);
    const resumes = this.#resumes;
    this.#resumes = true;
    const hold = this.#clock.after(this.#timing.holdMs, () => this.#inbox.release(false));
    signal.addEventListener("abort", () => hold.cancel());
    if (resumes) this.#begin(this.#clock.now(), CLOCK_SLACK_MS);
    await this.#pull(resumes, signal);
    if (signal.aborted) return;
    hold.cancel();
    this.#inbox.release(true);
    this.#setState("online");
    await sleep(this.#clock, this.#timing.settleMs, signal);
    while (!signal.aborted) {
      await this.#pull(false, signal);
      await sleep(this.#clock, this.#timing.pullEveryMs, signal);
    }
  }

  /** Catch up, however often it takes, unless the connection ends. */
  async #pull(resumes: boolean, signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const since = resumes ? this.#inbox.resumePoint : undefined;
        return await catchUp({ api: this.api, inbox: this.#inbox, since, signal });
      } catch (error) {
        if (signal.aborted) return;
        this.#report(error, "network");
      }
      await sleep(this.#clock, backoffMs(this.#timing.backoff, attempt, this.#random), signal);
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
        return this.#inbox.push(frame);
      case "ACK":
        return this.#outbox.acknowledged(frame);
      case "ERROR":
        if (!this.#outbox.refused(frame)) this.#report(new ChatError(frame.code, frame.message), "bad_request");
        return;
      case "NOTIFICATION":
        try {
          this.#options.onNotification?.(frame);
        } catch (error) {
          this.#report(error, "handler");
        }
    }
  }

  #ended(why: string): void {
    this.#connection = undefined;
    this.#session.abort();
    this.#outbox.disconnected();
    this.#inbox.interrupt();
    const wasStable = this.#openedAt > 0 && this.#clock.now() - this.#openedAt >= this.#timing.stableMs;
    if (wasStable) this.#attempt = 0;
    this.#openedAt = 0;
    this.#report(new ChatError("network", why), "network");
    this.#dialLater();
  }

  #dialLater(): void {
    if (this.#isClosed()) return;
    this.#setState("waiting");
    const ms = backoffMs(this.#timing.backoff, this.#attempt++, this.#random);
    this.#wait = this.#clock.after(ms, () => void this.#dial());
  }

  async #deliver(message: Message): Promise<void> {
    // What nobody takes any more stays missed, or is read again by a later client.
    if (this.#isClosed()) return;
    try {
      await this.#options.onMessage(message);
    } catch (error) {
      this.#report(error, "handler");
    }
  }

  #report(error: unknown, code: string): void {
    if (!this.#isClosed()) this.#options.onError?.(asChatError(error, code));
  }

  #setState(state: State): void {
    if (this.#state === state || this.#isClosed()) return;
    this.#state = state;
    this.#options.onState?.(state);
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }
}

/** Resolves after so long, or when that is aborted. */
function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = clock.after(ms, done);
    signal.addEventListener("abort", done);
    function done(): void {
      timer.cancel();
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** The client: keeps a connection open, catches up, and sends. */

import { ChatApi } from "./api.js";
import { catchUp, Dropper } from "./catchup.js";
import { backoffMs, sleep, systemClock, type Clock, type Timer } from "./clock.js";
import { Connection, type WebSocketConstructor } from "./connection.js";
import { Delivery } from "./delivery.js";
import { Echoes } from "./echoes.js";
import { ChatError, type ErrorCode } from "./errors.js";
import { Inbox } from "./inbox.js";
import { Outbox, type Receipt } from "./outbox.js";
import { post } from "./post.js";
import type {
  Content,
  GroupFrame,
  InvitationFrame,
  LogEntry,
  Message,
  Notification,
  ReadFrame,
  RecalledFrame,
  ServerFrame,
  Signal,
  TypingFrame,
  Version,
} from "./protocol.js";
import { encode, type Address } from "./submission.js";
import { DEFAULT_TIMING, type Timing } from "./timing.js";
import { Tokens } from "./tokens.js";
import { Typist } from "./typing.js";
import { firstIdAt } from "./ulid.js";

/**
 * The state of a client:
 * - `idle`: `connect` was not called.
 * - `connecting`: the client requests a token, or performs a handshake.
 * - `catching_up`: connected, and missed messages are being pulled. Sends already work.
 * - `online`: connected, and nothing is missing.
 * - `waiting`: waiting for the next attempt to connect.
 * - `replaced`: disconnected. The user opened more connections than allowed, and this one was the oldest. `connect`
 *   connects again, and closes the connection that is then the oldest. Sends wait.
 * - `banned`: disconnected. The operator has banned the user. `connect` tries again. Sends reject.
 * - `closed`: closed for good.
 */
export type State = "idle" | "connecting" | "catching_up" | "online" | "waiting" | "replaced" | "banned" | "closed";

export interface ClientOptions {
  /** The public address, such as `https://chat.example.com`. It is the base of `/api` and `/ws`. */
  url: string;
  /** The address of the WebSocket, if it is not below `url`. */
  socketUrl?: string;
  /**
   * Returns a currently valid token of the user. Called for each connection, and when a REST call finds the token
   * refused.
   */
  token: () => string | Promise<string>;
  /**
   * The version of the protocol, 2 by default. In version 1, the client gets no messages of the user's other devices,
   * no recalls and no signals.
   */
  version?: Version;
  /**
   * Called for each message once, one at a time. The next message waits for the promise, and missed messages are
   * dropped on the server only then. If this throws or rejects, the message is given again later, and the others wait.
   * In version 2, the messages that the user sends from other devices while this client is connected are among them.
   */
  onMessage: (message: Message) => void | Promise<void>;
  /**
   * Called when a message was recalled, under the same conditions and in turn with `onMessage`. A message whose recall
   * has come is not given any more, so the application may not have it.
   */
  onRecalled?: (recalled: RecalledFrame) => void | Promise<void>;
  /** Called when the user has read a conversation, or a friend has read the user's messages. */
  onRead?: (read: ReadFrame) => void;
  /** Called when a friend is typing. */
  onTyping?: (typing: TypingFrame) => void;
  /** Called when the user was invited to a group. */
  onInvitation?: (invitation: InvitationFrame) => void;
  /** Called when a group of the user has changed. */
  onGroup?: (change: GroupFrame) => void;
  /** A notification from the host application. */
  onNotification?: (notification: Notification) => void;
  /** Called for errors that no promise reports. The client continues by itself. */
  onError?: (error: ChatError) => void;
  /** Called when the state changes. */
  onState?: (state: State) => void;
  /**
   * Ids of messages that the application has stored from an earlier client. None is given again, and everything after
   * the greatest is read, missed or not. The ids of the last `overlapMs` before the greatest are enough. Without ids,
   * only missed messages are read.
   */
  stored?: Iterable<string>;
  /**
   * The number of ids that are remembered to drop duplicates, 20,000 by default. More ids than this must not come in
   * half a minute.
   */
  remember?: number;
  /** Replaces some default waits. */
  timing?: Partial<Timing>;
  /** Replaces the WebSocket of the runtime. */
  webSocket?: WebSocketConstructor;
  /** Replaces the `fetch` of the runtime. */
  fetch?: typeof fetch;
  /** Replaces the clock of the machine. */
  clock?: Clock;
  /** Replaces `Math.random`. */
  random?: () => number;
}

/** The options of a send. */
export interface SendOptions {
  /**
   * 1 to 64 bytes; 128 random bits by default. With the same id, the same message is accepted once in ten minutes. It
   * must be unique among all tabs, devices and reloads of the user, so never use a counter. Another message with the
   * same id is refused.
   */
  requestId?: string;
}

/** How far back a client's time starts: by the server's clock, which counts seconds, or by the client's own clock. */
const DATE_SLACK_MS = 2_000;
const CLOCK_SLACK_MS = 60_000;

/** A connection to the chat, for one user. */
export class ChatClient {
  /** The calls of the REST API. */
  readonly api: ChatApi;
  readonly #options: ClientOptions;
  readonly #timing: Timing;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #version: Version;
  readonly #webSocket: WebSocketConstructor;
  readonly #socketUrl: string;
  readonly #tokens: Tokens;
  readonly #delivery: Delivery<LogEntry>;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #echoes = new Echoes();
  readonly #typist: Typist;
  /** Aborted when the client is closed. */
  readonly #life = new AbortController();
  #state: State = "idle";
  #connection: Connection | undefined;
  /** Aborted when the connection ends, with everything that belongs to it. */
  #session = new AbortController();
  #wait: Timer | undefined;
  #attempt = 0;
  #openedAt = 0;
  #dialledAt: number | undefined;
  /** Whether an earlier connection may have received messages that the application never got. */
  #resumes: boolean;
  /** The error by which the server has refused a banned user. `connect` forgets it. */
  #ban: ChatError | undefined;
  /** Whether a call asks whether the user is banned. */
  #asksForBan = false;
  #closing: Promise<void> | undefined;

  /** @throws TypeError if the runtime has no WebSocket and none is given, or if the url is invalid. */
  constructor(options: ClientOptions) {
    const webSocket = options.webSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    if (webSocket === undefined) throw new TypeError("this runtime has no WebSocket: pass the option webSocket");
    this.#options = options;
    this.#webSocket = webSocket;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#version = options.version ?? 2;
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
      take: (entry) => this.#take(entry),
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
      deliver: (entry) => this.#delivery.give(entry),
    });
    this.#inbox.knows(options.stored ?? []);
    this.#resumes = this.#inbox.hasStart;
    this.#outbox = new Outbox({
      timing: this.#timing,
      clock: this.#clock,
      random: this.#random,
      limited: (error) => this.#tell(error),
    });
    this.#typist = new Typist({ clock: this.#clock, everyMs: this.#timing.typingEveryMs });
    this.api = new ChatApi({
      url,
      tokens: this.#tokens,
      clock: this.#clock,
      requestMs: this.#timing.requestMs,
      fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      serverTime: (ms) => this.#begin(ms, DATE_SLACK_MS),
      refused: (error) => this.#refused(error),
    });
  }

  get state(): State {
    return this.#state;
  }

  /** The number of sends without acknowledgement. */
  get unsent(): number {
    return this.#outbox.size;
  }

  /**
   * Until when sends wait, in milliseconds since the Unix epoch by this machine's clock, because the user has sent too
   * much. Undefined if they do not.
   */
  get limitedUntil(): number | undefined {
    return this.#outbox.limitedUntil;
  }

  /** When the ban ends, in milliseconds since the Unix epoch. Undefined unless the client is `banned`. */
  get bannedUntil(): number | undefined {
    return this.#ban?.until;
  }

  /**
   * Connects, and stays connected until `close`, or until the client is `replaced` or `banned`. Then this connects
   * again.
   */
  connect(): void {
    if (!["idle", "replaced", "banned"].includes(this.#state)) return;
    this.#ban = undefined;
    globalThis.addEventListener?.("online", this.#online);
    void this.#dial();
  }

  /**
   * Sends a private message. Resolves when the server has stored it, even if the connection changes meanwhile. Rejects
   * with a `ChatError` if the server refuses it. Messages to one user are accepted in the order of these calls.
   */
  sendToUser(receiverId: string, content: Content, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ receiverId }, content, options);
  }

  /** Sends a message to a group, under the same conditions. */
  sendToGroup(groupId: string, content: Content, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ groupId }, content, options);
  }

  /**
   * Sends a message without a connection, so `connect` need not be called. It is repeated like other sends, but does
   * not wait for them, nor for an earlier one of these.
   */
  sendByRest(to: Address, content: Content, { requestId = randomId() }: SendOptions = {}): Promise<Receipt> {
    const { api } = this;
    const by = { api, timing: this.#timing, clock: this.#clock, random: this.#random, signal: this.#life.signal };
    return this.#follow(to, content, async () => post(by, encode(to, content, requestId)));
  }

  /**
   * Tells a friend that the user is typing. Call it for each key: it sends once in 3 seconds (`typingEveryMs`). Does
   * nothing without a connection, while sends wait for a limit, or in version 1.
   */
  typing(receiverId: string): void {
    const connection = this.#connection;
    if (this.#version === 1 || !connection?.isOpen || this.limitedUntil !== undefined) return;
    this.#typist.tell(receiverId, (text) => connection.send(text));
  }

  /**
   * Checks now whether the connection is alive, or tries to connect now. Call it when the application knows that the
   * network is back. A browser's `online` event does the same.
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
   * Closes for good. Nothing more is read or sent, and sends without acknowledgement reject. Messages that have arrived
   * are given, once each. Resolves when `onMessage` has handled them, so `onMessage` must not wait for it.
   */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    globalThis.removeEventListener?.("online", this.#online);
    this.#wait?.cancel();
    this.#session.abort();
    for (const message of this.#echoes.release()) this.#inbox.push(message);
    this.#inbox.flush();
    this.#setState("closed");
    this.#life.abort();
    this.#outbox.close(new ChatError("closed", "the client was closed"));
    await Promise.all([this.#connection?.close(), this.#delivery.settled()]);
  }

  readonly #online = () => this.checkNow();

  #send(to: Address, content: Content, { requestId = randomId() }: SendOptions): Promise<Receipt> {
    return this.#follow(to, content, async () => {
      if (this.#ban) throw this.#ban;
      return this.#outbox.send(to, content, requestId);
    });
  }

  /** Sends, and takes care that the application is not given its own message. */
  async #follow(to: Address, content: Content, send: () => Promise<Receipt>): Promise<Receipt> {
    if (this.#isClosed()) throw new ChatError("closed", "the client was closed");
    if (this.#version === 1) return send();
    const release = this.#echoes.expect(to, content);
    try {
      const receipt = await send();
      this.#inbox.ignore(receipt.id);
      return receipt;
    } finally {
      for (const message of release()) this.#inbox.push(message);
    }
  }

  /** Gives an entry to the application. A message may have been recalled while it waited. */
  #take(entry: LogEntry): void | Promise<void> {
    if (entry.type === "RECALLED") return this.#options.onRecalled?.(entry);
    if (!this.#inbox.isRecalled(entry.id)) return this.#options.onMessage(entry);
  }

  async #dial(): Promise<void> {
    const { signal } = (this.#session = new AbortController());
    this.#setState("connecting");
    try {
      const token = await this.#tokens.renew();
      if (signal.aborted) return;
      this.#dialledAt ??= this.#clock.now();
      this.#connection = new Connection({
        url: this.#socketUrl,
        token,
        version: this.#version,
        timing: this.#timing,
        clock: this.#clock,
        webSocket: this.#webSocket,
        opened: () => void this.#opened(),
        received: (frame) => this.#received(frame),
        ended: (why, last) => this.#ended(why, last),
      });
    } catch (error) {
      if (signal.aborted) return;
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
   * Checks whether something is missed although a connection is open. If so, the connection may be dead and may have
   * received older messages, so everything is read again.
   */
  async #look(signal: AbortSignal): Promise<void> {
    const dropper = new Dropper(this.api, signal);
    let page = await this.api.pull({ signal });
    while (page.messages.length === 0) {
      await dropper.add(page);
      if (page.next === undefined) return;
      page = await this.api.pull({ after: page.next, signal });
    }
    if (signal.aborted) return;
    this.#begin(this.#clock.now(), CLOCK_SLACK_MS);
    this.#inbox.interrupt();
    await this.#catchUp(true, signal);
  }

  /** Catches up, and retries until it succeeds or the connection ends. */
  async #catchUp(resumes: boolean, signal: AbortSignal): Promise<void> {
    await this.#untilDone(async () => {
      const since = resumes ? this.#inbox.resumePoint : undefined;
      await catchUp({ api: this.api, inbox: this.#inbox, since, recalls: this.#version === 2, signal });
    }, signal);
    if (!signal.aborted) this.#inbox.caughtUp();
  }

  /** Repeats a failing task until the connection ends. */
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

  /**
   * Sets the start of this client's time by the server's clock. Resumptions read no older messages. Only the first call
   * counts.
   */
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
        if (!this.#echoes.holds(frame)) this.#inbox.push(frame);
        return;
      case "RECALLED":
        return this.#inbox.push(frame);
      case "ACK":
        this.#begin(frame.timestamp, DATE_SLACK_MS);
        return this.#outbox.acknowledged(frame);
      case "ERROR":
        if (!this.#outbox.refused(frame)) this.#tell(ChatError.of(frame));
        return;
      default:
        this.#guard(() => this.#signalled(frame));
    }
  }

  #signalled(frame: Notification | Signal): void {
    switch (frame.type) {
      case "NOTIFICATION":
        return this.#options.onNotification?.(frame);
      case "READ":
        return this.#options.onRead?.(frame);
      case "TYPING":
        return this.#options.onTyping?.(frame);
      case "INVITATION":
        return this.#options.onInvitation?.(frame);
      case "GROUP":
        return this.#options.onGroup?.(frame);
    }
  }

  #ended(why: string, last: ChatError | undefined): void {
    const wasOpen = this.#openedAt > 0;
    // Even if it never opened here, it may have opened at the server.
    this.#resumes = true;
    this.#connection = undefined;
    this.#session.abort();
    this.#outbox.disconnected();
    this.#inbox.interrupt();
    const wasStable = wasOpen && this.#clock.now() - this.#openedAt >= this.#timing.stableMs;
    if (wasStable) this.#attempt = 0;
    this.#openedAt = 0;
    if (last?.code === "banned") return this.#stop(last);
    this.#tell(last ?? new ChatError("network", why));
    // Connecting again would only replace another connection of the user.
    if (last !== undefined) return this.#setState("replaced");
    this.#dialLater();
    if (!wasOpen) void this.#askForBan();
  }

  /** Takes the error of any REST call. */
  #refused(error: ChatError): void {
    if (this.#isClosed()) return;
    if (error.code === "rate_limited") this.#outbox.limit(error);
    if (error.code !== "banned") return;
    if (this.#connection) this.#connection.end(error.message, error);
    else this.#stop(error);
  }

  /** The user is banned. Rejects all sends, and connects no more by itself. */
  #stop(ban: ChatError): void {
    if (this.#ban || this.#isClosed()) return;
    this.#ban = ban;
    this.#wait?.cancel();
    this.#session.abort();
    this.#outbox.close(ban);
    this.#tell(ban);
    this.#setState("banned");
  }

  /**
   * WebSockets do not tell why a handshake failed. If the user is banned, a REST call is refused too, and says so. This
   * pull returns no message.
   */
  async #askForBan(): Promise<void> {
    if (this.#asksForBan) return;
    this.#asksForBan = true;
    const pull = this.api.pull({ after: firstIdAt(Infinity), signal: this.#life.signal });
    // A ban was already handled. Other errors come with the next attempt to connect too.
    await pull.catch(() => {});
    this.#asksForBan = false;
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
      // There is no handler left for this error, so it becomes an uncaught error.
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

  /** Calls the application. An error that it throws is reported and stops nothing. */
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

/** 128 random bits. `crypto.randomUUID` exists only on pages served over https. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The client: keeps a connection open, catches up, and sends. */

import { ChatApi } from "./api.js";
import { catchUp, Dropper } from "./catchup.js";
import { backoffMs, sleep, systemClock, type Clock, type Timer } from "./clock.js";
import { Connection, type WebSocketConstructor } from "./connection.js";
import { Delivery } from "./delivery.js";
import { Echoes } from "./echoes.js";
import { ChatError, type ErrorCode } from "./errors.js";
import type { ChatStore, Unsent } from "./kept.js";
import { Inbox } from "./inbox.js";
import { Outbox, type Receipt } from "./outbox.js";
import { post } from "./post.js";
import { randomId } from "./random.js";
import type {
  AnyContent,
  Content,
  GroupFrame,
  InvitationFrame,
  LogEntry,
  Message,
  Notification,
  ReadFrame,
  RecalledFrame,
  Sendable,
  ServerFrame,
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
 * - `closed`: closed. `connect` connects again.
 */
export type State = "idle" | "connecting" | "catching_up" | "online" | "waiting" | "replaced" | "banned" | "closed";

/** A message that this client sends, with its result so far. */
export interface Outgoing<C extends AnyContent = Content> {
  requestId: string;
  to: Address;
  content: C;
  /** When the application sent it, in milliseconds since the Unix epoch, by this machine's clock. */
  at: number;
  state: "sending" | "sent" | "failed";
  /** With `sent`: what the server says. */
  receipt?: Receipt;
  /**
   * With `failed`: why. After `closed`, a message in the `store` is sent by the next connection. After
   * `unacknowledged`, it stays in the store and fails again after each reload, until `store.forget`. After
   * `sent_elsewhere`, another tab has sent it.
   */
  error?: ChatError;
}

/** What a client tells, by the names for `on`. The callback of `message` is the option `onMessage`, and so on. */
export interface ChatEvents<C extends AnyContent = Content> {
  message: Message<C>;
  recalled: RecalledFrame;
  read: ReadFrame;
  typing: TypingFrame;
  invitation: InvitationFrame;
  group: GroupFrame;
  notification: Notification;
  outgoing: Outgoing<C>;
  error: ChatError;
  state: State;
}

/** A function that is told something. Only those of `message` and `recalled` are waited for. */
export type Listener<T> = (value: T) => void | Promise<void>;

export interface ClientOptions<C extends AnyContent = Content> {
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
   * Without this and without a listener, messages count as taken.
   */
  onMessage?: (message: Message<C>) => void | Promise<void>;
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
  /** Called when a send begins and when it has a result, also for sends of the `store`. */
  onOutgoing?: (outgoing: Outgoing<C>) => void;
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
   * Keeps unsent messages, so that they survive a reload. One store is for one user. `serverless-chat-client/store` has
   * one for browsers.
   */
  store?: ChatStore;
  /**
   * Tells what the client does, without tokens and contents: `true` for the console, or a function that takes each line.
   */
  debug?: boolean | ((line: string) => void);
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
  /** Replaces `Math.random`, which chooses the moments of repeats. */
  random?: () => number;
  /**
   * Returns a `requestId`: 128 random bits as text, by `crypto` by default. Pass one of your own if the runtime has no
   * `crypto`, as React Native.
   */
  randomId?: () => string;
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

/** Messages and recalls are given to these, one entry at a time. */
interface Given {
  entry: LogEntry;
  /** Who has taken it. If another one throws, these do not get it again. */
  takers: Set<unknown>;
}

/** A connection to the chat, for one user. `C` is the type of the contents. */
export class ChatClient<C extends AnyContent = Content> {
  /** The calls of the REST API. */
  readonly api: ChatApi<C>;
  /** The option `store`. */
  readonly store: ChatStore | undefined;
  readonly #options: ClientOptions<C>;
  readonly #listeners = new Map<string, Set<Listener<never>>>();
  readonly #url: string;
  readonly #debug: ((line: string) => void) | undefined;
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
  /** Aborted when the client is closed. `connect` then begins another one. */
  #life = new AbortController();
  #given: Given | undefined;
  /** Whether the store has taken the message of a `requestId`. Restored ones are not in here. */
  readonly #keeps = new Map<string, Promise<boolean>>();
  /** Resolves when the messages of the store wait to be sent. */
  #restored: Promise<void> | undefined;
  #state: State = "idle";
  #connection: Connection | undefined;
  /** Aborted when the connection ends, with everything that belongs to it. */
  #session = new AbortController();
  #wait: Timer | undefined;
  #attempt = 0;
  #openedAt = 0;
  #hasOpened = false;
  #dialledAt: number | undefined;
  /** Whether an earlier connection may have received messages that the application never got. */
  #resumes: boolean;
  /** The error by which the server has refused a banned user. `connect` forgets it. */
  #ban: ChatError | undefined;
  /** Whether a call asks why handshakes fail. */
  #asksWhy = false;
  /** The last answer to that. It is told once. */
  #reason = "";
  #closing: Promise<void> | undefined;

  /** @throws TypeError if the runtime has no WebSocket and none is given, or if `url` or `token` is invalid. */
  constructor(options: ClientOptions<C>) {
    const webSocket = options.webSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
    if (webSocket === undefined) {
      throw new TypeError("this runtime has no WebSocket: pass one as the option webSocket, such as that of package ws");
    }
    if (typeof options.token !== "function") throw new TypeError("the option token must be a function");
    this.#options = options;
    this.store = options.store;
    const { debug } = options;
    this.#debug = debug === true ? (line) => console.debug(`chat: ${line}`) : debug || undefined;
    this.#webSocket = webSocket;
    this.#timing = { ...DEFAULT_TIMING, ...options.timing };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#version = options.version ?? 2;
    if (!/^https?:/.test(options.url)) throw new TypeError(`${options.url} is no address of http or https`);
    const url = (this.#url = new URL(options.url).href.replace(/\/+$/, ""));
    this.#socketUrl = options.socketUrl ?? `${url.replace(/^http/, "ws")}/ws`;
    const signal = () => this.#life.signal;
    this.#tokens = new Tokens({
      ask: options.token,
      clock: this.#clock,
      answerMs: this.#timing.requestMs,
      get signal() {
        return signal();
      },
    });
    this.#delivery = new Delivery({
      take: (entry) => this.#take(entry),
      dropped: (entry) => this.#inbox.forget(entry),
      failed: (thrown) => this.#tell(ChatError.because("handler", thrown)),
      backoff: this.#timing.backoff,
      clock: this.#clock,
      random: this.#random,
      get signal() {
        return signal();
      },
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
      begin: this.store && ((id, now) => this.#tried(id, now)),
    });
    this.#typist = new Typist({ clock: this.#clock, everyMs: this.#timing.typingEveryMs });
    this.api = new ChatApi<C>({
      url,
      tokens: this.#tokens,
      clock: this.#clock,
      requestMs: this.#timing.requestMs,
      fetch: options.fetch ?? ((input, init) => fetch(input, init)),
      serverTime: (ms) => this.#begin(ms, DATE_SLACK_MS),
      refused: (error) => this.#refused(error),
      debug: this.#debug,
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
   * Adds a listener, beside the callback of the options and other listeners. Returns a function that removes it. A
   * message is given to one after the other, and again only to those that threw or rejected. Add the listeners of
   * `message` and `recalled` before you call `connect`: a message that came before is not given to later ones.
   */
  on<E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => this.off(event, listener);
  }

  /** Removes a listener. */
  off<E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): void {
    this.#listeners.get(event)?.delete(listener);
  }

  /**
   * Connects, and stays connected until `close`, or until the client is `replaced` or `banned`. Then this connects
   * again.
   */
  connect(): void {
    if (!["idle", "replaced", "banned", "closed"].includes(this.#state)) return;
    if (this.#isClosed()) {
      this.#life = new AbortController();
      this.#closing = undefined;
      this.#state = "idle";
    }
    this.#ban = undefined;
    this.#reason = "";
    globalThis.addEventListener?.("online", this.#online);
    globalThis.document?.addEventListener?.("visibilitychange", this.#shown);
    if (this.store) void this.#restore();
    void this.#dial();
  }

  /**
   * Sends a private message. Resolves when the server has stored it, even if the connection changes meanwhile. Rejects
   * with a `ChatError` if the server refuses it. Messages to one user are accepted in the order of these calls.
   */
  sendToUser(receiverId: string, content: Sendable<C>, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ receiverId }, content, options);
  }

  /** Sends a message to a group, under the same conditions. */
  sendToGroup(groupId: string, content: Sendable<C>, options: SendOptions = {}): Promise<Receipt> {
    return this.#send({ groupId }, content, options);
  }

  /**
   * Sends a message without a connection, so `connect` need not be called. It is repeated like other sends, but does
   * not wait for them, nor for an earlier one of these.
   */
  sendByRest(to: Address, content: Sendable<C>, { requestId = this.#newId() }: SendOptions = {}): Promise<Receipt> {
    const { api } = this;
    const by = { api, timing: this.#timing, clock: this.#clock, random: this.#random, signal: this.#life.signal };
    const send = async () => {
      const receipt = await post(by, encode(to, content as Content, requestId));
      // An earlier send may have left it in the store.
      if (!this.#outbox.has(requestId)) this.#forget(requestId);
      return receipt;
    };
    return this.#follow({ requestId, to, content: content as Content, at: this.#clock.now() }, send);
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
   * Closes. Nothing more is read or sent until `connect`, and sends without acknowledgement reject. Those in a `store`
   * are sent by the next connection. Messages that have arrived are given, once each. Resolves when `onMessage` has handled them, so `onMessage` must not wait for it.
   */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.document?.removeEventListener?.("visibilitychange", this.#shown);
    this.#wait?.cancel();
    this.#session.abort();
    const connection = this.#connection;
    this.#connection = undefined;
    // What it had received may be lost. The next connection reads it again.
    this.#resumes ||= this.#dialledAt !== undefined;
    this.#attempt = 0;
    this.#openedAt = 0;
    this.#restored = undefined;
    for (const message of this.#echoes.release()) this.#inbox.push(message);
    this.#inbox.flush();
    this.#setState("closed");
    this.#life.abort();
    this.#outbox.close(new ChatError("closed", "the client was closed"));
    this.#inbox.interrupt();
    await Promise.all([connection?.close(), this.#delivery.settled()]);
  }

  readonly #online = () => this.checkNow();

  /** The page is shown again. A connection may have died while it was hidden. */
  readonly #shown = () => {
    if (globalThis.document.visibilityState !== "visible") return;
    if (this.#state === "waiting") this.checkNow();
    else this.#connection?.probeAfter(this.#timing.hiddenMs);
  };

  /** The calls of the REST API, for code that does not look at contents. */
  get #anyApi(): ChatApi {
    return this.api as unknown as ChatApi;
  }

  #newId(): string {
    return (this.#options.randomId ?? randomId)();
  }

  #send(to: Address, content: Sendable<C>, { requestId = this.#newId() }: SendOptions): Promise<Receipt> {
    const unsent = { requestId, to, content: content as Content, at: this.#clock.now() };
    return this.#follow(unsent, () => this.#submit(unsent));
  }

  /** Sends by the outbox. With a store, keeps the message until it has a result. */
  async #submit(unsent: Unsent): Promise<Receipt> {
    const { to, content, requestId } = unsent;
    const { signal } = this.#life;
    const { store } = this;
    if (store) {
      // Messages of an earlier time were sent before.
      await this.#restore();
      if (signal.aborted) throw closed();
      // What is refused must not replace, or later forget, a message that waits under the same id.
      this.#outbox.check(to, content, requestId);
      this.#keeps.set(requestId, this.#kept(store.keep(unsent).then(() => true), false));
    }
    return this.#queue(unsent);
  }

  async #queue({ to, content, requestId }: Unsent): Promise<Receipt> {
    try {
      if (this.#ban) throw this.#ban;
      const receipt = await this.#outbox.send(to, content, requestId);
      this.#forget(requestId);
      return receipt;
    } catch (thrown) {
      // The application decides about one that may have been accepted.
      if (!/^(closed|unacknowledged)$/.test((thrown as ChatError).code)) this.#forget(requestId);
      throw thrown;
    } finally {
      this.#keeps.delete(requestId);
    }
  }

  /**
   * Returns when a message was first tried. Undefined if the store does not have it any more, because another tab has
   * sent it. One that the store never had is tried now.
   */
  async #tried(requestId: string, now: number): Promise<number | undefined> {
    const instead = (await this.#keeps.get(requestId)) === false ? now : undefined;
    return (await this.#kept(this.store!.tried(requestId, now), now)) ?? instead;
  }

  /** Sends what the store has kept, once in a life. */
  #restore(): Promise<void> {
    this.#restored ??= this.#readUnsent();
    return this.#restored;
  }

  async #readUnsent(): Promise<void> {
    const { signal } = this.#life;
    const all = await this.#kept(this.store!.unsent(), []);
    // No promise of the application reports these.
    for (const unsent of signal.aborted ? [] : all) {
      if (!this.#outbox.has(unsent.requestId)) void this.#kept(this.#follow(unsent, () => this.#queue(unsent)), unsent);
    }
  }

  /** Waits for the store. A message that cannot be kept is sent all the same. */
  #kept<T, Else>(work: Promise<T>, instead: Else): Promise<T | Else> {
    return work.catch((thrown: unknown) => {
      this.#report(thrown, "store");
      return instead;
    });
  }

  /** Sends, tells the progress, and takes care that the application is not given its own message. */
  async #follow(unsent: Unsent, send: () => Promise<Receipt>): Promise<Receipt> {
    if (this.#isClosed()) throw closed();
    const tell = (more: Pick<Outgoing, "state" | "receipt" | "error">) => {
      this.#emit("outgoing", { ...unsent, ...more } as Outgoing<C>);
    };
    tell({ state: "sending" });
    const release = this.#version === 1 ? () => [] : this.#echoes.expect(unsent.to, unsent.content);
    try {
      const receipt = await send();
      if (this.#version !== 1) this.#inbox.ignore(receipt.id);
      tell({ state: "sent", receipt });
      return receipt;
    } catch (thrown) {
      const error = thrown instanceof ChatError ? thrown : ChatError.because("bad_request", thrown);
      tell({ state: "failed", error });
      throw thrown;
    } finally {
      for (const message of release()) this.#inbox.push(message);
    }
  }

  #forget(requestId: string): void {
    if (this.store) void this.#kept(this.store.forget(requestId), undefined);
  }

  /** Gives an entry to the application. A message may have been recalled while it waited. */
  async #take(entry: LogEntry): Promise<void> {
    if (this.#given?.entry !== entry) this.#given = { entry, takers: new Set() };
    const { takers } = this.#given;
    const isRecall = entry.type === "RECALLED";
    let failure: { thrown: unknown } | undefined;
    for (const take of this.#handlers(isRecall ? "recalled" : "message")) {
      if (takers.has(take)) continue;
      if (!isRecall && this.#inbox.isRecalled(entry.id)) return;
      try {
        await take(entry as never);
        takers.add(take);
      } catch (thrown) {
        failure ??= { thrown };
      }
    }
    if (failure) throw failure.thrown;
  }

  /** The callback and the listeners of an event. */
  #handlers<E extends keyof ChatEvents<C>>(event: E): Listener<ChatEvents<C>[E]>[] {
    const name = `on${event.charAt(0).toUpperCase()}${event.slice(1)}` as keyof ClientOptions<C>;
    const own = this.#options[name] as Listener<ChatEvents<C>[E]> | undefined;
    const listeners = this.#listeners.get(event) as Set<Listener<ChatEvents<C>[E]>> | undefined;
    return [...(own ? [own] : []), ...(listeners ?? [])];
  }

  /** Tells the application. An error that it throws is reported and stops nothing. */
  #emit<E extends keyof ChatEvents<C>>(event: E, value: ChatEvents<C>[E]): void {
    for (const handle of this.#handlers(event)) {
      try {
        void handle(value);
      } catch (thrown) {
        this.#tell(ChatError.because("handler", thrown));
      }
    }
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
        debug: this.#debug,
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
    this.#hasOpened = true;
    this.#reason = "";
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
    const api = this.#anyApi;
    const dropper = new Dropper(api, signal);
    let page = await api.pull({ signal });
    while (page.messages.length === 0) {
      await dropper.add(page);
      if (page.next === undefined) return;
      page = await api.pull({ after: page.next, signal });
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
      await catchUp({ api: this.#anyApi, inbox: this.#inbox, since, recalls: this.#version === 2, signal });
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
      case "NOTIFICATION":
        return this.#emit("notification", frame);
      case "READ":
        return this.#emit("read", frame);
      case "TYPING":
        return this.#emit("typing", frame);
      case "INVITATION":
        return this.#emit("invitation", frame);
      case "GROUP":
        return this.#emit("group", frame);
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
    if (!wasOpen) void this.#askWhy();
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
   * WebSockets do not tell why a handshake failed. A REST call tells whether the user is banned, the token is refused,
   * or the address is wrong. This pull returns no message.
   */
  async #askWhy(): Promise<void> {
    if (this.#asksWhy) return;
    this.#asksWhy = true;
    const { signal } = this.#life;
    const error = await this.api.pull({ after: firstIdAt(Infinity), signal }).then(() => undefined, (error) => error);
    this.#asksWhy = false;
    const reason = this.#reasonOf(error);
    if (signal.aborted || this.#connection?.isOpen || reason === undefined || reason.message === this.#reason) return;
    this.#reason = reason.message;
    this.#tell(reason);
  }

  /** The reason why handshakes fail, by the answer to a REST call. Undefined if that tells nothing, or was handled. */
  #reasonOf(error: unknown): ChatError | undefined {
    if (!(error instanceof ChatError)) {
      // One handshake may fail by chance.
      if (this.#dialledAt === undefined || this.#attempt < 2 || this.#hasOpened) return undefined;
      return new ChatError("address", `${this.#socketUrl} accepts no WebSocket: check socketUrl and the allowed origins`);
    }
    const { code, status, message } = error;
    if (code === "unauthorized" || code === "forbidden") {
      return new ChatError(code, `the server refuses the token: ${message}`, { status });
    }
    if (code === "not_found" || code === "rejected" || (code === "network" && status !== undefined)) {
      return new ChatError("address", `${this.#url} is no chat server: check the option url`, { status });
    }
    if (code !== "network") return undefined;
    return new ChatError(code, `${this.#url} does not answer: check the network, the option url and the allowed origins`);
  }

  #dialLater(): void {
    if (this.#isClosed()) return;
    const ms = backoffMs(this.#timing.backoff, this.#attempt++, this.#random);
    this.#debug?.(`connects again in ${Math.round(ms)} ms`);
    this.#wait = this.#clock.after(ms, () => void this.#dial());
    this.#setState("waiting");
  }

  #report(error: unknown, code: ErrorCode): void {
    if (!this.#isClosed()) this.#tell(error instanceof ChatError ? error : ChatError.because(code, error));
  }

  #tell(error: ChatError): void {
    // Its text may be of the application, so it may have a token.
    this.#debug?.(`error ${error.code}`);
    for (const handle of this.#handlers("error")) {
      try {
        void handle(error);
      } catch (thrown) {
        // There is no handler left for this error, so it becomes an uncaught error.
        (globalThis.queueMicrotask ?? setTimeout)(() => {
          throw thrown;
        });
      }
    }
  }

  #setState(state: State): void {
    if (this.#state === state || this.#isClosed()) return;
    this.#state = state;
    this.#debug?.(`is ${state}`);
    this.#emit("state", state);
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }
}

function closed(): ChatError {
  return new ChatError("closed", "the client was closed");
}

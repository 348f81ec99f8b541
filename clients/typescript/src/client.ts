/** The client as the application sees it. `core.ts` has what it does. */

import type { ChatApi } from "./api.js";
import type { Clock } from "./clock.js";
import type { WebSocketConstructor } from "./connection.js";
import { createCore } from "./core.js";
import type { ChatError } from "./errors.js";
import type { ChatStore } from "./kept.js";
import type { Receipt } from "./outbox.js";
import type {
  AnyContent,
  Content,
  GroupFrame,
  InvitationFrame,
  Message,
  Notification,
  ReadFrame,
  RecalledFrame,
  Sendable,
  TypingFrame,
  Version,
} from "./protocol.js";
import type { Address } from "./submission.js";
import type { Timing } from "./timing.js";

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

/** A connection to the chat, for one user. `C` is the type of the contents. */
export interface ChatClient<C extends AnyContent = Content> {
  /** The calls of the REST API. */
  readonly api: ChatApi<C>;

  /** The option `store`. */
  readonly store: ChatStore | undefined;

  readonly state: State;

  /** The number of sends without acknowledgement. */
  readonly unsent: number;

  /**
   * Until when sends wait, in milliseconds since the Unix epoch by this machine's clock, because the user has sent too
   * much. Undefined if they do not.
   */
  readonly limitedUntil: number | undefined;

  /** When the ban ends, in milliseconds since the Unix epoch. Undefined unless the client is `banned`. */
  readonly bannedUntil: number | undefined;

  /**
   * Adds a listener, beside the callback of the options and other listeners. Returns a function that removes it. A
   * message is given to one after the other, and again only to those that threw or rejected. Add the listeners of
   * `message` and `recalled` before you call `connect`: a message that came before is not given to later ones.
   */
  on<E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): () => void;

  /** Removes a listener. */
  off<E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): void;

  /**
   * Connects, and stays connected until `close`, or until the client is `replaced` or `banned`. Then this connects
   * again.
   */
  connect(): void;

  /**
   * Sends a private message. Resolves when the server has stored it, even if the connection changes meanwhile. Rejects
   * with a `ChatError` if the server refuses it. Messages to one user are accepted in the order of these calls.
   */
  sendToUser(receiverId: string, content: Sendable<C>, options?: SendOptions): Promise<Receipt>;

  /** Sends a message to a group, under the same conditions. */
  sendToGroup(groupId: string, content: Sendable<C>, options?: SendOptions): Promise<Receipt>;

  /**
   * Sends a message without a connection, so `connect` need not be called. It is repeated like other sends, but does
   * not wait for them, nor for an earlier one of these.
   */
  sendByRest(to: Address, content: Sendable<C>, options?: SendOptions): Promise<Receipt>;

  /**
   * Tells a friend that the user is typing. Call it for each key: it sends once in 3 seconds (`typingEveryMs`). Does
   * nothing without a connection, while sends wait for a limit, or in version 1.
   */
  typing(receiverId: string): void;

  /**
   * Checks now whether the connection is alive, or tries to connect now. Call it when the application knows that the
   * network is back. A browser's `online` event does the same.
   */
  checkNow(): void;

  /**
   * Closes. Nothing more is read or sent until `connect`, and sends without acknowledgement reject. Those in a `store`
   * are sent by the next connection. Messages that have arrived are given, once each. Resolves when `onMessage` has
   * handled them, so `onMessage` must not wait for it.
   */
  close(): Promise<void>;
}

// The members come from `createCore`. This is a class so that `new` and `instanceof` work.
export class ChatClient<C extends AnyContent = Content> {
  /** @throws TypeError if the runtime has no WebSocket and none is given, or if `url` or `token` is invalid. */
  constructor(options: ClientOptions<C>) {
    Object.defineProperties(this, Object.getOwnPropertyDescriptors(createCore(options)));
  }
}

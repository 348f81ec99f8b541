/** What a client does: it keeps a connection open, catches up, and sends. `ChatClient` says what each part is for. */

import { createApi, type ChatApi } from "./api.js";
import { catchUp, createDropper } from "./catchup.js";
import { backoffMs, sleep, systemClock, type Timer } from "./clock.js";
import type { ChatClient, ClientOptions, Outgoing, SendOptions, State } from "./client.js";
import { createConnection, type Connection, type WebSocketConstructor } from "./connection.js";
import { createEchoes } from "./echoes.js";
import { because, ChatError, closed, type ErrorCode } from "./errors.js";
import { createEvents } from "./events.js";
import { createInbox, type Inbox } from "./inbox.js";
import type { Unsent } from "./kept.js";
import { createOutbox, type Receipt } from "./outbox.js";
import { post } from "./post.js";
import type { AnyContent, Content, ServerFrame } from "./protocol.js";
import { randomId } from "./random.js";
import { encode, type Address } from "./submission.js";
import { DEFAULT_TIMING } from "./timing.js";
import { createTokens } from "./tokens.js";
import { createTypist } from "./typing.js";
import { firstIdAt } from "./ulid.js";

/** How many arrived messages wait for the application at most. Later ones are read again when those were taken. */
const MAX_WAITING = 5_000;

/** How far back a client's time starts: by the server's clock, which counts seconds, or by the client's own clock. */
const DATE_SLACK_MS = 2_000;
const CLOCK_SLACK_MS = 60_000;

/** Makes the members of a `ChatClient`. Variables are smaller than fields, and the members need no `this`. */
export function createCore<C extends AnyContent>(options: ClientOptions<C>): ChatClient<C> {
  const { store, clock = systemClock, random = Math.random, version = 2 } = options;
  const webSocket = options.webSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
  if (!webSocket) {
    throw new TypeError("this runtime has no WebSocket: pass the option webSocket");
  }
  if (typeof options.token !== "function") throw new TypeError("the option token must be a function");
  if (!/^https?:/.test(options.url)) throw new TypeError(`${options.url} is no address of http or https`);
  const url = new URL(options.url).href.replace(/\/+$/, "");
  const socketUrl = options.socketUrl ?? `${url.replace(/^http/, "ws")}/ws`;
  const timing = { ...DEFAULT_TIMING, ...options.timing };
  const debug = options.debug === true ? (line: string) => console.debug(`chat: ${line}`) : options.debug || undefined;

  let state: State = "idle";
  /** Aborted when the client is closed. `connect` then begins another one. */
  let life = new AbortController();
  let connection: Connection | undefined;
  /** Aborted when the connection ends, with everything that belongs to it. */
  let session = new AbortController();
  let wait: Timer | undefined;
  let attempt = 0;
  let openedAt = 0;
  let hasOpened = false;
  let dialledAt: number | undefined;
  /** The error by which the server has refused a banned user. `connect` forgets it. */
  let ban: ChatError | undefined;
  /** Whether a call asks why handshakes fail. */
  let asksWhy = false;
  /** The last answer to that. It is told once. */
  let toldReason = "";
  let closing: Promise<void> | undefined;
  /** The connection whose pushed messages are left out, because too many wait for the application. */
  let leavesOut: AbortSignal | undefined;
  /** Whether the store has taken the message of a `requestId`. Restored ones are not in here. */
  const keeps = new Map<string, Promise<boolean>>();
  /** Resolves when the messages of the store wait to be sent. */
  let restored: Promise<void> | undefined;

  const isClosed = () => state === "closed";

  const by = { clock, random, version, debug, timing, webSocket, signal: () => life.signal };
  const events = createEvents<C>(by, options);
  const { emit, tell } = events;
  const tokens = createTokens(by, options.token);
  const inbox: Inbox = createInbox(by, options.remember ?? 20_000, (entry) => events.give(entry, inbox));
  /** Whether an earlier connection may have received messages that the application never got. */
  let resumes = inbox.knows(options.stored ?? []);
  const echoes = createEchoes();
  const typist = createTypist(by);
  const api = createApi({
    ...by,
    url,
    tokens,
    fetch: options.fetch ?? ((input, init) => fetch(input, init)),
    serverTime: (ms) => begin(ms, DATE_SLACK_MS),
    refused: (error) => {
      if (isClosed()) return;
      if (error.code === "rate_limited") outbox.limit(error);
      if (error.code !== "banned") return;
      if (connection) connection.end(error.message, error);
      else stop(error);
    },
  });
  const outbox = createOutbox(by, tell, store && ((id, now) => tried(id, now)));

  const setState = (next: State): void => {
    if (state === next || isClosed()) return;
    state = next;
    debug?.(`is ${next}`);
    emit("state", next);
  };

  const errorOf = (thrown: unknown, code: ErrorCode) => (thrown instanceof ChatError ? thrown : because(code, thrown));

  const report = (thrown: unknown, code: ErrorCode): void => {
    if (!isClosed()) tell(errorOf(thrown, code));
  };

  // Sending.

  /** Waits for the store. A message that cannot be kept is sent all the same. */
  const kept = async <T, Else = void>(work: () => Promise<T>, instead?: Else): Promise<T | Else> => {
    try {
      return await work();
    } catch (thrown) {
      report(thrown, "store");
      return instead as Else;
    }
  };

  const forget = (requestId: string): void => {
    if (!store) return;
    void kept(async () => {
      await keeps.get(requestId);
      await store.forget(requestId);
    });
  };

  /**
   * Returns when a message was first tried. Undefined if the store does not have it any more, because another tab has
   * sent it. One that the store never had is tried now.
   */
  const tried = async (requestId: string, now: number): Promise<number | undefined> => {
    const instead = (await keeps.get(requestId)) === false ? now : undefined;
    return (await kept(() => store!.tried(requestId, now), now)) ?? instead;
  };

  /** Sends, tells the progress, and takes care that the application is not given its own message. */
  const follow = async (unsent: Unsent, send: (unsent: Unsent) => Promise<Receipt>): Promise<Receipt> => {
    if (isClosed()) throw closed();
    const show = (more: Pick<Outgoing, "state" | "receipt" | "error">) => {
      emit("outgoing", { ...unsent, ...more } as Outgoing<C>);
    };
    show({ state: "sending" });
    const release = version === 1 ? () => [] : echoes.expect(unsent.to, unsent.content);
    try {
      const receipt = await send(unsent);
      if (version !== 1) inbox.ignore(receipt.id);
      show({ state: "sent", receipt });
      return receipt;
    } catch (thrown) {
      show({ state: "failed", error: errorOf(thrown, "bad_request") });
      throw thrown;
    } finally {
      release().forEach(inbox.push);
    }
  };

  const queue = async ({ to, content, requestId }: Unsent): Promise<Receipt> => {
    try {
      if (ban) throw ban;
      const receipt = await outbox.send(to, content, requestId);
      forget(requestId);
      return receipt;
    } catch (thrown) {
      // The application decides about one that may have been accepted.
      if (!/^(closed|unacknowledged)$/.test((thrown as ChatError).code)) forget(requestId);
      throw thrown;
    } finally {
      keeps.delete(requestId);
    }
  };

  const readUnsent = async (): Promise<void> => {
    const { signal } = life;
    for (const unsent of await kept(() => store!.unsent(), [])) {
      if (signal.aborted || outbox.has(unsent.requestId)) continue;
      // No promise of the application reports these.
      follow(unsent, queue).catch((thrown) => report(thrown, "store"));
    }
  };

  /** Sends what the store has kept, once in a life. */
  const restore = (): Promise<void> => (restored ??= readUnsent());

  /** Sends by the outbox. With a store, keeps the message until it has a result. */
  const submit = async (unsent: Unsent): Promise<Receipt> => {
    const { to, content, requestId } = unsent;
    const { signal } = life;
    if (store) {
      // Messages of an earlier time were sent before.
      await restore();
      if (signal.aborted) throw closed();
      // What is refused must not replace, or later forget, a message that waits under the same id.
      outbox.check(to, content, requestId);
      keeps.set(requestId, kept(() => store.keep(unsent).then(() => true), false));
    }
    return queue(unsent);
  };

  const postUnsent = async ({ to, content, requestId }: Unsent): Promise<Receipt> => {
    const receipt = await post(by, api.postMessage, encode(to, content, requestId));
    // An earlier send may have left it in the store.
    if (!outbox.has(requestId)) forget(requestId);
    return receipt;
  };

  const begins = (
    how: (unsent: Unsent) => Promise<Receipt>,
    to: Address,
    content: AnyContent,
    { requestId = (options.randomId ?? randomId)() }: SendOptions = {},
  ): Promise<Receipt> => follow({ requestId, to, content: content as Content, at: clock.now() }, how);

  // Receiving.

  /**
   * Sets the start of this client's time by the server's clock. Resumptions read no older messages. Only the first call
   * counts.
   */
  const begin = (serverNow: number, slackMs: number): void => {
    if (dialledAt) inbox.startAt(firstIdAt(serverNow - (clock.now() - dialledAt) - slackMs));
  };

  const received = (frame: ServerFrame): void => {
    const { signal } = session;
    switch (frame.type) {
      case "unicast":
      case "multicast":
        begin(frame.timestamp, DATE_SLACK_MS);
        if (echoes.holds(frame)) return;
      // falls through
      case "RECALLED":
        if (leavesOut === signal) return;
        if (events.waiting() > MAX_WAITING) return void readLeftOut(signal);
        return inbox.push(frame);
      case "ACK":
        begin(frame.timestamp, DATE_SLACK_MS);
        return outbox.acknowledged(frame);
      case "ERROR": {
        const error = new ChatError(frame.code, frame.message, frame);
        if (!outbox.refused(error, frame.requestId)) tell(error);
        return;
      }
      default:
        // The events of other frames have the names of their types.
        return emit(frame.type.toLowerCase() as "notification", frame as never);
    }
  };

  /** Repeats a failing task until the connection ends. */
  const untilDone = async (task: () => Promise<void>, signal: AbortSignal): Promise<void> => {
    for (let attempt = 0; !signal.aborted; attempt++) {
      let waitMs = backoffMs(by, attempt);
      try {
        return await task();
      } catch (error) {
        if (signal.aborted) return;
        report(error, "network");
        waitMs = Math.max(waitMs, (error as ChatError).retryAfterMs ?? 0);
      }
      await sleep(clock, waitMs, signal);
    }
  };

  /** Catches up, and retries until it succeeds or the connection ends. */
  const readMissed = async (resumes: boolean, signal: AbortSignal): Promise<void> => {
    await untilDone(() => {
      const since = resumes ? inbox.resumePoint : undefined;
      return catchUp(api, inbox, since, version, signal);
    }, signal);
    if (!signal.aborted) inbox.caughtUp();
  };

  /** Leaves out pushed messages until the application has taken those that wait, and reads them then. */
  const readLeftOut = async (signal: AbortSignal): Promise<void> => {
    leavesOut = signal;
    inbox.interrupt();
    await events.taken();
    if (signal.aborted) return;
    leavesOut = undefined;
    await readMissed(true, signal);
  };

  /**
   * Checks whether something is missed although a connection is open. If so, the connection may be dead and may have
   * received older messages, so everything is read again.
   */
  const look = async (signal: AbortSignal): Promise<void> => {
    const drop = createDropper(api, signal);
    for (let after: string | undefined; ; ) {
      const page = await api.pull({ after, signal });
      if (page.messages.length) break;
      await drop(page);
      after = page.next;
      if (after === undefined) return;
    }
    if (signal.aborted) return;
    begin(clock.now(), CLOCK_SLACK_MS);
    inbox.interrupt();
    await readMissed(true, signal);
  };

  // Connecting.

  const dial = async (): Promise<void> => {
    const { signal } = (session = new AbortController());
    setState("connecting");
    try {
      const token = await tokens.renew();
      if (signal.aborted) return;
      dialledAt ??= clock.now();
      connection = createConnection({ ...by, opened, received, ended }, socketUrl, token);
    } catch (error) {
      if (signal.aborted) return;
      report(error, "token");
      dialLater();
    }
  };

  const dialLater = (): void => {
    if (isClosed()) return;
    const ms = backoffMs(by, attempt++);
    debug?.(`connects again in ${Math.round(ms)} ms`);
    wait = clock.after(ms, () => void dial());
    setState("waiting");
  };

  const opened = async (): Promise<void> => {
    if (!connection) return;
    const { signal } = session;
    openedAt = clock.now();
    hasOpened = true;
    toldReason = "";
    outbox.connected(connection);
    const again = resumes;
    if (again) begin(clock.now(), CLOCK_SLACK_MS);
    setState("catching_up");
    await readMissed(again, signal);
    if (signal.aborted) return;
    setState("online");
    await sleep(clock, timing.settleMs, signal);
    while (!signal.aborted) {
      await untilDone(() => look(signal), signal);
      await sleep(clock, timing.pullEveryMs, signal);
    }
  };

  const ended = (why: string, last: ChatError | undefined): void => {
    const wasOpen = openedAt > 0;
    // Even if it never opened here, it may have opened at the server.
    resumes = true;
    connection = undefined;
    session.abort();
    outbox.disconnected();
    inbox.interrupt();
    if (wasOpen && clock.now() - openedAt >= timing.stableMs) attempt = 0;
    openedAt = 0;
    if (last?.code === "banned") return stop(last);
    tell(last ?? new ChatError("network", why));
    // Connecting again would only replace another connection of the user.
    if (last) return setState("replaced");
    dialLater();
    if (!wasOpen) void askWhy();
  };

  /** The user is banned. Rejects all sends, and connects no more by itself. */
  const stop = (error: ChatError): void => {
    if (ban || isClosed()) return;
    ban = error;
    wait?.cancel();
    session.abort();
    outbox.close(error);
    tell(error);
    setState("banned");
  };

  /**
   * WebSockets do not tell why a handshake failed. A REST call tells whether the user is banned, the token is refused,
   * or the address is wrong. This pull returns no message.
   */
  const askWhy = async (): Promise<void> => {
    if (asksWhy) return;
    asksWhy = true;
    const { signal } = life;
    const reason = reasonOf(await api.pull({ after: firstIdAt(Infinity), signal }).catch((error: unknown) => error));
    asksWhy = false;
    if (signal.aborted || connection?.isOpen() || !reason || reason.message === toldReason) return;
    toldReason = reason.message;
    tell(reason);
  };

  /** The reason why handshakes fail, by the answer to a REST call. Undefined if that tells nothing, or was handled. */
  const reasonOf = (answer: unknown): ChatError | undefined => {
    const { code, status, message } = answer as Partial<ChatError>;
    const reason = (code: ErrorCode, text: string) => new ChatError(code, text, { status });
    if (!code) {
      // One handshake may fail by chance.
      if (!dialledAt || attempt < 2 || hasOpened) return undefined;
      return reason("address", `${socketUrl} accepts no WebSocket: check socketUrl and the allowed origins`);
    }
    if (/^(unauthorized|forbidden)$/.test(code)) return reason(code, `the server refuses the token: ${message}`);
    if (/^(not_found|rejected)$/.test(code) || (code === "network" && status)) {
      return reason("address", `${url} is no chat server: check the option url`);
    }
    if (code !== "network") return undefined;
    return reason(code, `${url} does not answer: check the network, the option url and the allowed origins`);
  };

  const checkNow = (): void => {
    if (state === "waiting") {
      wait?.cancel();
      void dial();
    } else {
      connection?.probe();
    }
  };

  /** The page is shown again. A connection may have died while it was hidden. */
  const shown = (): void => {
    if (globalThis.document.visibilityState !== "visible") return;
    if (state === "waiting") checkNow();
    else connection?.probe(timing.hiddenMs);
  };

  const listen = (how: "addEventListener" | "removeEventListener"): void => {
    globalThis[how]?.("online", checkNow);
    globalThis.document?.[how]?.("visibilitychange", shown);
  };

  const shutDown = async (): Promise<void> => {
    listen("removeEventListener");
    wait?.cancel();
    session.abort();
    const last = connection;
    connection = undefined;
    // What it had received may be lost. The next connection reads it again.
    resumes ||= !!dialledAt;
    attempt = 0;
    openedAt = 0;
    restored = undefined;
    echoes.release().forEach(inbox.push);
    const given = inbox.flush();
    setState("closed");
    life.abort();
    outbox.close(closed());
    inbox.interrupt();
    await Promise.all([last?.close(), given]);
  };

  return {
    api: api as unknown as ChatApi<C>,
    store,
    on: events.on,
    off: events.off,
    checkNow,
    sendToUser: (receiverId, content, options) => begins(submit, { receiverId }, content, options),
    sendToGroup: (groupId, content, options) => begins(submit, { groupId }, content, options),
    sendByRest: (to, content, options) => begins(postUnsent, to, content, options),

    get state(): State {
      return state;
    },

    get unsent(): number {
      return outbox.size;
    },

    get limitedUntil(): number | undefined {
      return outbox.limitedUntil;
    },

    get bannedUntil(): number | undefined {
      return ban?.until;
    },

    connect(): void {
      if (!/^(idle|replaced|banned|closed)$/.test(state)) return;
      if (isClosed()) {
        life = new AbortController();
        closing = undefined;
        state = "idle";
      }
      ban = undefined;
      toldReason = "";
      listen("addEventListener");
      if (store) void restore();
      void dial();
    },

    typing(receiverId: string): void {
      if (version !== 1 && connection?.isOpen() && !outbox.limitedUntil) typist(receiverId, connection.send);
    },

    close: () => (closing ??= shutDown()),
  };
}

/** One WebSocket, from its handshake to its end. It is kept alive, and checked for being dead. */

import { sleep, type Clock, type Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import { readFrame, type ServerFrame, type Version } from "./protocol.js";
import type { Timing } from "./timing.js";

/** The part of a WebSocket that the client uses. Those of browsers, of Node and of the package `ws` have it. */
export interface WebSocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/** A constructor of WebSockets, such as the standard one. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

export interface ConnectionSettings {
  version: Version;
  timing: Timing;
  clock: Clock;
  webSocket: WebSocketConstructor;
  opened: () => void;
  received: (frame: ServerFrame) => void;
  /**
   * Called once when the connection ends, but not after `close`. `last` is the error after which the client must not
   * connect again by itself.
   */
  ended: (why: string, last?: ChatError) => void;
  /** Called with what happens, for the option `debug`. */
  debug?: ((line: string) => void) | undefined;
}

/** The subprotocols that ask for the versions. One is offered with the token, and the server answers with it. */
const SUBPROTOCOLS: Record<Version, string> = { 1: "chat", 2: "chat.2" };

/** The codes of errors after which the client must not connect again by itself. */
const FINAL = /^(too_many_connections|banned)$/;

const PING = JSON.stringify({ type: "ping" });

/** Pings are not answered. The server refuses this frame with an ERROR of the same requestId, and stores nothing. */
const PROBE_ID = "client-probe";
const PROBE = JSON.stringify({ type: "unicast", requestId: PROBE_ID });

/** How often the clock is read: to ping in time, and to notice that the machine has slept. */
const WATCH_MS = 30_000;

/** A timer that is late by more than this has slept. Browsers delay those of hidden pages by up to a minute. */
const SLEPT_MS = 120_000;

/** The time limit of a close. */
const GOODBYE_MS = 1_000;

export type Connection = ReturnType<typeof createConnection>;

/** Opens a connection. @throws what the WebSocket's constructor throws, for example for an invalid address. */
export function createConnection(settings: ConnectionSettings, url: string, token: string) {
  const { clock, timing, debug, webSocket: Socket } = settings;
  let heardAt = clock.now();
  /** When the last frame was sent. */
  let saidAt = heardAt;
  let isOver = false;
  let tick: Timer | undefined;
  /** Aborted when the socket is closed. */
  const gone = new AbortController();
  const socket = new Socket(url, [SUBPROTOCOLS[settings.version], token]);

  const isOpen = () => socket.readyState === 1;

  const send = (text: string): void => {
    if (!isOpen()) return;
    saidAt = clock.now();
    debug?.(`sends ${described(JSON.parse(text))}`);
    socket.send(text);
  };

  const stop = (): void => {
    isOver = true;
    deadline?.cancel();
    tick?.cancel();
  };

  /** Ends the connection, and does not wait for the other side. */
  const end = (why: string, last?: ChatError): void => {
    gone.abort();
    if (isOver) return;
    debug?.(`the connection ended: ${why}`);
    stop();
    // A dead connection may take long to close. Nothing waits for it.
    socket.close();
    settings.ended(why, last);
  };

  let deadline: Timer | undefined = clock.after(timing.handshakeMs, () => end("the handshake took too long"));

  /** Checks whether the server is still there, if no frame came for this long. Ends the connection if it is not. */
  const probe = (silenceMs = -Infinity): void => {
    if (isOver || deadline || clock.now() - heardAt < silenceMs) return;
    send(PROBE);
    deadline = clock.after(timing.answerMs, () => end("no answer"));
  };

  const heard = (): void => {
    heardAt = clock.now();
    deadline?.cancel();
    deadline = undefined;
  };

  const keepAlive = (): void => {
    const watchMs = Math.min(WATCH_MS, timing.pingEveryMs);
    const startedAt = clock.now();
    tick = clock.after(watchMs, () => {
      const now = clock.now();
      // Nobody else tells that a machine was asleep. Its connections seldom survive that.
      if (now - startedAt > watchMs + SLEPT_MS || now - heardAt >= timing.silenceMs) probe();
      else if (now - saidAt > timing.pingEveryMs - watchMs) send(PING);
      keepAlive();
    });
  };

  socket.onopen = () => {
    if (isOver) return;
    heard();
    keepAlive();
    settings.opened();
  };
  socket.onmessage = ({ data }: { data: unknown }) => {
    if (isOver) return;
    heard();
    const frame = readFrame(data);
    if (!frame) return;
    debug?.(`gets ${described({ ...frame })}`);
    if (frame.type !== "ERROR") return settings.received(frame);
    // The server also closes the connection, but the close may get lost.
    if (FINAL.test(frame.code)) return end(frame.message, new ChatError(frame.code, frame.message, frame));
    if (frame.requestId !== PROBE_ID) settings.received(frame);
    if (frame.code === "token_expired") end("the token expired");
  };
  socket.onclose = ({ code }: { code: number }) => end(`closed with code ${code}`);
  socket.onerror = () => end("the connection failed");

  return {
    /** Whether frames can be sent. */
    isOpen,
    send,
    end,
    probe,

    /** Closes the connection. Resolves when that is done or has taken too long. */
    async close(): Promise<void> {
      if (isOver) return;
      stop();
      socket.close(1000);
      await sleep(clock, GOODBYE_MS, gone.signal);
    },
  };
}

/** Describes a frame without its content. */
function described({ type, id, code, requestId }: Record<string, unknown>): string {
  return JSON.stringify({ type, id, code, requestId });
}

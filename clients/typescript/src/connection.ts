/** One WebSocket, from its handshake to its end. It is kept alive, and checked for being dead. */

import type { Clock, Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import type { Transport } from "./outbox.js";
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
  url: string;
  token: string;
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
const FINAL = new Set(["too_many_connections", "banned"]);

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

export class Connection implements Transport {
  heardAt: number;
  /** When the last frame was sent. */
  #saidAt: number;
  readonly #settings: ConnectionSettings;
  readonly #socket: WebSocketLike;
  #deadline: Timer | undefined;
  #tick: Timer | undefined;
  #over = false;
  #goodbye: (() => void) | undefined;

  /** @throws what the WebSocket's constructor throws, for example for a token that cannot be a subprotocol. */
  constructor(settings: ConnectionSettings) {
    const { clock, timing, webSocket: Socket } = settings;
    this.#settings = settings;
    this.heardAt = this.#saidAt = clock.now();
    this.#socket = new Socket(settings.url, [SUBPROTOCOLS[settings.version], settings.token]);
    this.#deadline = clock.after(timing.handshakeMs, () => this.end("the handshake took too long"));
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = (event: { data: unknown }) => this.#received(event.data);
    this.#socket.onclose = (event: { code: number }) => this.end(`closed with code ${event.code}`);
    this.#socket.onerror = () => this.end("the connection failed");
  }

  /** Whether frames can be sent. */
  get isOpen(): boolean {
    return this.#socket.readyState === 1;
  }

  send(text: string): void {
    if (!this.isOpen) return;
    this.#saidAt = this.#settings.clock.now();
    this.#settings.debug?.(`sends ${described(JSON.parse(text))}`);
    this.#socket.send(text);
  }

  probe(): void {
    if (this.#over || this.#deadline !== undefined) return;
    this.send(PROBE);
    this.#deadline = this.#settings.clock.after(this.#settings.timing.answerMs, () => this.end("no answer"));
  }

  /** Checks whether the server is still there, if no frame came for this long. */
  probeAfter(silenceMs: number): void {
    if (this.#settings.clock.now() - this.heardAt >= silenceMs) this.probe();
  }

  /** Ends the connection, and does not wait for the other side. */
  end(why: string, last?: ChatError): void {
    this.#goodbye?.();
    if (this.#over) return;
    this.#settings.debug?.(`the connection ended: ${why}`);
    this.#stop();
    // A dead connection may take long to close. Nothing waits for it.
    this.#socket.close();
    this.#settings.ended(why, last);
  }

  /** Closes the connection. Resolves when that is done or has taken too long. */
  close(): Promise<void> {
    if (this.#over) return Promise.resolve();
    this.#stop();
    return new Promise((resolve) => {
      const timer = this.#settings.clock.after(GOODBYE_MS, resolve);
      this.#goodbye = () => {
        timer.cancel();
        resolve();
      };
      this.#socket.close(1000);
    });
  }

  #opened(): void {
    if (this.#over) return;
    this.#heard();
    this.#keepAlive();
    this.#settings.opened();
  }

  #received(data: unknown): void {
    if (this.#over) return;
    this.#heard();
    const frame = readFrame(data);
    if (frame === undefined) return;
    this.#settings.debug?.(`gets ${described(frame)}`);
    if (frame.type !== "ERROR") return this.#settings.received(frame);
    // The server also closes the connection, but the close may get lost.
    if (FINAL.has(frame.code)) return this.end(frame.message, ChatError.of(frame));
    if (frame.requestId !== PROBE_ID) this.#settings.received(frame);
    if (frame.code === "token_expired") this.end("the token expired");
  }

  #heard(): void {
    this.heardAt = this.#settings.clock.now();
    this.#deadline?.cancel();
    this.#deadline = undefined;
  }

  #keepAlive(): void {
    const { clock, timing } = this.#settings;
    const watchMs = Math.min(WATCH_MS, timing.pingEveryMs);
    const startedAt = clock.now();
    this.#tick = clock.after(watchMs, () => {
      const now = clock.now();
      // Nobody else tells that a machine was asleep. Its connections seldom survive that.
      const hasSlept = now - startedAt > watchMs + SLEPT_MS;
      if (hasSlept || now - this.heardAt >= timing.silenceMs) this.probe();
      else if (now - this.#saidAt > timing.pingEveryMs - watchMs) this.send(PING);
      this.#keepAlive();
    });
  }

  #stop(): void {
    this.#over = true;
    this.#deadline?.cancel();
    this.#tick?.cancel();
  }
}

/** Describes a frame without its content. */
function described(frame: object): string {
  const { type, id, code, requestId } = frame as Record<string, unknown>;
  const parts = { type, id, code, requestId };
  return Object.entries(parts).filter(([, value]) => value !== undefined).map((pair) => pair.join("=")).join(" ");
}

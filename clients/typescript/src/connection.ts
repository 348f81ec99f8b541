/** One WebSocket, from its handshake to its end. It is kept alive, and checked for being dead. */

import type { Clock, Timer } from "./clock.js";
import { ChatError } from "./errors.js";
import type { Transport } from "./outbox.js";
import { readFrame, type ServerFrame, type Version } from "./protocol.js";
import type { Timing } from "./timing.js";

/** The standard constructor of WebSockets. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocket;

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
}

/** The subprotocols that ask for the versions. One is offered with the token, and the server answers with it. */
const SUBPROTOCOLS: Record<Version, string> = { 1: "chat", 2: "chat.2" };

/** The codes of errors after which the client must not connect again by itself. */
const FINAL = new Set(["too_many_connections", "banned"]);

const PING = JSON.stringify({ type: "ping" });

/** Pings are not answered. The server refuses this frame with an ERROR of the same requestId, and stores nothing. */
const PROBE_ID = "client-probe";
const PROBE = JSON.stringify({ type: "unicast", requestId: PROBE_ID });

/** The time limit of a close. */
const GOODBYE_MS = 1_000;

export class Connection implements Transport {
  heardAt: number;
  readonly #settings: ConnectionSettings;
  readonly #socket: WebSocket;
  #deadline: Timer | undefined;
  #tick: Timer | undefined;
  #over = false;
  #goodbye: (() => void) | undefined;

  /** @throws what the WebSocket's constructor throws, for example for a token that cannot be a subprotocol. */
  constructor(settings: ConnectionSettings) {
    const { clock, timing, webSocket: Socket } = settings;
    this.#settings = settings;
    this.heardAt = clock.now();
    this.#socket = new Socket(settings.url, [SUBPROTOCOLS[settings.version], settings.token]);
    this.#deadline = clock.after(timing.handshakeMs, () => this.end("the handshake took too long"));
    this.#socket.onopen = () => this.#opened();
    this.#socket.onmessage = (event: MessageEvent<unknown>) => this.#received(event.data);
    this.#socket.onclose = (event: CloseEvent) => this.end(`closed with code ${event.code}`);
    this.#socket.onerror = () => this.end("the connection failed");
  }

  /** Whether frames can be sent. */
  get isOpen(): boolean {
    return this.#socket.readyState === 1;
  }

  send(text: string): void {
    if (this.isOpen) this.#socket.send(text);
  }

  probe(): void {
    if (this.#over || this.#deadline !== undefined) return;
    this.send(PROBE);
    this.#deadline = this.#settings.clock.after(this.#settings.timing.answerMs, () => this.end("no answer"));
  }

  /** Ends the connection, and does not wait for the other side. */
  end(why: string, last?: ChatError): void {
    this.#goodbye?.();
    if (this.#over) return;
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
    this.#tick = clock.after(timing.pingEveryMs, () => {
      if (clock.now() - this.heardAt >= timing.silenceMs) this.probe();
      else this.send(PING);
      this.#keepAlive();
    });
  }

  #stop(): void {
    this.#over = true;
    this.#deadline?.cancel();
    this.#tick?.cancel();
  }
}

/** The other side of the network, controlled by a test: sockets, answers and messages. */

import type { WebSocketConstructor } from "../src/connection.js";
import type { LogEntry, PrivateMessage, RecalledFrame } from "../src/protocol.js";
import { firstIdAt } from "../src/ulid.js";

/** A socket that its test controls. */
export class FakeSocket {
  /** 0 connecting, 1 open, 2 closing, 3 closed. */
  readyState = 0;
  /** The sent frames, parsed. */
  readonly sent: Record<string, unknown>[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | undefined;
  onmessage: ((event: { data: unknown }) => void) | undefined;
  onclose: ((event: { code: number }) => void) | undefined;
  onerror: (() => void) | undefined;

  constructor(readonly url: string, readonly protocols: string[]) {}

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  close(code = 1005): void {
    this.readyState = Math.max(this.readyState, 2);
    this.closedWith ??= code;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  /** Delivers a frame. */
  say(frame: unknown): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** Ends the connection in a way that this side notices. */
  end(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  /** The sent frames with a `requestId`. */
  get requests(): Record<string, unknown>[] {
    return this.sent.filter((frame) => frame["requestId"] !== undefined && frame["requestId"] !== "client-probe");
  }

  get probes(): number {
    return this.sent.filter((frame) => frame["requestId"] === "client-probe").length;
  }

  get pings(): number {
    return this.sent.filter((frame) => frame["type"] === "ping").length;
  }
}

/** All sockets that its `constructor` has made. */
export class FakeSockets {
  readonly all: FakeSocket[] = [];

  get constructorFor(): WebSocketConstructor {
    const { all } = this;
    return class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        all.push(this);
      }
    } as unknown as WebSocketConstructor;
  }

  get last(): FakeSocket {
    const last = this.all.at(-1);
    if (last === undefined) throw new Error("there is no socket");
    return last;
  }
}

export interface FakeRequest {
  method: string;
  /** For example `/api/group`. */
  path: string;
  query: URLSearchParams;
  token: string | undefined;
  body: unknown;
  signal: AbortSignal;
}

export interface FakeAnswer {
  status?: number;
  json?: unknown;
  text?: string;
  headers?: Record<string, string>;
}

/** A `fetch` that answers as its test says and records requests. An aborted one rejects, as the real one does. */
export class FakeFetch {
  readonly requests: FakeRequest[] = [];

  constructor(public answer: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer>) {}

  readonly fetch = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input));
    const signal = init.signal as AbortSignal;
    signal.throwIfAborted();
    const request: FakeRequest = {
      method: init.method ?? "GET",
      path: url.pathname,
      query: url.searchParams,
      token: new Headers(init.headers).get("authorization")?.replace("Bearer ", ""),
      body: init.body === undefined ? undefined : JSON.parse(String(init.body)),
      signal,
    };
    this.requests.push(request);
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    });
    const { status = 200, json, text, headers = {} } = await Promise.race([this.answer(request), aborted]);
    return new Response(text ?? (json === undefined ? "" : JSON.stringify(json)), { status, headers });
  };

  /** The requests as text: `GET /api/message after=…`. */
  get lines(): string[] {
    return this.requests.map(({ method, path, query }) => {
      const rest = [...query].map(([name, value]) => `${name}=${value}`);
      return [method, path, ...rest].join(" ");
    });
  }
}

/** An answer that the test gives later. */
export class Later<T> {
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** The time at which the messages of these tests were sent. */
export const EPOCH_MS = 1_750_000_000_000;

/** The id of the n-th message, in order. */
export function idOf(n: number): string {
  return firstIdAt(EPOCH_MS + n);
}

/** The n-th message to Ben. */
export function message(n: number, content = `m${n}`): PrivateMessage {
  return { type: "unicast", id: idOf(n), senderId: "ann", receiverId: "ben", content, timestamp: EPOCH_MS + n };
}

/** The recall of the n-th message at the time of the `at`-th. */
export function recall(n: number, at: number): RecalledFrame {
  return { type: "RECALLED", id: idOf(n), senderId: "ann", receiverId: "ben", timestamp: EPOCH_MS + at };
}

/** The numbers of messages and recalls by their times, for comparisons. */
export function numbers(entries: LogEntry[]): number[] {
  return entries.map(({ timestamp }) => timestamp - EPOCH_MS);
}

interface PageOptions {
  /** Whether there is a next page. By default there is one if `next` is given. */
  more?: boolean;
  /** The id after which the next page begins. A server that does not tell it is broken. */
  next?: string;
  /** The token that drops the page. An older server does not tell it. */
  token?: string;
}

/** The answer to a pull. Without options, it is the last page, and nothing can drop it. */
export function page(entries: LogEntry[], { next, more = next !== undefined, token }: PageOptions = {}): FakeAnswer {
  const senders = new Map<string, LogEntry[]>();
  for (const one of entries) senders.set(one.senderId, [...(senders.get(one.senderId) ?? []), one]);
  return {
    json: [...senders].map(([id, theirs]) => ({ id, messages: theirs })),
    headers: {
      "x-has-more": String(more),
      ...(next === undefined ? {} : { "x-next": next }),
      ...(token === undefined ? {} : { "x-page": token }),
    },
  };
}

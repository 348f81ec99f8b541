/** The error class of this client. */

import type { ErrorFrame } from "./protocol.js";

/**
 * The codes of errors:
 * - `bad_request`: the server or this client refuses the request. The same request will be refused again.
 * - `unauthorized`: the token is not accepted, even a new one.
 * - `forbidden`: the user may not do this, or there is no such group or invitation.
 * - `not_found`, `rejected`: any other refusal of a REST call; see `status`.
 * - `unavailable`: the service failed or is too busy. A repeat may succeed. `retryAfterMs` says when, if it is known.
 * - `network`: no answer came.
 * - `token`: the application's `token` callback failed or took too long.
 * - `token_expired`: the token expired while its connection was open. The client connects again with a new one.
 * - `too_many_connections`: the user opened more connections than allowed, and this one was the oldest. The client does
 *   not connect again until `connect` is called.
 * - `muted`: the manager of the group has muted the user. Nothing was stored. `until` says when the mute ends.
 * - `rate_limited`: the user sends too much. `retryAfterMs` says when a repeat may succeed. Sends repeat by themselves.
 * - `request_id_reused`: another send of the user has the same `requestId`. Nothing was stored. Send with a new one.
 * - `unacknowledged`: a send was not acknowledged while repeating it was safe. It may or may not have been accepted.
 * - `handler`: the application's `onMessage`, `onState` or another handler threw.
 * - `closed`: the client was closed.
 * Codes of `ERROR` frames that a later server may add are passed on unchanged.
 */
export type ErrorCode =
  | "bad_request"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "rejected"
  | "unavailable"
  | "network"
  | "token"
  | "token_expired"
  | "too_many_connections"
  | "muted"
  | "rate_limited"
  | "request_id_reused"
  | "unacknowledged"
  | "handler"
  | "closed"
  | (string & {});

/** What else is known about an error. */
interface Details {
  status?: number;
  retryAfterMs?: number | undefined;
  until?: number | undefined;
  cause?: unknown;
}

/** An error with a code. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  /** A code for programs. */
  readonly code: ErrorCode;
  /** The HTTP status, if a REST call was answered. */
  readonly status: number | undefined;
  /** How long the server asks to wait before a repeat, in milliseconds, if it says so. */
  readonly retryAfterMs: number | undefined;
  /** When the reason ends, in milliseconds since the Unix epoch, if the server says so: for `muted`. */
  readonly until: number | undefined;

  constructor(code: ErrorCode, message: string, more: Details = {}) {
    super(message, "cause" in more ? { cause: more.cause } : undefined);
    this.code = code;
    this.status = more.status;
    this.retryAfterMs = more.retryAfterMs;
    this.until = more.until;
  }

  /** An error of this code, caused by what was thrown. */
  static because(code: ErrorCode, thrown: unknown): ChatError {
    return new ChatError(code, thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }

  /** The error of an `ERROR` frame. */
  static of({ code, message, retryAfterMs, until }: ErrorFrame): ChatError {
    return new ChatError(code, message, { retryAfterMs, until });
  }

  /** Whether the same request may succeed a little later, because the service failed or is too busy. */
  get isTemporary(): boolean {
    return this.code === "unavailable" || this.code === "rate_limited";
  }
}

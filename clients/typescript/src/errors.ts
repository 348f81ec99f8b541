/** The error class of this client. */

/**
 * The codes of errors:
 * - `bad_request`: the server or this client refuses the request. The same request will be refused again.
 * - `unauthorized`: the token is not accepted, even a new one.
 * - `forbidden`: the user may not do this, or there is no such group or invitation.
 * - `not_found`, `rejected`: any other refusal of a REST call; see `status`.
 * - `unavailable`: the service failed or is too busy. A repeat may succeed. `retryAfterMs` says when, if it is known.
 * - `network`: no answer came.
 * - `address`: something answers at the address, but not a chat server: the option `url` or `socketUrl` is wrong.
 * - `token`: the application's `token` callback failed or took too long.
 * - `token_expired`: the token expired while its connection was open. The client connects again with a new one.
 * - `too_many_connections`: the user opened more connections than allowed, and this one was the oldest. The client does
 *   not connect again until `connect` is called.
 * - `muted`: the manager of the group has muted the user. Nothing was stored. `until` says when the mute ends.
 * - `banned`: the operator has banned the user. Nothing was stored. `until` says when the ban ends. The client does not
 *   connect again until `connect` is called.
 * - `rate_limited`: the user sends too much. Nothing was stored. `retryAfterMs` says when a repeat may succeed. The
 *   client repeats sends. They reject with this code only if they were refused until they were given up.
 * - `request_id_reused`: another send of the user has the same `requestId`. Nothing was stored. Send with a new one.
 * - `unacknowledged`: a send was not acknowledged while repeating it was safe. It may or may not have been accepted.
 * - `sent_elsewhere`: another tab has sent this message of the `store`. Its `onMessage` has it, or the history.
 * - `store`: the `store` failed. The client continues without it.
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
  | "address"
  | "token"
  | "token_expired"
  | "too_many_connections"
  | "muted"
  | "banned"
  | "rate_limited"
  | "request_id_reused"
  | "unacknowledged"
  | "sent_elsewhere"
  | "store"
  | "handler"
  | "closed"
  | (string & {});

/** What else is known about an error. */
interface Details {
  status?: number | undefined;
  /** As the server sends it, so it may be anything. */
  retryAfterMs?: unknown;
  until?: unknown;
  cause?: unknown;
}

/** The longest wait that is respected. A timer cannot hold a much longer one. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** An error with a code. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  /** A code for programs. */
  declare readonly code: ErrorCode;
  /** The HTTP status, if a REST call was answered. */
  declare readonly status: number | undefined;
  /** How long the server asks to wait before a repeat, in milliseconds, if it says so. */
  declare readonly retryAfterMs: number | undefined;
  /** When the reason ends, in milliseconds since the Unix epoch, if the server says so: for `muted` and `banned`. */
  declare readonly until: number | undefined;

  constructor(code: ErrorCode, message: string, more: Details = {}) {
    super(message, more);
    this.code = code;
    const { status, retryAfterMs: ms, until } = more;
    this.status = status;
    this.retryAfterMs = typeof ms === "number" && ms >= 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : undefined;
    this.until = typeof until === "number" ? until : undefined;
  }

  /** Whether the same request may succeed a little later, because the service failed or is too busy. */
  get isTemporary(): boolean {
    return this.code === "unavailable" || this.code === "rate_limited";
  }
}

/** The error of what a close ends. */
export function closed(): ChatError {
  return new ChatError("closed", "the client was closed");
}

/** The error of this code, caused by what was thrown. */
export function because(code: ErrorCode, cause: unknown): ChatError {
  return new ChatError(code, cause instanceof Error ? cause.message : String(cause), { cause });
}

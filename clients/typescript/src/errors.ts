/** The one error of this client. */

/**
 * What went wrong:
 * - `bad_request`: the server, or this client before it, refuses what was asked; the same again will be refused again.
 * - `unauthorized`: the token is not accepted, also after asking for a new one.
 * - `forbidden`: not the user's to do, or no such group or invitation.
 * - `not_found`, `rejected`: any other refusal of a REST call; `status` tells.
 * - `unavailable`: the service failed or is too busy; the same may succeed later. `retryAfterMs` says when, if it said so.
 * - `network`: no answer came.
 * - `token`: the application's own `token` callback failed, or took too long.
 * - `token_expired`: the token expired while its connection was open; the client connects again with a new one.
 * - `too_many_connections`: the user opened more connections than allowed, and this one was the oldest. The client does
 *   not connect again until `connect` is called.
 * - `request_id_reused`: another send of the user has the same `requestId`. Nothing was stored; send with a new one.
 * - `unacknowledged`: a send was not acknowledged while repeating it was safe. It may or may not have been accepted.
 * - `handler`: the application's own `onMessage`, `onNotification` or `onState` threw.
 * - `closed`: the client was closed.
 * Codes of `ERROR` frames that a later server may add appear as they are.
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
  | "request_id_reused"
  | "unacknowledged"
  | "handler"
  | "closed"
  | (string & {});

/** A failure that has a code. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  /** What a program can act on. */
  readonly code: ErrorCode;
  /** The HTTP status, if a REST call was answered. */
  readonly status: number | undefined;
  /** How long the server asks to wait before the same is tried again, in milliseconds, if it says so. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    more: { status?: number; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, "cause" in more ? { cause: more.cause } : undefined);
    this.code = code;
    this.status = more.status;
    this.retryAfterMs = more.retryAfterMs;
  }

  /** Of this code, with what was thrown as its cause. */
  static because(code: ErrorCode, thrown: unknown): ChatError {
    return new ChatError(code, thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }
}

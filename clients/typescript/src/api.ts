/** The REST API. */

import type { Clock } from "./clock.js";
import { ChatError, type ErrorCode } from "./errors.js";
import type { Receipt } from "./outbox.js";
import { byPlace } from "./place.js";
import {
  isMessage,
  isRecalled,
  type AnyContent,
  type Content,
  type Conversation,
  type ConversationAddress,
  type FromSender,
  type Group,
  type HistoryMessage,
  type Invitation,
  type Message,
  type RecalledFrame,
} from "./protocol.js";
import type { Address } from "./submission.js";
import type { Tokens } from "./tokens.js";

export interface ApiSettings {
  /** The base address of `/api`. */
  url: string;
  tokens: Tokens;
  clock: Clock;
  requestMs: number;
  fetch: typeof fetch;
  /** Called with the server's time, in milliseconds since the Unix epoch, for each answer that has it. */
  serverTime?: (ms: number) => void;
  /** Called with the error of each answer that is not 2xx, before the call rejects with it. */
  refused?: (error: ChatError) => void;
  /** Called with what happens, for the option `debug`. */
  debug?: ((line: string) => void) | undefined;
}

/** One page of messages, sorted by id. A next page may follow, even after an empty page. */
export interface Page<C extends AnyContent = Content> {
  messages: Message<C>[];
  /** The recalls of earlier messages, sorted by time. Empty unless they are asked for. */
  recalls: RecalledFrame[];
  /** The id after which the next page begins. Undefined for the last page. */
  next: string | undefined;
  /** The token that drops this page. It is valid for an hour. Undefined if the answer has none: see `pull`. */
  token: string | undefined;
}

/** Selects the messages of a pull: `after`, `since`, or neither. */
export interface PullOptions {
  /** Returns missed messages after this id. */
  after?: string;
  /** Returns all messages after this id, missed or not. */
  since?: string;
  /** With `since`: returns recalls too. Needs version 2 of the protocol. */
  recalls?: boolean;
  signal?: AbortSignal;
}

/** Selects the messages of a history: the newest before `before`, the oldest after `after`, or the newest of all. */
export interface HistoryOptions {
  before?: string | undefined;
  after?: string | undefined;
  /** The greatest number of messages, 1 to 100. 50 by default. */
  limit?: number;
}

/** Where a list goes on. A page may be short or empty and still have more. */
interface More {
  hasMore: boolean;
  /** Where the next page begins. Undefined for the last page. */
  next: string | undefined;
}

/** One page of a history, sorted by id. `next` goes into `after` if that was given, and else into `before`. */
export interface HistoryPage<C extends AnyContent = Content> extends More {
  messages: HistoryMessage<C>[];
}

/** One page of the list of conversations, in the order of the ids of users and groups. `next` goes into `after`. */
export interface ConversationsPage<C extends AnyContent = Content> extends More {
  conversations: Conversation<C>[];
}

/** The parameters of a call. A parameter with an array is repeated, once for each value. */
type Query = Record<string, string | readonly string[] | undefined>;

interface Call {
  query?: Query;
  body?: unknown;
  /** A body that is JSON already. */
  text?: string;
  signal?: AbortSignal | undefined;
}

/** The problem document of the server, or what API Gateway answers in its place. */
interface Problem {
  detail: string;
  message: string;
  code: unknown;
  retryAfterMs: number;
  until: number;
}

interface Answer {
  text: string;
  headers: Headers;
}

/** The calls of the REST API. Every method rejects with a `ChatError`. No method repeats a failed call. */
export class ChatApi<C extends AnyContent = Content> {
  readonly #settings: ApiSettings;

  constructor(settings: ApiSettings) {
    this.#settings = settings;
  }

  /** Creates a group, and returns its id. The caller is its manager and first member. */
  createGroup(name: string): Promise<string> {
    return this.#json("POST", ["group"], { query: { name } });
  }

  /** Renames a group. Only its manager may. */
  renameGroup(groupId: string, name: string): Promise<void> {
    return this.#void("PUT", ["group", groupId], { query: { name } });
  }

  /** Hands a group over to a member, who is then its manager. Only its manager may. */
  handOver(groupId: string, managerId: string): Promise<void> {
    return this.#void("PUT", ["group", groupId], { query: { managerId } });
  }

  /**
   * Refuses the messages of a member to a group for 1 to 43,200 minutes. Only the manager may. The sends of the member
   * reject with `muted`.
   */
  mute(groupId: string, userId: string, minutes: number): Promise<void> {
    return this.#void("PUT", ["group", groupId, "mute"], { query: { userId, minutes: String(minutes) } });
  }

  /** Ends a mute. Only the manager of the group may. */
  unmute(groupId: string, userId: string): Promise<void> {
    return this.#void("DELETE", ["group", groupId, "mute"], { query: { userId } });
  }

  /** Returns a group of the caller. */
  group(groupId: string): Promise<Group> {
    return this.#json("GET", ["group", groupId]);
  }

  /** Returns the groups of the caller. */
  groups(): Promise<Group[]> {
    return this.#json("GET", ["group"]);
  }

  /** Returns the ids of the caller's groups. */
  groupIds(): Promise<string[]> {
    return this.#json("GET", ["group"], { query: { detailed: "false" } });
  }

  /** Leaves a group. If the manager leaves, the group is dissolved. */
  leaveGroup(groupId: string): Promise<void> {
    return this.#void("DELETE", ["group", groupId]);
  }

  /** Removes a member from a group. Only its manager may. */
  removeMember(groupId: string, userId: string): Promise<void> {
    return this.#void("DELETE", ["group", groupId], { query: { userId } });
  }

  /** Invites a user to a group of the caller. */
  invite(groupId: string, userId: string): Promise<void> {
    return this.#void("POST", ["request"], { body: { groupId, userId } });
  }

  /** Returns the invitations to the caller. */
  invitations(): Promise<Invitation[]> {
    return this.#json("GET", ["request"]);
  }

  /** Accepts an invitation. The caller is then a member. */
  acceptInvitation(invitationId: string): Promise<void> {
    return this.#void("PUT", ["request", invitationId]);
  }

  /** Declines an invitation. */
  declineInvitation(invitationId: string): Promise<void> {
    return this.#void("DELETE", ["request", invitationId]);
  }

  /** Returns what was said in a conversation, the caller's own messages among it. */
  async history(of: ConversationAddress, { before, after, limit }: HistoryOptions = {}): Promise<HistoryPage<C>> {
    const query = { ...of, before, after, limit: limit?.toString() };
    const answer = await this.#call("GET", ["history"], { query });
    return { messages: parse<HistoryMessage<C>[]>(answer.text), ...more(answer) };
  }

  /** Returns up to 100 conversations: with the caller's friends, and of the caller's groups. */
  async conversations({ after }: { after?: string | undefined } = {}): Promise<ConversationsPage<C>> {
    const answer = await this.#call("GET", ["conversation"], { query: { after } });
    return { conversations: parse<Conversation<C>[]>(answer.text), ...more(answer) };
  }

  /** Marks a conversation as read up to a message, on all devices of the caller. An earlier mark changes nothing. */
  markRead(of: ConversationAddress, until: string): Promise<void> {
    return this.#void("PUT", ["read"], { query: { ...of, until } });
  }

  /**
   * Recalls a message, for everybody. Its sender may for some time, and the manager of its group at any time. A message
   * that was recalled before is no error.
   */
  recall(id: string, to: Address): Promise<void> {
    return this.#void("DELETE", ["message", id], { query: { ...to } });
  }

  /** Sends an encoded message once. `ChatClient.sendByRest` encodes and repeats. */
  postMessage(text: string, signal?: AbortSignal): Promise<Receipt> {
    return this.#json("POST", ["message"], { text, signal });
  }

  /**
   * Returns a page of messages. They stay on the server until the page is dropped. The client calls this by itself. The
   * page has a token if it has messages or a next page. Pages for `since`, and those of older servers, have none.
   */
  async pull({ after, since, recalls: withRecalls = false, signal }: PullOptions = {}): Promise<Page<C>> {
    const query = { drop: "false", after, since, version: withRecalls ? "2" : undefined };
    const { text, headers } = await this.#call("GET", ["message"], { query, signal });
    const senders = parse<FromSender[]>(text);
    const all: unknown[] = Array.isArray(senders) ? senders.flatMap((sender) => sender?.messages) : [undefined];
    // The answer is sorted by time, and grouped by sender.
    const messages = all.filter(isMessage).sort(byPlace) as Message<C>[];
    const recalls = all.filter(isRecalled).sort(byPlace);
    if (messages.length + recalls.length < all.length) {
      throw new ChatError("network", "the answer to a pull is not a list of messages", { status: 200 });
    }
    const token = headers.get("x-page") || undefined;
    if (headers.get("x-has-more") !== "true") return { messages, recalls, next: undefined, token };
    // Without `X-Next`, as from an older server, the next page begins after the last message.
    const next = headers.get("x-next") ?? messages[messages.length - 1]?.id ?? "";
    if (next <= (after ?? since ?? "")) throw new ChatError("network", "the answer to a pull has no valid next page");
    return { messages, recalls, next, token };
  }

  /**
   * Drops the messages of these pages, and no others. Takes the tokens of 1 to 20 pages, in the order of their pulls.
   * The client calls this by itself. Rejects with status 403 if a token is wrong or expired, and with 409 if earlier
   * pages must be dropped first. Then no page is dropped.
   */
  drop(tokens: readonly string[], signal?: AbortSignal): Promise<void> {
    return this.#void("DELETE", ["message"], { query: { page: tokens }, signal });
  }

  async #json<T>(method: string, path: string[], call: Call = {}): Promise<T> {
    return parse<T>((await this.#call(method, path, call)).text);
  }

  async #void(method: string, path: string[], call: Call = {}): Promise<void> {
    await this.#call(method, path, call);
  }

  /** Calls the API. If the token is refused, calls once more with a new one. */
  async #call(method: string, path: string[], call: Call): Promise<Answer> {
    const { tokens } = this.#settings;
    const token = await tokens.current();
    try {
      return await this.#attempt(method, path, call, token);
    } catch (error) {
      if (!(error instanceof ChatError && error.code === "unauthorized")) throw error;
    }
    return this.#attempt(method, path, call, await tokens.instead(token));
  }

  async #attempt(method: string, path: string[], call: Call, token: string): Promise<Answer> {
    const { clock, requestMs, fetch, serverTime, refused, debug } = this.#settings;
    // Never the query: it has names, and tokens of pages.
    const what = `${method} /api/${path.join("/")}`;
    const startedAt = clock.now();
    const abort = new AbortController();
    const cancel = () => abort.abort();
    call.signal?.addEventListener("abort", cancel);
    const deadline = clock.after(requestMs, cancel);
    try {
      if (call.signal?.aborted) throw new Error("the call was cancelled");
      const headers: Record<string, string> = { authorization: `Bearer ${token}` };
      const init: RequestInit = { method, headers, signal: abort.signal, cache: "no-store" };
      const body = call.text ?? JSON.stringify(call.body);
      if (body !== undefined) {
        headers["content-type"] = "application/json";
        init.body = body;
      }
      const response = await fetch(this.#address(path, call.query ?? {}), init);
      const text = await response.text();
      debug?.(`${what}: status ${response.status} after ${clock.now() - startedAt} ms`);
      const date = Date.parse(response.headers.get("date") ?? "");
      if (!Number.isNaN(date)) serverTime?.(date);
      if (response.ok) return { text, headers: response.headers };
      const error = refusal(response.status, text, waitMs(response.headers, clock.now()));
      refused?.(error);
      throw error;
    } catch (thrown) {
      if (thrown instanceof ChatError) throw thrown;
      debug?.(`${what}: no answer after ${clock.now() - startedAt} ms`);
      throw new ChatError("network", `${method} /api/${path[0]} was not answered`, { cause: thrown });
    } finally {
      deadline.cancel();
      call.signal?.removeEventListener("abort", cancel);
    }
  }

  #address(path: string[], query: Query): string {
    // React Native's URLSearchParams takes no pairs.
    const pairs = Object.entries(query).flatMap(([name, value = []]) =>
      [value].flat().map((one) => `${name}=${encode(one)}`),
    );
    const address = [this.#settings.url, "api", ...path.map(encode)].join("/");
    return pairs.length === 0 ? address : `${address}?${pairs.join("&")}`;
  }
}

function encode(text: string): string {
  try {
    return encodeURIComponent(text);
  } catch {
    throw new ChatError("bad_request", "an id or a name has half of a surrogate pair: do not cut text within an emoji");
  }
}

/** Returns where a list goes on after this answer. */
function more({ headers }: Answer): More {
  if (headers.get("x-has-more") !== "true") return { hasMore: false, next: undefined };
  const next = headers.get("x-next");
  if (next === null) throw new ChatError("network", "the answer has more, but does not say where");
  return { hasMore: true, next };
}

/**
 * Returns the error for an answer that is not 2xx. Its text comes from the problem document, and so does its code where
 * the document has one.
 */
function refusal(status: number, text: string, waitMs: number | undefined): ChatError {
  const codes: Record<number, ErrorCode> = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "unavailable",
  };
  let problem: Partial<Problem> = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // A proxy on the way answered in another format.
  }
  const { until, retryAfterMs = waitMs } = problem;
  const byStatus = codes[status] ?? (status >= 500 ? "unavailable" : "rejected");
  const code = typeof problem.code === "string" ? problem.code : byStatus;
  return new ChatError(code, problem.detail ?? problem.message ?? `status ${status}`, { status, retryAfterMs, until });
}

/**
 * Returns the wait that `Retry-After` asks for. The header has seconds, or a time by the server's clock. NaN if it is
 * neither.
 */
function waitMs(headers: Headers, now: number): number | undefined {
  const text = headers.get("retry-after");
  if (text === null) return undefined;
  const seconds = Number(text);
  const ms = Number.isNaN(seconds) ? Date.parse(text) - (Date.parse(headers.get("date") ?? "") || now) : seconds * 1000;
  return Math.max(ms, 0);
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new ChatError("network", "the answer is not JSON", { cause, status: 200 });
  }
}

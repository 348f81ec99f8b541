/** The REST API. */

import { within, type Clock } from "./clock.js";
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
import { escaped, type Address } from "./submission.js";
import type { Timing } from "./timing.js";
import type { Tokens } from "./tokens.js";

export interface ApiSettings {
  /** The base address of `/api`. */
  url: string;
  tokens: Tokens;
  clock: Clock;
  timing: Pick<Timing, "requestMs">;
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
  after?: string | undefined;
  /** Returns all messages after this id, missed or not. */
  since?: string | undefined;
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
type Query = Record<string, string | number | readonly string[] | undefined>;

/** One call. Its body is JSON. */
type Call = [
  method: string,
  path: string[],
  query?: Query,
  body?: string | null | undefined,
  signal?: AbortSignal | undefined,
];

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
  /** Where the next page begins. */
  next: string | undefined;
  /** The token that drops this page. */
  token: string | undefined;
}

/** The codes of errors whose problem document has none. */
const CODES: Record<number, ErrorCode> = {
  400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "unavailable",
};

/** The calls of the REST API. Every method rejects with a `ChatError`. No method repeats a failed call. */
export type ChatApi<C extends AnyContent = Content> = ReturnType<typeof createApi<C>>;

export function createApi<C extends AnyContent = Content>(settings: ApiSettings) {
  const { tokens, clock, debug } = settings;

  const attempt = async (token: string, ...[method, path, query = {}, body = null, signal]: Call): Promise<Answer> => {
    // Never the query: it has names, and tokens of pages.
    const what = `${method} /api/${path.join("/")}`;
    const startedAt = clock.now();
    const told = (how: string) => debug?.(`${what}: ${how} after ${clock.now() - startedAt} ms`);
    const abort = new AbortController();
    const cancel = within(clock, settings.timing.requestMs, signal, () => abort.abort());
    try {
      // A `fetch` of the application may ignore signals.
      if (abort.signal.aborted) throw new Error("cancelled");
      // React Native's URLSearchParams takes no pairs.
      const pairs = Object.entries(query).flatMap(([name, value]) =>
        [value ?? []].flat().map((one) => `${name}=${escaped(one)}`),
      );
      const address = [settings.url, "api", ...path.map(escaped)].join("/");
      const response = await settings.fetch(pairs.length ? `${address}?${pairs.join("&")}` : address, {
        method,
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body,
        signal: abort.signal,
        cache: "no-store",
      });
      const text = await response.text();
      const { status } = response;
      told(`status ${status}`);
      const header = (name: string) => response.headers.get(name) ?? "";
      const date = Date.parse(header("date"));
      if (date) settings.serverTime?.(date);
      if (response.ok) {
        const next = header("x-has-more") === "true" ? header("x-next") : undefined;
        if (next === "") throw invalid();
        return { text, next, token: header("x-page") || undefined };
      }
      let problem: Partial<Problem> = {};
      try {
        problem = JSON.parse(text) ?? {};
      } catch {
        // A proxy on the way answered in another format.
      }
      const { code, until, detail, message = `status ${status}` } = problem;
      // The header has seconds, or a time by the server's clock.
      const wait = header("retry-after");
      const waitMs = Math.max(Number(wait) * 1_000 || Date.parse(wait) - (date || clock.now()), 0);
      const error = new ChatError(
        typeof code === "string" ? code : (CODES[status] ?? (status >= 500 ? "unavailable" : "rejected")),
        detail ?? message,
        { status, until, retryAfterMs: problem.retryAfterMs ?? waitMs },
      );
      settings.refused?.(error);
      throw error;
    } catch (cause) {
      if (cause instanceof ChatError) throw cause;
      told("no answer");
      throw new ChatError("network", `${what} was not answered`, { cause });
    } finally {
      cancel();
    }
  };

  /** Calls the API. If the token is refused, calls once more with a new one. */
  const request = async (...call: Call): Promise<Answer> => {
    const token = await tokens.current();
    try {
      return await attempt(token, ...call);
    } catch (error) {
      if ((error as ChatError).code !== "unauthorized") throw error;
    }
    return attempt(await tokens.instead(token), ...call);
  };

  const json = async <T>(...call: Call): Promise<T> => parse<T>((await request(...call)).text);

  const list = async <T extends More>(name: Exclude<keyof T, keyof More>, ...call: Call): Promise<T> => {
    const { text, next } = await request(...call);
    return { [name]: parse(text), hasMore: !!next, next } as unknown as T;
  };

  const done = async (...call: Call): Promise<void> => void (await request(...call));

  return {
    /** Creates a group, and returns its id. The caller is its manager and first member. */
    createGroup: (name: string) => json<string>("POST", ["group"], { name }),

    /** Renames a group. Only its manager may. */
    renameGroup: (groupId: string, name: string) => done("PUT", ["group", groupId], { name }),

    /** Hands a group over to a member, who is then its manager. Only its manager may. */
    handOver: (groupId: string, managerId: string) => done("PUT", ["group", groupId], { managerId }),

    /**
     * Refuses the messages of a member to a group for 1 to 43,200 minutes. Only the manager may. The sends of the
     * member reject with `muted`.
     */
    mute: (groupId: string, userId: string, minutes: number) =>
      done("PUT", ["group", groupId, "mute"], { userId, minutes }),

    /** Ends a mute. Only the manager of the group may. */
    unmute: (groupId: string, userId: string) => done("DELETE", ["group", groupId, "mute"], { userId }),

    /** Returns a group of the caller. */
    group: (groupId: string) => json<Group>("GET", ["group", groupId]),

    /** Returns the groups of the caller. */
    groups: () => json<Group[]>("GET", ["group"]),

    /** Returns the ids of the caller's groups. */
    groupIds: () => json<string[]>("GET", ["group"], { detailed: "false" }),

    /** Leaves a group. If the manager leaves, the group is dissolved. */
    leaveGroup: (groupId: string) => done("DELETE", ["group", groupId]),

    /** Removes a member from a group. Only its manager may. */
    removeMember: (groupId: string, userId: string) => done("DELETE", ["group", groupId], { userId }),

    /** Invites a user to a group of the caller. */
    invite: (groupId: string, userId: string) => done("POST", ["request"], {}, JSON.stringify({ groupId, userId })),

    /** Returns the invitations to the caller. */
    invitations: () => json<Invitation[]>("GET", ["request"]),

    /** Accepts an invitation. The caller is then a member. */
    acceptInvitation: (invitationId: string) => done("PUT", ["request", invitationId]),

    /** Declines an invitation. */
    declineInvitation: (invitationId: string) => done("DELETE", ["request", invitationId]),

    /** Returns what was said in a conversation, the caller's own messages among it. */
    history: (of: ConversationAddress, options: HistoryOptions = {}) =>
      list<HistoryPage<C>>("messages", "GET", ["history"], { ...of, ...options }),

    /** Returns up to 100 conversations: with the caller's friends, and of the caller's groups. */
    conversations: (options: { after?: string | undefined } = {}) =>
      list<ConversationsPage<C>>("conversations", "GET", ["conversation"], options),

    /** Marks a conversation as read up to a message, on all devices of the caller. An earlier mark changes nothing. */
    markRead: (of: ConversationAddress, until: string) => done("PUT", ["read"], { ...of, until }),

    /**
     * Recalls a message, for everybody. Its sender may for some time, and the manager of its group at any time. A
     * message that was recalled before is no error.
     */
    recall: (id: string, to: Address) => done("DELETE", ["message", id], to),

    /** Sends an encoded message once. `ChatClient.sendByRest` encodes and repeats. */
    postMessage: (text: string, signal?: AbortSignal) => json<Receipt>("POST", ["message"], {}, text, signal),

    /**
     * Returns a page of messages. They stay on the server until the page is dropped. The client calls this by itself.
     * The page has a token if it has messages or a next page. Pages for `since` have none.
     */
    async pull({ after, since, recalls: withRecalls, signal }: PullOptions = {}): Promise<Page<C>> {
      const query = { drop: "false", after, since, version: withRecalls ? 2 : undefined };
      const { text, next, token } = await request("GET", ["message"], query, undefined, signal);
      const all = [parse<FromSender[]>(text)].flat().flatMap((sender): unknown => sender?.messages);
      // The answer is sorted by time, and grouped by sender.
      const messages = all.filter(isMessage).sort(byPlace) as Message<C>[];
      const recalls = all.filter(isRecalled).sort(byPlace);
      if (messages.length + recalls.length < all.length) throw invalid();
      if (next !== undefined && next <= (after ?? since ?? "")) throw invalid();
      return { messages, recalls, next, token };
    },

    /**
     * Drops the messages of these pages, and no others. Takes the tokens of 1 to 20 pages, in the order of their pulls.
     * The client calls this by itself. Rejects with status 403 if a token is wrong or expired, and with 409 if earlier
     * pages must be dropped first. Then no page is dropped.
     */
    drop: (page: readonly string[], signal?: AbortSignal) => done("DELETE", ["message"], { page }, undefined, signal),
  };
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw invalid(cause);
  }
}

/** The error of an answer with status 2xx that does not come from a chat server. */
function invalid(cause?: unknown): ChatError {
  return new ChatError("network", "the answer is not what a chat server says", { cause, status: 200 });
}

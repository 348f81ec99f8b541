/** The pull after a connection opens: missed messages, and messages that a dead connection may have received. */

import type { ChatApi, Page } from "./api.js";
import { closed, type ChatError } from "./errors.js";
import type { Inbox } from "./inbox.js";
import { byPlace, placeOf } from "./place.js";
import type { LogEntry, Version } from "./protocol.js";

/** The number of pages that one call drops at most. */
const MAX_PAGES = 20;

/**
 * Drops pages of missed messages, in the order in which they were pulled. If a page is dropped out of this order, the
 * server remembers each of its messages, and it has limited room for that.
 *
 * The function takes the next page when the application has all its messages. An empty page waits for the next page
 * that has messages, or for the last page, and is dropped in the same call. A page without a token is not dropped.
 */
export function createDropper(api: Pick<ChatApi, "drop">, signal: AbortSignal) {
  /** The tokens of the pages to drop with the next call. */
  let tokens: string[] = [];
  return async ({ messages, next, token }: Page): Promise<void> => {
    if (token) tokens.push(token);
    if (!tokens.length || (!messages.length && next && tokens.length < MAX_PAGES)) return;
    const all = tokens;
    tokens = [];
    try {
      await api.drop(all, signal);
    } catch (error) {
      // A refused drop is no error: 403 if a token has expired, 409 if the server has no room. The messages then stay
      // missed. The next pull returns them again with a new token, and the inbox drops the repeats.
      if (![403, 409].includes((error as ChatError).status!)) throw error;
    }
  };
}

/**
 * Reads missed messages, and with `since` also everything after this id, with recalls if `version` has them.
 *
 * Reads both sources page by page, and delivers messages in the order of ids. A page of missed messages is dropped when
 * the application has all its messages. Rejects if a call fails or the signal is aborted. Then nothing more is
 * delivered, and delivered messages may be read again.
 */
export async function catchUp(
  api: Pick<ChatApi, "pull" | "drop">,
  inbox: Inbox,
  since: string | undefined,
  version: Version,
  signal: AbortSignal,
): Promise<void> {
  /** Resolves when the application has all entries so far. */
  let taken: Promise<unknown> | undefined;
  const ready = async (): Promise<void> => {
    await taken;
    if (signal.aborted) throw closed();
  };
  // Missed messages are read first. Everything older than a missed message is then in the log.
  const sources = [entries(undefined, (after) => api.pull({ after, signal }), ready, createDropper(api, signal))];
  if (since !== undefined) {
    const read = (since: string | undefined) => api.pull({ since, recalls: version === 2, signal });
    const given = async ({ next }: Page, last?: LogEntry) => inbox.advance(next ?? (last ? placeOf(last) : ""));
    sources.push(entries(since, read, ready, given));
  }
  /** The next entry of each source that has one. */
  const heads: { source: Source; entry: LogEntry }[] = [];
  const advance = async (source: Source): Promise<void> => {
    const { value: entry } = await source.next();
    if (entry) heads.push({ source, entry });
  };
  for (const source of sources) await advance(source);
  for (;;) {
    const first = heads.sort((a, b) => byPlace(a.entry, b.entry)).shift();
    if (!first) return;
    if (signal.aborted) throw closed();
    // Not one by one: a pushed message would overtake the rest of a page if the application is slow.
    taken = inbox.pull(first.entry);
    await advance(first.source);
  }
}

type Source = AsyncGenerator<LogEntry, void>;

/** Yields the entries of all pages. `given` is called when those of a page were taken, which `ready` waits for. */
async function* entries(
  next: string | undefined,
  read: (next: string | undefined) => Promise<Page>,
  ready: () => Promise<void>,
  given: (page: Page, last: LogEntry | undefined) => Promise<void>,
): Source {
  do {
    const page = await read(next);
    const all = [...page.messages, ...page.recalls].sort(byPlace);
    yield* all;
    await ready();
    await given(page, all.pop());
    next = page.next;
  } while (next !== undefined);
}

/** The pull after a connection opens: missed messages, and messages that a dead connection may have received. */

import type { ChatApi, Page } from "./api.js";
import { ChatError } from "./errors.js";
import type { Inbox } from "./inbox.js";
import { byPlace, placeOf } from "./place.js";
import type { LogEntry } from "./protocol.js";

export interface CatchUp {
  api: Pick<ChatApi, "pull" | "drop">;
  inbox: Inbox;
  /** Also read everything after this id, missed or not. If undefined, only missed messages are read. */
  since: string | undefined;
  /** Also read recalls, in their places among the messages after `since`. */
  recalls: boolean;
  signal: AbortSignal;
}

/** The number of pages that one call drops at most. */
const MAX_PAGES = 20;

/**
 * Drops pages of missed messages, in the order in which they were pulled. If a page is dropped out of this order, the
 * server remembers each of its messages, and it has limited room for that.
 */
export class Dropper {
  readonly #api: Pick<ChatApi, "drop">;
  readonly #signal: AbortSignal;
  /** The tokens of the pages to drop with the next call. */
  #tokens: string[] = [];

  constructor(api: Pick<ChatApi, "drop">, signal: AbortSignal) {
    this.#api = api;
    this.#signal = signal;
  }

  /**
   * Takes the next page when the application has all its messages. An empty page waits for the next page that has
   * messages, or for the last page, and is dropped in the same call. A page without a token is not dropped.
   */
  async add({ messages, next, token }: Page): Promise<void> {
    if (token !== undefined) this.#tokens.push(token);
    const isComplete = messages.length > 0 || next === undefined || this.#tokens.length === MAX_PAGES;
    if (isComplete && this.#tokens.length > 0) await this.#drop(this.#tokens.splice(0));
  }

  /**
   * A refused drop is no error: 403 if a token has expired, 409 if the server has no room. The messages then stay
   * missed. The next pull returns them again with a new token, and the inbox drops the repeats.
   */
  async #drop(tokens: string[]): Promise<void> {
    try {
      await this.#api.drop(tokens, this.#signal);
    } catch (error) {
      const isRefused = error instanceof ChatError && (error.status === 403 || error.status === 409);
      if (!isRefused) throw error;
    }
  }
}

/**
 * Reads both sources page by page, and delivers messages in the order of ids. A page of missed messages is dropped when
 * the application has all its messages. Rejects if a call fails or the signal is aborted. Then nothing more is
 * delivered, and delivered messages may be read again.
 */
export async function catchUp({ api, inbox, since, recalls, signal }: CatchUp): Promise<void> {
  const dropper = new Dropper(api, signal);
  const missed = entries(
    undefined,
    (next) => api.pull(next === undefined ? { signal } : { after: next, signal }),
    (page) => dropper.add(page),
  );
  const all = entries(
    since,
    (next) => api.pull({ since: next ?? "", recalls, signal }),
    async ({ next }, last) => inbox.advance(next ?? (last ? placeOf(last) : "")),
  );
  const heads: Head[] = [];
  // Missed messages are read first. Everything older than a missed message is then in the log.
  for (const source of since === undefined ? [missed] : [missed, all]) await advance(heads, source);
  for (;;) {
    const first = heads.reduce<Head | undefined>((a, b) => (a && !isBefore(b, a) ? a : b), undefined);
    if (first === undefined) return;
    if (signal.aborted) throw new Error("the catch-up was cancelled");
    const given = inbox.pull(first.step.entry);
    if (first.step.endsPage) {
      await given;
      await first.step.endsPage();
    }
    heads.splice(heads.indexOf(first), 1);
    await advance(heads, first.source);
  }
}

interface Step {
  entry: LogEntry;
  /** Called when the last entry of a page has been delivered. */
  endsPage: (() => Promise<void>) | undefined;
}

type Source = AsyncGenerator<Step, void>;

/** A source and its next step. */
interface Head {
  source: Source;
  step: Step;
}

function isBefore(a: Head, b: Head): boolean {
  return placeOf(a.step.entry) < placeOf(b.step.entry);
}

async function advance(heads: Head[], source: Source): Promise<void> {
  const { done, value } = await source.next();
  if (!done) heads.push({ source, step: value });
}

async function* entries(
  start: string | undefined,
  read: (next: string | undefined) => Promise<Page>,
  given: (page: Page, last: LogEntry | undefined) => Promise<void>,
): Source {
  let next = start;
  do {
    const page = await read(next);
    const all = [...page.messages, ...page.recalls].sort(byPlace);
    const last = all[all.length - 1];
    const endsPage = () => given(page, last);
    for (const entry of all) yield { entry, endsPage: entry === last ? endsPage : undefined };
    if (last === undefined) await endsPage();
    next = page.next;
  } while (next !== undefined);
}

/** The pull after a connection is opened: missed messages, and messages that a dead connection may have received. */

import type { ChatApi, Page } from "./api.js";
import type { Inbox } from "./inbox.js";
import type { Message } from "./protocol.js";

export interface CatchUp {
  api: Pick<ChatApi, "pull" | "drop">;
  inbox: Inbox;
  /** Also read everything after this id, missed or not. If undefined, only missed messages are read. */
  since: string | undefined;
  signal: AbortSignal;
}

/**
 * Reads both sources page by page, and delivers messages in the order of ids. A page of missed messages is dropped when
 * the application has it. For an empty page nothing is dropped. Rejects if a call fails or the signal is aborted. Then
 * nothing more is delivered, and messages that were delivered may be read again.
 */
export async function catchUp({ api, inbox, since, signal }: CatchUp): Promise<void> {
  const missed = entries(
    undefined,
    (next) => api.pull(next === undefined ? { signal } : { after: next, signal }),
    async (_, last) => {
      if (last !== undefined) await api.drop(last.id, signal);
    },
  );
  const all = entries(
    since,
    (next) => api.pull({ since: next ?? "", signal }),
    async ({ next }, last) => inbox.advance(next ?? last?.id ?? ""),
  );
  const heads: Head[] = [];
  // One after the other, because the server remembers what a pull has shown. Missed messages come first: everything
  // older than a missed message is then in the log.
  for (const source of since === undefined ? [missed] : [missed, all]) await advance(heads, source);
  for (;;) {
    const first = heads.reduce<Head | undefined>((a, b) => (a === undefined || idOf(b) < idOf(a) ? b : a), undefined);
    if (first === undefined) return;
    signal.throwIfAborted();
    const given = inbox.pull(first.entry.message);
    if (first.entry.endsPage) {
      await given;
      await first.entry.endsPage();
    }
    heads.splice(heads.indexOf(first), 1);
    await advance(heads, first.source);
  }
}

interface Entry {
  message: Message;
  /** Called when the last message of a page has been delivered. */
  endsPage: (() => Promise<void>) | undefined;
}

type Source = AsyncGenerator<Entry, void>;

/** A source and its next message. */
interface Head {
  source: Source;
  entry: Entry;
}

function idOf(head: Head): string {
  return head.entry.message.id;
}

async function advance(heads: Head[], source: Source): Promise<void> {
  const step = await source.next();
  if (!step.done) heads.push({ source, entry: step.value });
}

async function* entries(
  start: string | undefined,
  read: (next: string | undefined) => Promise<Page>,
  given: (page: Page, last: Message | undefined) => Promise<void>,
): Source {
  let next = start;
  do {
    const page = await read(next);
    const last = page.messages.at(-1);
    const endsPage = () => given(page, last);
    for (const message of page.messages) yield { message, endsPage: message === last ? endsPage : undefined };
    if (last === undefined) await endsPage();
    next = page.next;
  } while (next !== undefined);
}

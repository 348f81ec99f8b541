/** The pull after a connection was opened: what was missed, and what a dead connection may have taken. */

import type { ChatApi, Page } from "./api.js";
import type { Inbox } from "./inbox.js";
import type { Message } from "./protocol.js";

export interface CatchUp {
  api: Pick<ChatApi, "pull" | "drop">;
  inbox: Inbox;
  /** Read everything behind this id too, missed or not; undefined for missed messages only. */
  since: string | undefined;
  signal: AbortSignal;
}

/**
 * Read both, each page by page, and give messages on in the order of ids. A page of missed messages is dropped when the
 * application has it. Rejects if a call fails or the signal is aborted, after which nothing is given on; what was given
 * on until then may be read again.
 */
export async function catchUp({ api, inbox, since, signal }: CatchUp): Promise<void> {
  const missed = entries(
    undefined,
    (last) => api.pull(last === undefined ? { signal } : { after: last, signal }),
    (last) => api.drop(last, signal),
  );
  const all = entries(
    since,
    (last) => api.pull({ since: last ?? "", signal }),
    async (last) => inbox.advance(last),
  );
  const heads: Head[] = [];
  // One after the other: a pull remembers on the server what it has shown. This one first: whatever is older than a
  // missed message is in the log by now.
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
  /** To be called when the last message of a page has been given on. */
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
  read: (last: string | undefined) => Promise<Page>,
  given: (last: string) => Promise<void>,
): Source {
  let last = start;
  for (;;) {
    const page = await read(last);
    const end = page.messages.at(-1)?.id;
    for (const message of page.messages) {
      yield { message, endsPage: end === message.id ? () => given(end) : undefined };
    }
    const next = page.next ?? end;
    // A server that does not get on is asked no more.
    if (!page.more || next === undefined || (last !== undefined && next <= last)) return;
    last = next;
  }
}

/**
 * The messages of a chat, sorted by id, in chunks. The page draws a chunk again only if it has changed, and draws only
 * those near the screen.
 */

import type { HistoryMessage, RecalledFrame } from "serverless-chat-client";

/** Some messages that follow each other. Never empty. */
export type Chunk = readonly HistoryMessage[];

export type Log = readonly Chunk[];

/** A message at the end begins a new chunk if the last one has this many. */
const CHUNK_LENGTH = 50;

export const oldest = (log: Log): HistoryMessage | undefined => log[0]?.[0];
export const newest = (log: Log): HistoryMessage | undefined => log.at(-1)?.at(-1);

/**
 * Adds messages that are sorted by id. A message that is there already is replaced only by its recall. Returns the same
 * log if nothing changes.
 */
export function insert(log: Log, messages: readonly HistoryMessage[]): Log {
  const first = messages[0];
  const last = messages.at(-1);
  if (first === undefined || last === undefined) return log;
  const start = oldest(log);
  if (start === undefined || last.id < start.id) return [...cut(messages), ...log];
  return messages.reduce(insertOne, log);
}

function cut(messages: readonly HistoryMessage[]): Chunk[] {
  const count = Math.ceil(messages.length / CHUNK_LENGTH);
  // The first chunk is the short one, so that the last has room only if it is the only one.
  const rest = messages.length - (count - 1) * CHUNK_LENGTH;
  return Array.from({ length: count }, (_, index) =>
    messages.slice(Math.max(0, rest + (index - 1) * CHUNK_LENGTH), rest + index * CHUNK_LENGTH),
  );
}

function insertOne(log: Log, message: HistoryMessage): Log {
  const chunk = log.at(-1) ?? [];
  if (message.id > (chunk.at(-1)?.id ?? "")) {
    if (chunk.length >= CHUNK_LENGTH) return [...log, [message]];
    return [...log.slice(0, -1), [...chunk, message]];
  }
  const at = Math.max(0, log.findLastIndex((chunk) => (chunk[0]?.id ?? "") <= message.id));
  const before = log[at] ?? [];
  const after = insertInto(before, message);
  return after === before ? log : log.map((chunk, index) => (index === at ? after : chunk));
}

function insertInto(chunk: Chunk, message: HistoryMessage): Chunk {
  const at = chunk.findIndex(({ id }) => id >= message.id);
  if (at < 0) return [...chunk, message];
  const there = chunk[at];
  if (there?.id !== message.id) return chunk.toSpliced(at, 0, message);
  const isNews = message.recalledAt !== undefined && there.recalledAt === undefined;
  return isNews ? chunk.with(at, message) : chunk;
}

/** A message without its content, since it was recalled. */
export function recalled({ content: _, ...message }: HistoryMessage, recalledAt: number): HistoryMessage {
  return { ...message, recalledAt } as HistoryMessage;
}

/** Applies a recall. */
export function recall(log: Log, { id, timestamp }: RecalledFrame): Log {
  const message = find(log, id);
  if (message === undefined || message.recalledAt !== undefined) return log;
  return insertOne(log, recalled(message, timestamp));
}

/** Finds a message by its id. */
export function find(log: Log, id: string): HistoryMessage | undefined {
  return log.findLast((chunk) => (chunk[0]?.id ?? "") <= id)?.find((message) => message.id === id);
}

/** The number of messages of others after an id. */
export function countAfter(log: Log, until: string, me: string): number {
  let count = 0;
  for (const chunk of log) {
    if ((chunk.at(-1)?.id ?? "") <= until) continue;
    count += chunk.filter(({ id, senderId, recalledAt }) => id > until && senderId !== me && !recalledAt).length;
  }
  return count;
}

/** The first message of others after an id. */
export function firstAfter(log: Log, until: string, me: string): HistoryMessage | undefined {
  const chunks = log.filter((chunk) => (chunk.at(-1)?.id ?? "") > until);
  return chunks.flat().find(({ id, senderId }) => id > until && senderId !== me);
}

/** The callbacks and listeners of the application: what it is told, and the messages and recalls that it must take. */

import { backoffMs, sleep, type Clock, type Repeats } from "./clock.js";
import type { ChatEvents, ClientOptions, Listener } from "./client.js";
import { because, type ChatError } from "./errors.js";
import type { Inbox } from "./inbox.js";
import { isRecall } from "./place.js";
import type { AnyContent, LogEntry } from "./protocol.js";

export interface EventsSettings extends Repeats {
  clock: Clock;
  /** Returns the signal after whose abort nothing is given again. */
  signal: () => AbortSignal;
  debug?: ((line: string) => void) | undefined;
}

/** Makes the events of a client with these options. */
export function createEvents<C extends AnyContent>(settings: EventsSettings, options: Partial<ClientOptions<C>>) {
  const listeners = new Map<string, Set<Listener<any>>>();
  let queue = Promise.resolve();
  let waiting = 0;

  /** The callback of the options is the first. */
  const handlersOf = (event: string): Listener<any>[] => {
    const name = `on${event.replace(/./, (first) => first.toUpperCase())}` as "onState";
    return [(options[name] as Listener<any> | undefined) ?? [], ...(listeners.get(event) ?? [])].flat();
  };

  const off = <E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): void => {
    listeners.get(event)?.delete(listener);
  };

  const tell = (error: ChatError): void => {
    // Its text may be of the application, so it may have a token.
    settings.debug?.(`error ${error.code}`);
    for (const handle of handlersOf("error")) {
      try {
        void handle(error);
      } catch (thrown) {
        // There is no handler left for this error, so it becomes an uncaught error.
        setTimeout(() => {
          throw thrown;
        });
      }
    }
  };

  const untilTaken = async (
    entry: LogEntry,
    inbox: Pick<Inbox, "isRecalled" | "forget">,
    signal: AbortSignal,
  ): Promise<void> => {
    /** Who has taken it. If another one throws, these do not get it again. */
    const takers = new Set<unknown>();
    for (let attempt = 0; ; attempt++) {
      const failures: unknown[] = [];
      for (const take of handlersOf(isRecall(entry) ? "recalled" : "message")) {
        if (takers.has(take)) continue;
        // It may have been recalled while it waited.
        if (!isRecall(entry) && inbox.isRecalled(entry.id)) return;
        try {
          await take(entry);
          takers.add(take);
        } catch (thrown) {
          failures.push(thrown);
        }
      }
      if (!failures.length) return;
      tell(because("handler", failures[0]));
      if (signal.aborted) return inbox.forget(entry);
      await sleep(settings.clock, backoffMs(settings, attempt), signal);
    }
  };

  return {
    /** Tells an error that no promise reports. */
    tell,

    on<E extends keyof ChatEvents<C>>(event: E, listener: Listener<ChatEvents<C>[E]>): () => void {
      listeners.set(event, (listeners.get(event) ?? new Set()).add(listener));
      return () => off(event, listener);
    },

    off,

    emit<E extends keyof ChatEvents<C>>(event: E, value: ChatEvents<C>[E]): void {
      for (const handle of handlersOf(event)) {
        try {
          void handle(value);
        } catch (thrown) {
          tell(because("handler", thrown));
        }
      }
    },

    /**
     * Gives an entry when all entries before it were taken, again and again until it is taken. Resolves then, or when
     * it is forgotten because the client was closed. Never rejects.
     */
    give(entry: LogEntry, inbox: Pick<Inbox, "isRecalled" | "forget">): Promise<unknown> {
      const signal = settings.signal();
      waiting++;
      return (queue = queue.then(() => untilTaken(entry, inbox, signal)).then(() => void waiting--));
    },

    /** Resolves when all entries so far were taken or forgotten. */
    taken: () => queue,

    /** Returns the number of entries that were not taken yet. */
    waiting: () => waiting,
  };
}

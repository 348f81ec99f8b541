/** Some messages that follow each other. Far from the screen, only their height is left. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { HistoryMessage } from "serverless-chat-client";
import { day, isSameDay } from "../model/dates.js";
import type { Chunk } from "../model/log.js";
import type { ChatProps } from "./chat.js";
import { MessageView } from "./message.js";

/** Calls when the element comes near the screen or leaves. Returns the function that ends it. */
export type Observe = (element: Element, call: (entry: IntersectionObserverEntry) => void) => () => void;

interface ChunkProps extends ChatProps {
  chunk: Chunk;
  /** The message before the chunk. */
  previous: HistoryMessage | undefined;
  /** The first new message, if it is in this chunk. */
  firstNew: string | undefined;
  newMessages: string;
  observe: Observe;
  jump: (id: string) => void;
}

/** Messages of one sender within this time are shown as one group. */
const TOGETHER_MS = 5 * 60_000;

export function ChunkView({ session, chat, chunk, previous, firstNew, newMessages, observe, jump }: ChunkProps) {
  const element = useRef<HTMLDivElement>(null);
  const height = useSignal<number | undefined>(undefined);
  useEffect(() => {
    const { current } = element;
    if (current === null) return;
    return observe(current, ({ isIntersecting, boundingClientRect }) => {
      const isUsed = current.contains(document.activeElement) || (getSelection()?.containsNode(current, true) ?? false);
      height.value = isIntersecting || isUsed ? undefined : boundingClientRect.height;
    });
  }, []);
  const first = chunk[0]?.id;
  if (height.value !== undefined) {
    return <div ref={element} class="chunk" data-first={first} style={{ height: `${height.value}px` }} />;
  }
  return (
    <div ref={element} class="chunk" data-first={first} style={{ height: "" }}>
      {chunk.map((message, index) => {
        const before = index === 0 ? previous : chunk[index - 1];
        const isNewDay = before === undefined || !isSameDay(before.timestamp, message.timestamp);
        const isFirstNew = message.id === firstNew;
        const isClose = before?.senderId === message.senderId && message.timestamp - before.timestamp < TOGETHER_MS;
        const isTogether = isClose && !isNewDay && !isFirstNew && before?.recalledAt === undefined;
        return [
          isNewDay && (
            <h3 key={`day ${message.id}`} class="day">
              <span>{day(message.timestamp)}</span>
            </h3>
          ),
          isFirstNew && (
            <h3 key="new" class="first-new">
              <span>{newMessages}</span>
            </h3>
          ),
          <MessageView
            key={message.id}
            session={session}
            chat={chat}
            message={message}
            isTogether={isTogether}
            jump={jump}
          />,
        ];
      })}
    </div>
  );
}

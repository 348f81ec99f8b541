/** The messages of a chat. */

import { useComputed, useSignal } from "@preact/signals";
import { useCallback, useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { firstAfter, newest, type Chunk } from "../model/log.js";
import { isGroup } from "../model/key.js";
import { notices } from "../model/notices.js";
import { words } from "../words/words.js";
import type { ChatProps } from "./chat.js";
import { ChunkView, type Observe } from "./chunk.js";
import { Icon } from "./icons.js";
import { PendingView } from "./message.js";
import { Scroller } from "./scroller.js";

/** How far beyond the screen messages are drawn. */
const DRAWN_BEYOND = "1500px 0px";

/** Where the first unread message, or a quoted one, is shown: this far below the top. */
const BELOW_TOP_PX = 100;

/** How many frames a part of the log may take until it is drawn. */
const FRAMES = 20;

export function LogView({ session, chat }: ChatProps) {
  const { messages, newMessages } = words();
  const container = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const scroller = useRef<Scroller | undefined>(undefined);
  const isAtEnd = useSignal(true);
  const isTouched = useRef(false);
  // Where the new messages begin stays marked as long as the chat is open.
  const readUntil = useRef(chat.unread.peek() > 0 ? chat.readUntil.peek() : undefined);
  const log = chat.log.value;
  const isFresh = chat.hasOlder.value !== undefined;
  const pending = useComputed(() => session.outbox.items.value.filter((item) => item.key === chat.key)).value;
  const firstNew = readUntil.current === undefined ? undefined : firstAfter(log, readUntil.current, session.me)?.id;
  const observe = useObserver(container);

  useEffect(() => {
    const made = new Scroller(container.current!, content.current!, {
      atEnd: (is) => (isAtEnd.value = is),
      seen: (id) => session.seen(chat, id),
      nearStart: () => void session.loadOlder(chat),
    });
    scroller.current = made;
    return () => made.close();
  }, []);

  useEffect(() => {
    if (log.length === 0 || isTouched.current) return;
    const mark = content.current?.querySelector(".first-new");
    if (mark) scroller.current?.show(mark, BELOW_TOP_PX);
    else scroller.current?.toEnd();
    isTouched.current = isFresh;
  }, [log.length > 0, isFresh]);

  // What the user sends is always shown.
  const count = useRef(pending.length);
  useLayoutEffect(() => {
    if (pending.length > count.current) scroller.current?.toEnd();
    count.current = pending.length;
  }, [pending.length]);

  const jump = useCallback(async (id: string) => {
    if (!(await session.loadUntil(chat, id))) return notices.show(words().quoteNotFound);
    const element = await drawn(content.current!, id);
    if (element === undefined) return;
    scroller.current?.show(element, BELOW_TOP_PX);
    element.classList.add("shown");
    element.addEventListener("animationend", () => element.classList.remove("shown"), { once: true });
    element.focus({ preventScroll: true });
  }, []);

  return (
    <div class="log-place">
      <div
        ref={container}
        id="log"
        role="log"
        aria-live="off"
        aria-label={messages}
        tabIndex={0}
        onKeyDown={moveFocus}
        onPointerDown={() => (isTouched.current = true)}
        onWheel={() => (isTouched.current = true)}
      >
        <div ref={content} class="content">
          <Start session={session} chat={chat} />
          {log.map((chunk, index) => (
            <ChunkView
              key={keyOf(chunk)}
              session={session}
              chat={chat}
              chunk={chunk}
              previous={log[index - 1]?.at(-1)}
              firstNew={chunk.some(({ id }) => id === firstNew) ? firstNew : undefined}
              newMessages={newMessages}
              observe={observe}
              jump={jump}
            />
          ))}
          {pending.map((item) => (
            <PendingView key={item.requestId} session={session} item={item} />
          ))}
        </div>
      </div>
      {!isAtEnd.value && <JumpToNew unread={chat.unread.value} jump={() => scroller.current?.toEnd()} />}
    </div>
  );
}

/** A chunk keeps its first message, unless an older one comes late. */
const keyOf = (chunk: Chunk): string => chunk[0]!.id;

/** What stands above the oldest message. */
function Start({ session, chat }: ChatProps) {
  const { startOfChat, startOfGroup, firstMessage, loading, loadOlder } = words();
  const hasOlder = chat.hasOlder.value;
  const isEmpty = newest(chat.log.value) === undefined;
  const isWaiting = useComputed(() => session.outbox.items.value.some((item) => item.key === chat.key)).value;
  if (hasOlder === true) {
    return (
      <button type="button" class="older" onClick={() => void session.loadOlder(chat)}>
        {loadOlder}
      </button>
    );
  }
  if (hasOlder === undefined) return <p class="empty">{isEmpty && loading}</p>;
  const start = isGroup(chat.key) ? startOfGroup : startOfChat;
  return (
    <p class="empty" dir="auto">
      {start(chat.name.value)} {isEmpty && !isWaiting && firstMessage}
    </p>
  );
}

function JumpToNew({ unread, jump }: { unread: number; jump: () => void }) {
  const text = words().jumpToNew(unread);
  return (
    <button type="button" id="jump" class="icon-button" aria-label={text} title={text} onClick={jump}>
      {unread > 0 && <span class="unread">{unread}</span>}
      <Icon name="down" />
    </button>
  );
}

/** Watches which parts of the log are near the screen. */
function useObserver(container: { current: HTMLDivElement | null }): Observe {
  const watched = useRef(new Map<Element, (entry: IntersectionObserverEntry) => void>());
  const observer = useRef<IntersectionObserver | undefined>(undefined);
  useEffect(() => {
    const call = (entries: IntersectionObserverEntry[]) => {
      for (const entry of entries) watched.current.get(entry.target)?.(entry);
    };
    const made = new IntersectionObserver(call, { root: container.current, rootMargin: DRAWN_BEYOND });
    observer.current = made;
    for (const element of watched.current.keys()) made.observe(element);
    return () => made.disconnect();
  }, []);
  return useCallback((element, call) => {
    watched.current.set(element, call);
    observer.current?.observe(element);
    return () => {
      watched.current.delete(element);
      observer.current?.unobserve(element);
    };
  }, []);
}

/** Scrolls the part with a message into view, and returns the message when it is drawn. */
async function drawn(content: HTMLElement, id: string): Promise<HTMLElement | undefined> {
  for (let frame = 0; frame < FRAMES; frame++) {
    const message = content.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"]`);
    if (message !== null) return message;
    const chunks = [...content.querySelectorAll<HTMLElement>(".chunk")];
    chunks.findLast(({ dataset }) => (dataset["first"] ?? "") <= id)?.scrollIntoView();
    await new Promise(requestAnimationFrame);
  }
  return undefined;
}

/** The arrow keys move from message to message. */
function moveFocus(event: KeyboardEvent): void {
  if (!["ArrowUp", "ArrowDown"].includes(event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
  const log = event.currentTarget as HTMLElement;
  const messages = [...log.querySelectorAll<HTMLElement>(".message")];
  const at = messages.findIndex((message) => message.contains(document.activeElement));
  const to = at < 0 ? messages.length - 1 : at + (event.key === "ArrowUp" ? -1 : 1);
  const next = messages[to];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

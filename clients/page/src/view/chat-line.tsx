/** A chat in the list. */

import { useComputed } from "@preact/signals";
import { shownOf, excerpt } from "../model/content.js";
import { dateTime, short } from "../model/dates.js";
import type { Chat } from "../model/chat.js";
import { idOf, isGroup } from "../model/key.js";
import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { Avatar } from "./avatar.js";
import { Mark } from "./mark.js";

/** The number of characters of a message in the list. */
const PREVIEW_CHARACTERS = 80;

export function ChatLine({ session, chat }: { session: Session; chat: Chat }) {
  const { key } = chat;
  const last = chat.last.value;
  const unread = chat.unread.value;
  const isOpen = useComputed(() => session.open.value === key).value;
  const isBlocked = !isGroup(key) && session.isBlocked(idOf(key));
  const waiting = useComputed(() => session.outbox.items.value.findLast((item) => item.key === key)).value;
  const at = waiting?.createdAt ?? last?.timestamp;
  const isOwn = last?.senderId === session.me && last.recalledAt === undefined;
  const isRead = !isGroup(key) && (last?.id ?? "") <= chat.peerReadUntil.value;
  return (
    <li>
      <button
        type="button"
        class="chat-line"
        aria-current={isOpen ? "true" : undefined}
        onClick={() => session.show(key)}
      >
        <Avatar id={key} name={chat.name.value} isGroup={isGroup(key)} />
        <span class="name" dir="auto">
          {chat.name.value}
        </span>
        {isBlocked && <span class="tag">{words().blocked}</span>}
        <span class="when">
          {waiting ? <Mark state={waiting.status} /> : isOwn && <Mark state={isRead ? "read" : "stored"} />}
          {at !== undefined && <time title={dateTime(at)}>{short(at)}</time>}
        </span>
        <span class="preview" dir="auto">
          <Preview session={session} chat={chat} isOpen={isOpen} />
        </span>
        {unread > 0 && (
          <span class="unread" role="img" aria-label={words().unread(unread, chat.unreadMore.value)}>
            {unread}
            {chat.unreadMore.value && "+"}
          </span>
        )}
      </button>
    </li>
  );
}

/** The beginning of what was said, or is about to be said. */
function Preview({ session, chat, isOpen }: { session: Session; chat: Chat; isOpen: boolean }) {
  const { typing, draft: draftWord, you, recalledBy, recalledByYou, says, nothingSaid } = words();
  const draft = session.draft(chat.key).value.text;
  if (chat.isTyping.value) return <em>{typing}</em>;
  if (draft !== "" && !isOpen) {
    return (
      <>
        <span class="draft">{draftWord}</span> {excerpt(draft, PREVIEW_CHARACTERS)}
      </>
    );
  }
  const waiting = session.outbox.items.value.findLast((item) => item.key === chat.key);
  if (waiting !== undefined) {
    return (
      <>
        {you} {excerpt(shownOf(waiting.content).text, PREVIEW_CHARACTERS)}
      </>
    );
  }
  const last = chat.last.value;
  if (last === undefined) return <em>{nothingSaid}</em>;
  const isOwn = last.senderId === session.me;
  if (last.content === undefined) return <em>{isOwn ? recalledByYou : recalledBy(last.senderId)}</em>;
  const text = excerpt(shownOf(last.content).text, PREVIEW_CHARACTERS);
  if (isOwn) return `${you} ${text}`;
  return isGroup(chat.key) ? says(last.senderId, text) : text;
}

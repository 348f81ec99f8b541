/** One message. */

import { useComputed } from "@preact/signals";
import type { HistoryMessage } from "serverless-chat-client";
import { excerpt, isFewEmoji, quoteOf, shownOf, type Quote } from "../model/content.js";
import { dateTime, time } from "../model/dates.js";
import { textOfCode } from "../model/errors.js";
import { isGroup } from "../model/key.js";
import { attempt, notices } from "../model/notices.js";
import type { Item } from "../model/outbox.js";
import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { Avatar } from "./avatar.js";
import type { ChatProps } from "./chat.js";
import { confirm } from "./dialog.js";
import { Mark } from "./mark.js";
import { Menu, type Action } from "./menu.js";
import { Text } from "./text.js";

interface MessageProps extends ChatProps {
  message: HistoryMessage;
  /** Whether it continues the message above: of the same sender, a moment later. */
  isTogether: boolean;
  jump: (id: string) => void;
}

export function MessageView({ session, chat, message, isTogether, jump }: MessageProps) {
  const { you } = words();
  const { id, senderId, timestamp, content } = message;
  const isOwn = senderId === session.me;
  const isInGroup = isGroup(chat.key);
  const isRead = useComputed(() => isOwn && !isInGroup && id <= chat.peerReadUntil.value).value;
  const isNamed = isInGroup && !isOwn && !isTogether;
  return (
    <div
      class={`message ${isOwn ? "own" : ""} ${isTogether ? "together" : ""}`}
      data-id={id}
      tabIndex={-1}
      onKeyDown={openMenu}
    >
      {isInGroup && !isOwn && <Avatar id={`user:${senderId}`} name={senderId} />}
      <div class="bubble">
        {isNamed && <strong class="sender">{senderId}</strong>}
        {!isNamed && <span class="hidden">{isOwn ? you : `${senderId}:`}</span>}
        {content === undefined && <Recalled isOwn={isOwn} senderId={senderId} />}
        {content !== undefined && <Body content={content} jump={jump} />}
        <span class="when">
          <time dateTime={new Date(timestamp).toISOString()} title={dateTime(timestamp)}>
            {time(timestamp)}
          </time>
          {isOwn && content !== undefined && <Mark state={isRead ? "read" : "stored"} />}
        </span>
      </div>
      {content !== undefined && <MessageMenu session={session} chat={chat} message={message} />}
    </div>
  );
}

/** Enter opens the menu of the message that has the focus. */
function openMenu(event: KeyboardEvent): void {
  if (event.target !== event.currentTarget || (event.key !== "Enter" && event.key !== "ContextMenu")) return;
  event.preventDefault();
  (event.currentTarget as HTMLElement).querySelector<HTMLElement>("[aria-haspopup]")?.click();
}

function Recalled({ isOwn, senderId }: { isOwn: boolean; senderId: string }) {
  const { recalledBy, recalledByYou } = words();
  return <em class="recalled">{isOwn ? recalledByYou : recalledBy(senderId)}</em>;
}

function Body({ content, jump }: { content: NonNullable<HistoryMessage["content"]>; jump?: (id: string) => void }) {
  const { otherContent } = words();
  const { text, quote, isJson } = shownOf(content);
  if (isJson) {
    return (
      <figure>
        <figcaption>{otherContent}</figcaption>
        <Text text={text} isLarge={false} />
      </figure>
    );
  }
  return (
    <>
      {quote && <QuoteView quote={quote} jump={jump} />}
      <Text text={text} isLarge={quote === undefined && isFewEmoji(text)} />
    </>
  );
}

function QuoteView({ quote, jump }: { quote: Quote; jump?: ((id: string) => void) | undefined }) {
  return (
    <button type="button" class="quote" disabled={jump === undefined} onClick={() => jump?.(quote.id)}>
      <strong>{excerpt(quote.senderId, 128)}</strong>
      <span dir="auto">{quote.text}</span>
    </button>
  );
}

function MessageMenu({ session, chat, message }: ChatProps & { message: HistoryMessage }) {
  const all = words();
  const { id, senderId, content } = message;
  const isManager = chat.group.value?.managerId === session.me;
  const reply = () => {
    session.write(chat.key, { ...session.draft(chat.key).peek(), quote: quoteOf(message) });
    document.querySelector<HTMLElement>("#send textarea")?.focus();
  };
  const copy = async () => {
    await navigator.clipboard.writeText(shownOf(content!).text);
    notices.show(all.copied);
  };
  const recall = async () => {
    if (await confirm(all.recallTitle, all.recallText, all.recall)) await session.recall(chat.key, id, senderId);
  };
  const actions: Action[] = [{ text: all.reply, act: reply }];
  // Browsers have no clipboard on pages that are not of this machine and served over http.
  if (navigator.clipboard !== undefined) actions.push({ text: all.copy, act: () => void attempt(copy) });
  if (senderId === session.me || isManager) {
    actions.push({ text: all.recall, act: () => void attempt(recall), isDangerous: true });
  }
  return <Menu label={all.actions} icon="more" actions={actions} tabIndex={-1} />;
}

/** A message that the server has not confirmed. */
export function PendingView({ session, item }: { session: Session; item: Item }) {
  const all = words();
  const { status, error, content, createdAt } = item;
  const isStuck = status === "failed" || status === "unsure";
  const again = async () => {
    const isSafe = status === "failed";
    if (isSafe || (await confirm(all.sendAgainTitle, all.sendAgainText, all.sendAgain))) session.outbox.again(item);
  };
  return (
    <div class={`message own pending ${status}`} tabIndex={-1}>
      <div class="bubble">
        <span class="hidden">{all.you}</span>
        <Body content={content} />
        <span class="when">
          <time title={dateTime(createdAt)}>{time(createdAt)}</time>
          <Mark state={status} />
        </span>
        {isStuck && <p class="why">{error ? textOfCode(error) : all.errors.unacknowledged}</p>}
        {status !== "sending" && (
          <div class="buttons">
            <button type="button" onClick={() => session.outbox.delete(item)}>
              {all.delete}
            </button>
            {isStuck && (
              <button type="button" onClick={() => void again()}>
                {all.sendAgain}
              </button>
            )}
          </div>
        )}
      </div>
    </div>
  );
}


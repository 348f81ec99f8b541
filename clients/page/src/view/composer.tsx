/** The field in which the user writes. */

import { useComputed } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { bytesTooMany, contentOf } from "../model/content.js";
import { addressOf, idOf, isGroup } from "../model/key.js";
import { locale, words } from "../words/words.js";
import type { ChatProps } from "./chat.js";
import { Icon } from "./icons.js";

/** A text of fewer UTF-16 units always fits: JSON takes six bytes at most for one. */
const FITS_CHARACTERS = 5_000;

/** As long as that of the outbox. */
const REQUEST_ID = "0".repeat(32);

export function Composer({ session, chat }: ChatProps) {
  const { message, messageTo, send, replyTo, cancelReply, tooLong, youBlock } = words();
  const field = useRef<HTMLTextAreaElement>(null);
  const { text, quote } = session.draft(chat.key).value;
  const isBlocked = useComputed(() => !isGroup(chat.key) && session.isBlocked(idOf(chat.key))).value;
  const excess =
    text.length < FITS_CHARACTERS ? 0 : bytesTooMany(addressOf(chat.key), contentOf(text.trim(), quote), REQUEST_ID);
  const isTooLong = excess > 0;

  useEffect(() => {
    const { current } = field;
    // Where the browser does not size the field by itself.
    if (current === null || CSS.supports("field-sizing", "content")) return;
    current.style.height = "auto";
    current.style.height = `${current.scrollHeight}px`;
  }, [text]);

  function written(value: string): void {
    session.write(chat.key, { text: value, quote });
    if (value.trim() !== "") session.typing(chat.key);
  }

  function submit(event: Event): void {
    event.preventDefault();
    if (!isTooLong) session.send(chat.key);
    field.current?.focus();
  }

  function pressed(event: KeyboardEvent): void {
    // Enter also ends the input of a Chinese word.
    if (event.isComposing || event.keyCode === 229) return;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    if (event.key === "Enter" && !event.shiftKey && !isTouch) return submit(event);
    if (event.key === "Escape" && quote !== undefined) return session.write(chat.key, { text });
    if (event.key === "ArrowUp" && text === "") {
      event.preventDefault();
      [...document.querySelectorAll<HTMLElement>("#log .message")].at(-1)?.focus();
    }
  }

  return (
    <form id="send" onSubmit={submit}>
      {isBlocked && <p class="hint">{youBlock(idOf(chat.key))}</p>}
      {quote !== undefined && (
        <div class="replying">
          <Icon name="reply" />
          <div>
            <strong>{replyTo(quote.senderId)}</strong>
            <span dir="auto">{quote.text}</span>
          </div>
          <button
            type="button"
            class="icon-button"
            aria-label={cancelReply}
            title={cancelReply}
            onClick={() => session.write(chat.key, { text })}
          >
            <Icon name="close" />
          </button>
        </div>
      )}
      {isTooLong && (
        <p class="hint error" id="too-long" role="alert">
          {tooLong(new Intl.NumberFormat(locale()).format(excess))}
        </p>
      )}
      <div class="field">
        <textarea
          ref={field}
          rows={1}
          value={text}
          dir="auto"
          aria-label={messageTo(chat.name.value)}
          placeholder={message}
          aria-invalid={isTooLong}
          aria-describedby={isTooLong ? "too-long" : undefined}
          onInput={(event) => written(event.currentTarget.value)}
          onKeyDown={pressed}
        />
        <button class="main round" aria-label={send} title={send} disabled={isTooLong || text.trim() === ""}>
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}

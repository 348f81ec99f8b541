/** Tells users of screen readers what others say in the open chat. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useRef } from "preact/hooks";
import { excerpt, shownOf } from "../model/content.js";
import { words } from "../words/words.js";
import type { ChatProps } from "./chat.js";

/** The number of characters of a message that are read out. */
const CHARACTERS = 300;

export function Said({ session, chat }: ChatProps) {
  const text = useSignal("");
  // Only what comes while the chat is open.
  const known = useRef(chat.last.peek()?.id ?? "");
  useSignalEffect(() => {
    const last = chat.last.value;
    if (last === undefined || last.id <= known.current) return;
    known.current = last.id;
    if (last.senderId === session.me || last.content === undefined || chat.isStale) return;
    text.value = words().says(last.senderId, excerpt(shownOf(last.content).text, CHARACTERS));
  });
  return (
    <p class="hidden" role="status">
      {text.value}
    </p>
  );
}

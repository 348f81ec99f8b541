/** A form of one field and one button. */

import { useSignal } from "@preact/signals";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { attempt } from "../model/notices.js";

interface FormProps {
  label: string;
  button: string;
  /** Whether the field takes the id of a user. */
  isUser?: boolean;
  /** What stands in the field before the user types. */
  value?: string;
  hint?: string;
  /** Whether the button stands out. */
  isMain?: boolean;
  /** Performs the action. If it fails, the error is shown and the text stays. */
  submit: (text: string) => Promise<unknown>;
}

export function Form({ label, button, isUser = false, value = "", hint, isMain = false, submit }: FormProps) {
  const id = useId();
  const text = useSignal(value);
  const initial = useRef(value);
  const pending = useRef(new Set<string>());
  const idOfHint = hint === undefined ? undefined : `${id}-hint`;

  useLayoutEffect(() => {
    if (text.peek() === initial.current) text.value = value;
    initial.current = value;
  }, [value]);

  async function submitted(event: Event): Promise<void> {
    event.preventDefault();
    const sent = text.value.trim();
    if (pending.current.has(sent)) return;
    pending.current.add(sent);
    const isDone = await attempt(() => submit(sent));
    pending.current.delete(sent);
    // Meanwhile the user may have typed something else.
    if (isDone && text.value.trim() === sent) text.value = initial.current;
  }

  return (
    <form class="form" onSubmit={submitted}>
      <label for={id}>{label}</label>
      <div class="field">
        <input
          id={id}
          required
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
          maxLength={isUser ? 128 : 100}
          pattern={isUser ? "[A-Za-z0-9._:@\\-]+" : undefined}
          title={hint}
          aria-describedby={idOfHint}
          autocomplete="off"
          autocapitalize={isUser ? "none" : undefined}
          spellcheck={isUser ? false : undefined}
        />
        <button class={isMain ? "main" : undefined}>{button}</button>
      </div>
      {hint !== undefined && <small id={idOfHint}>{hint}</small>}
    </form>
  );
}

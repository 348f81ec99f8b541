/** Dialogs. Only one is open at a time, besides a question above it. */

import { computed, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { words } from "../words/words.js";
import { Icon } from "./icons.js";
import { Notices } from "./notices.js";

export type OpenDialog = "new-chat" | "group";

export const openDialog = signal<OpenDialog | undefined>(undefined);

export const closeDialog = (): void => {
  openDialog.value = undefined;
};

/** Closes the dialog and the question, whose answer is no. */
export const closeAll = (): void => {
  closeDialog();
  question.peek()?.answer(false);
};

interface Question {
  title: string;
  text: string;
  /** The words on the button that does it. */
  yes: string;
  answer: (isYes: boolean) => void;
}

const question = signal<Question | undefined>(undefined);

/** Whether a dialog is open. Nothing outside it can be used then, so notices are shown inside. */
export const isDialogOpen = computed(() => openDialog.value !== undefined || question.value !== undefined);

/** Asks before what cannot be undone. Resolves to whether the user wants it. */
export function confirm(title: string, text: string, yes: string): Promise<boolean> {
  question.peek()?.answer(false);
  return new Promise((resolve) => {
    const answer = (isYes: boolean) => {
      // The browser reports late that the dialog is closed. Another question may be open then.
      if (question.peek() === asked) question.value = undefined;
      resolve(isYes);
    };
    const asked = { title, text, yes, answer };
    question.value = asked;
  });
}

interface DialogProps {
  title: string;
  close: () => void;
  role?: "dialog" | "alertdialog";
  children: ComponentChildren;
}

export function Dialog({ title, close, role = "dialog", children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useLayoutEffect(() => {
    const { current } = element;
    current?.showModal();
    // Gives the focus back to where it was.
    return () => current?.close();
  }, []);
  const clicked = ({ target }: Event) => target === element.current && close();
  return (
    <dialog ref={element} role={role} aria-labelledby={titleId} onClose={close} onClick={clicked}>
      <div class="dialog">
        <header>
          <h2 id={titleId}>{title}</h2>
          <button type="button" class="icon-button" aria-label={words().close} title={words().close} onClick={close}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
      {role === "dialog" && <Notices />}
    </dialog>
  );
}

export function QuestionDialog() {
  const asked = question.value;
  if (asked === undefined) return null;
  const { title, text, yes, answer } = asked;
  return (
    <Dialog title={title} close={() => answer(false)} role="alertdialog">
      <p>{text}</p>
      <div class="buttons">
        <button type="button" autofocus onClick={() => answer(false)}>
          {words().cancel}
        </button>
        <button type="button" class="main dangerous" onClick={() => answer(true)}>
          {yes}
        </button>
      </div>
    </Dialog>
  );
}

/** The page. */

import { useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { session, start } from "../model/app.js";
import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { ChatView } from "./chat.js";
import { closeAll, isDialogOpen, openDialog, QuestionDialog } from "./dialog.js";
import { GroupDialog } from "./group.js";
import { NewChatDialog } from "./new-chat.js";
import { Notices } from "./notices.js";
import { Sidebar } from "./sidebar.js";
import { SignIn } from "./sign-in.js";

start();

export function App() {
  const now = session.value;
  useSignalEffect(() => {
    const unread = session.value?.unread.value ?? 0;
    const count = unread > 0 ? `(${unread}) ` : "";
    const who = session.value ? `${session.value.me} · ` : "";
    document.title = count + who + words().welcome;
  });
  return now === undefined ? <SignIn /> : <SignedIn key={now.me} session={now} />;
}

function SignedIn({ session }: { session: Session }) {
  const chat = session.openChat.value;
  const dialog = openDialog.value;
  useEffect(() => closeAll, []);
  return (
    <>
      <Replaced session={session} />
      <main id="signed-in" class={chat === undefined ? "" : "in-chat"}>
        <Sidebar session={session} />
        {chat === undefined ? (
          <section id="no-chat">
            <p>{words().noChat}</p>
          </section>
        ) : (
          <ChatView key={chat.key} session={session} chat={chat} />
        )}
      </main>
      {dialog === "new-chat" && <NewChatDialog session={session} />}
      {dialog === "group" && chat !== undefined && <GroupDialog session={session} chat={chat} />}
      <QuestionDialog />
      {!isDialogOpen.value && <Notices />}
    </>
  );
}

/** Tells why this tab has no connection, and lets the user decide. */
function Replaced({ session }: { session: Session }) {
  if (session.state.value !== "replaced") return null;
  return (
    <p id="replaced" role="alert">
      {words().replaced}{" "}
      <button type="button" onClick={() => session.connect()}>
        {words().continueHere}
      </button>
    </p>
  );
}

/** The list of chats. */

import type { Invitation } from "serverless-chat-client";
import { session as signedIn, setLanguage, setTheme, signOut, theme, THEMES } from "../model/app.js";
import { dateTime } from "../model/dates.js";
import { attempt } from "../model/notices.js";
import type { Session } from "../model/session.js";
import { language, words } from "../words/words.js";
import { Avatar } from "./avatar.js";
import { ChatLine } from "./chat-line.js";
import { confirm, openDialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { Menu, type Action } from "./menu.js";
import { NewChatForms } from "./new-chat.js";

export function Sidebar({ session }: { session: Session }) {
  const { newChat, chats, invitations, menu } = words();
  const invited = session.invitations.value;
  return (
    <nav id="sidebar" aria-label={chats}>
      <header>
        <Avatar id={`user:${session.me}`} name={session.me} />
        <div class="who">
          <h1 id="me">{session.me}</h1>
          <State session={session} />
        </div>
        <button
          type="button"
          class="icon-button"
          aria-label={newChat}
          title={newChat}
          onClick={() => (openDialog.value = "new-chat")}
        >
          <Icon name="plus" />
        </button>
        <Menu label={menu} icon="menu" actions={actions(session)} />
      </header>
      <div class="lists">
        {invited.length > 0 && (
          <section aria-labelledby="invitations-title">
            <h2 id="invitations-title">{invitations}</h2>
            <ul id="invitations">
              {invited.map((invitation) => (
                <InvitationLine key={invitation.id} session={session} invitation={invitation} />
              ))}
            </ul>
          </section>
        )}
        <Chats session={session} />
      </div>
    </nav>
  );
}

function Chats({ session }: { session: Session }) {
  const { noChats, noChatsHint, loadingChats } = words();
  const all = session.chats.value;
  if (all.length > 0) {
    return (
      <ul id="chats">
        {all.map((chat) => (
          <ChatLine key={chat.key} session={session} chat={chat} />
        ))}
      </ul>
    );
  }
  if (!session.isLoaded.value) return <p class="empty">{loadingChats}</p>;
  return (
    <div class="empty" id="no-chats">
      <p>
        <strong>{noChats}</strong> {noChatsHint}
      </p>
      <NewChatForms session={session} />
    </div>
  );
}

function State({ session }: { session: Session }) {
  const { states, noNetwork, until } = words();
  const state = session.state.value;
  const end = session.bannedUntil.value;
  const isCut = state === "online" && !session.hasNetwork.value;
  return (
    <p id="state" role="status" data-state={isCut ? "waiting" : state}>
      {isCut ? noNetwork : states[state]}
      {state === "banned" && end !== undefined && ` ${until(dateTime(end))}`}
    </p>
  );
}

function InvitationLine({ session, invitation }: { session: Session; invitation: Invitation }) {
  const { invitedBy, join, decline } = words();
  const answer = (accept: boolean) => () => void attempt(() => session.answer(invitation, accept));
  return (
    <li>
      <span dir="auto">{invitedBy(invitation.groupName, invitation.invitedBy)}</span>
      <div class="buttons">
        <button type="button" onClick={answer(false)}>
          {decline}
        </button>
        <button type="button" class="main" onClick={answer(true)}>
          {join}
        </button>
      </div>
    </li>
  );
}

function actions(session: Session): Action[] {
  const { otherLanguage, theme: themeWord, themes, goOnline, goOffline, signOut: signOutWord } = words();
  const other = language.value === "zh" ? "en" : "zh";
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
  const isOff = session.state.value === "closed" || session.state.value === "banned";
  const isReplaced = session.state.value === "replaced";
  const line = isOff
    ? { text: goOnline, act: () => session.connect() }
    : { text: goOffline, act: () => void attempt(() => session.goOffline()) };
  return [
    { text: otherLanguage, act: () => setLanguage(other), lang: other === "zh" ? "zh-CN" : "en" },
    { text: `${themeWord}: ${themes[next]}`, act: () => setTheme(next) },
    ...(isReplaced ? [] : [line]),
    { text: signOutWord, act: () => void leave(session) },
  ];
}

/** Signs out, and asks first if that loses something. */
async function leave(session: Session): Promise<void> {
  const { signOut: title, signOutUnsent, signOutDrafts } = words();
  const accepted = new Set<string>();
  // While this asks, the user may write more in another tab.
  for (;;) {
    const unsent = session.outbox.unsent();
    const drafts = session.storage.names("draft/");
    const lost = [...unsent, ...drafts];
    if (lost.every((name) => accepted.has(name))) break;
    const warnings = [unsent.length > 0 && signOutUnsent(unsent.length), drafts.length > 0 && signOutDrafts];
    if (!(await confirm(`${title}?`, warnings.filter(Boolean).join(" "), title))) return;
    for (const name of lost) accepted.add(name);
  }
  if (signedIn.peek() === session) await signOut();
}

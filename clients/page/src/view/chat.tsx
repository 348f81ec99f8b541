/** The open chat. */

import { useComputed } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { leaveChat } from "../model/app.js";
import * as host from "../model/host.js";
import type { Chat } from "../model/chat.js";
import { idOf, isGroup } from "../model/key.js";
import { attempt, notices } from "../model/notices.js";
import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { Avatar } from "./avatar.js";
import { Composer } from "./composer.js";
import { confirm, openDialog } from "./dialog.js";
import { Icon } from "./icons.js";
import { LogView } from "./log.js";
import { Menu, type Action } from "./menu.js";
import { Said } from "./said.js";

export interface ChatProps {
  session: Session;
  chat: Chat;
}

export function ChatView({ session, chat }: ChatProps) {
  const { back, actions } = words();
  const title = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (isGroup(chat.key)) void attempt(() => session.loadGroup(chat));
    // On a phone, the focus in the field would open the keyboard over the messages.
    const isPhone = matchMedia("(pointer: coarse)").matches;
    const field = title.current?.closest("section")?.querySelector<HTMLElement>("#send textarea");
    (isPhone ? title.current : field)?.focus();
  }, []);
  return (
    <section id="chat" aria-labelledby="chat-title">
      <header>
        <button type="button" id="back" class="icon-button" aria-label={back} title={back} onClick={leaveChat}>
          <Icon name="back" />
        </button>
        <Avatar id={chat.key} name={chat.name.value} isGroup={isGroup(chat.key)} />
        <div class="who">
          <h2 ref={title} id="chat-title" tabIndex={-1} dir="auto">
            {chat.name.value}
          </h2>
          <Below session={session} chat={chat} />
        </div>
        <Menu
          label={actions}
          icon="more"
          actions={isGroup(chat.key) ? ofGroup(session, chat) : ofUser(session, chat)}
        />
      </header>
      <LogView session={session} chat={chat} />
      <Composer session={session} chat={chat} />
      <Said session={session} chat={chat} />
    </section>
  );
}

/** What stands below the name: who is typing, or how many members there are. */
function Below({ session, chat }: ChatProps) {
  const { typing, members, blocked } = words();
  const isBlocked = useComputed(() => !isGroup(chat.key) && session.isBlocked(idOf(chat.key))).value;
  const group = chat.group.value;
  if (isGroup(chat.key)) {
    return (
      <button type="button" class="below link" onClick={() => (openDialog.value = "group")}>
        {group === undefined ? "…" : members(group.usersId.length)}
      </button>
    );
  }
  const text = isBlocked ? blocked : chat.isTyping.value ? typing : "";
  return text === "" ? null : <p class="below">{text}</p>;
}

/** Asks the back end to notify: the way to try out notifications. */
function notify(session: Session, chat: Chat): Action {
  const { notify: text, notified, greeting } = words();
  const type = isGroup(chat.key) ? "multicast" : "unicast";
  const send = async () => {
    await host.notify(type, idOf(chat.key), host.GREETING, greeting(session.me), session.me);
    notices.show(notified);
  };
  return { text, act: () => void attempt(send) };
}

function ofUser(session: Session, chat: Chat): Action[] {
  const { block, unblock, befriend, unfriend, unfriendTitle, unfriendText } = words();
  const user = idOf(chat.key);
  const isBlocked = session.isBlocked(user);
  const isFriend = session.relations.value.friends.includes(user);
  const remove = async () => {
    if (await confirm(unfriendTitle(user), unfriendText, unfriend)) await session.befriend(user, false);
  };
  return [
    notify(session, chat),
    isBlocked
      ? { text: unblock, act: () => void attempt(() => session.block(user, false)) }
      : { text: block, act: () => void attempt(() => session.block(user)) },
    isFriend
      ? { text: unfriend, act: () => void attempt(remove), isDangerous: true }
      : { text: befriend, act: () => void attempt(() => session.befriend(user)) },
  ];
}

function ofGroup(session: Session, chat: Chat): Action[] {
  const { groupInfo } = words();
  return [
    { text: groupInfo, act: () => (openDialog.value = "group") },
    notify(session, chat),
    leave(session, chat),
  ];
}

/** Leaves the group, or dissolves it if the user manages it. */
export function leave(session: Session, chat: Chat): Action {
  const all = words();
  const isManager = chat.group.value?.managerId === session.me;
  const [text, title, why] = isManager
    ? [all.dissolve, all.dissolveTitle, all.dissolveText]
    : [all.leave, all.leaveTitle, all.leaveText];
  const act = async () => {
    if (await confirm(title(chat.name.peek()), why, text)) await session.leave(chat.key);
  };
  return { text, act: () => void attempt(act), isDangerous: true };
}

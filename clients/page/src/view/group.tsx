/** The members and settings of a group. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Group } from "serverless-chat-client";
import { dateTime } from "../model/dates.js";
import { idOf } from "../model/key.js";
import { attempt, notices } from "../model/notices.js";
import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { Avatar } from "./avatar.js";
import { leave, type ChatProps } from "./chat.js";
import { closeDialog, confirm, Dialog } from "./dialog.js";
import { Form } from "./form.js";
import { Menu, type Action } from "./menu.js";

/** The number of members that are listed. More are found by the search field. */
const LISTED = 200;

/** From this number on there is a search field. */
const MANY = 12;

const HOUR_MINUTES = 60;
const DAY_MINUTES = 24 * 60;

export function GroupDialog({ session, chat }: ChatProps) {
  const all = words();
  const group = chat.group.value;
  const id = idOf(chat.key);
  // In large groups the server does not tell of every change.
  useEffect(() => void attempt(() => session.loadGroup(chat)), []);
  const end = leave(session, chat);
  const invite = async (user: string) => {
    await session.api.invite(id, user);
    notices.show(all.invited(user));
  };
  const rename = async (name: string) => {
    await session.api.renameGroup(id, name);
    chat.name.value = name;
  };
  return (
    <Dialog title={chat.name.value} close={closeDialog}>
      {group !== undefined && <Members session={session} group={group} reload={() => session.loadGroup(chat)} />}
      <Form label={all.inviteTitle} button={all.invite} isUser isMain submit={invite} />
      {group?.managerId === session.me && (
        <Form label={all.renameTitle} button={all.rename} value={chat.name.value} submit={rename} />
      )}
      <div class="buttons">
        <button type="button" class="dangerous" onClick={end.act}>
          {end.text}
        </button>
      </div>
    </Dialog>
  );
}

interface MembersProps {
  session: Session;
  group: Group;
  reload: () => Promise<void>;
}

function Members({ session, group, reload }: MembersProps) {
  const { members, findMember, moreMembers, manager, itsYou, actions } = words();
  const search = useSignal("");
  const rank = (user: string) => (user === group.managerId ? "0" : user === session.me ? "1" : "2") + user;
  const found = group.usersId
    .filter((user) => user.toLowerCase().includes(search.value.toLowerCase()))
    .sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
  return (
    <section aria-labelledby="members-title">
      <h3 id="members-title">{members(group.usersId.length)}</h3>
      {group.usersId.length > MANY && (
        <input
          type="search"
          aria-label={findMember}
          placeholder={findMember}
          value={search.value}
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
      )}
      <ul id="members">
        {found.slice(0, LISTED).map((user) => (
          <li key={user}>
            <Avatar id={`user:${user}`} name={user} />
            <span class="name">{user}</span>
            {user === session.me && <span class="tag">{itsYou}</span>}
            {user === group.managerId && <span class="tag">{manager}</span>}
            {group.managerId === session.me && user !== session.me && (
              <Menu label={`${actions}: ${user}`} icon="more" actions={ofMember(session, group, user, reload)} />
            )}
          </li>
        ))}
      </ul>
      {found.length > LISTED && <p class="hint">{moreMembers(found.length - LISTED)}</p>}
    </section>
  );
}

/** What a manager can do to a member. */
function ofMember(session: Session, { id }: Group, user: string, reload: () => Promise<void>): Action[] {
  const all = words();
  const { api } = session;
  const mute = (minutes: number) => async () => {
    await api.mute(id, user, minutes);
    notices.show(all.muted(user, dateTime(Date.now() + minutes * 60_000)));
  };
  const unmute = async () => {
    await api.unmute(id, user);
    notices.show(all.unmuted(user));
  };
  const handOver = async () => {
    if (!(await confirm(all.handOverTitle(user), all.handOverText, all.handOver))) return;
    await api.handOver(id, user);
    await reload();
  };
  const remove = async () => {
    if (!(await confirm(all.removeTitle(user), all.removeText, all.remove))) return;
    await api.removeMember(id, user);
    await reload();
  };
  return [
    { text: all.muteHour, act: () => void attempt(mute(HOUR_MINUTES)) },
    { text: all.muteDay, act: () => void attempt(mute(DAY_MINUTES)) },
    { text: all.unmute, act: () => void attempt(unmute) },
    { text: all.handOver, act: () => void attempt(handOver) },
    { text: all.remove, act: () => void attempt(remove), isDangerous: true },
  ];
}

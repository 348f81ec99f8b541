/** The ways to begin a chat. */

import type { Session } from "../model/session.js";
import { words } from "../words/words.js";
import { closeDialog, Dialog } from "./dialog.js";
import { Form } from "./form.js";

export function NewChatForms({ session }: { session: Session }) {
  const { userName, addFriend, nameHint, groupName, createGroup } = words();
  const befriend = (user: string) => session.befriend(user).then(closeDialog);
  const create = (name: string) => session.createGroup(name).then(closeDialog);
  return (
    <>
      <Form label={userName} button={addFriend} hint={nameHint} isUser isMain submit={befriend} />
      <Form label={groupName} button={createGroup} submit={create} />
    </>
  );
}

export function NewChatDialog({ session }: { session: Session }) {
  return (
    <Dialog title={words().newChat} close={closeDialog}>
      <NewChatForms session={session} />
    </Dialog>
  );
}

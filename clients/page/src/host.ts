/**
 * The calls of the host application: tokens, friends, blocks and notifications. The local stack offers them to this
 * page if it runs with its built-in secret. In the cloud your back end makes them, through the internal API.
 */

/** The friends of a user, and the users whom they block. */
export interface Relations {
  friends: string[];
  blocks: string[];
}

/** A refusal by the local stack, with its message. */
export class HostError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

async function answer(path: string, init?: RequestInit): Promise<string> {
  const response = await fetch(path, { cache: "no-store", ...init });
  const text = await response.text();
  if (response.ok) return text;
  let message = response.statusText;
  try {
    message = JSON.parse(text).message ?? message;
  } catch {
    // The answer is not from the local stack.
  }
  throw new HostError(response.status, message);
}

const invoke = (name: string, payload: object) =>
  answer(`/dev/${name}`, { method: "POST", body: JSON.stringify(payload) });

/** Returns a token of a user. */
export const tokenOf = (user: string): Promise<string> => answer(`/dev/token?user=${encodeURIComponent(user)}`);

/** Returns the friends and blocks of a user. */
export const relationsOf = async (userId: string): Promise<Relations> =>
  JSON.parse(await invoke("relationship", { method: "GET", userId }));

/** Makes two users friends, or ends their friendship. */
export const befriend = (userId: string, friendId: string, on = true): Promise<string> =>
  invoke("relationship", { method: on ? "PUT" : "DELETE", userId, friendId });

/** Blocks a user for another user, or unblocks them. */
export const block = (userId: string, blockedId: string, on = true): Promise<string> =>
  invoke("relationship", { method: on ? "PUT" : "DELETE", userId, blockedId });

/** Notifies a user or the members of a group, if they are online. */
export const notify = (type: "unicast" | "multicast", to: string, content: string): Promise<string> =>
  invoke("notification", { type, to, notificationType: "greeting", content });

/**
 * The calls of the host application: tokens, friends, blocks and notifications. The local stack offers them to this
 * page if it runs with its built-in secret. In the cloud your back end makes them, through the internal API.
 */

/** The friends of a user, and the users whom they block. */
export interface Relations {
  friends: string[];
  blocks: string[];
}

/** The notification by which this host application tells users that their friends have changed. */
export const FRIENDS = "friends";

/** The notification of the page's menu. */
export const GREETING = "greeting";

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

/** A token that the address of the page brought, and its user. */
let given: { user: string; token: string } | undefined;

/** Uses a token that another program made. Returns its user, or nothing if this is not a token. */
export function useToken(token: string): string | undefined {
  try {
    const payload = atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    const { sub } = JSON.parse(payload);
    if (typeof sub !== "string") return undefined;
    given = { user: sub, token };
    return sub;
  } catch {
    return undefined;
  }
}

/** Returns a token of a user. */
export const tokenOf = async (user: string): Promise<string> =>
  given?.user === user ? given.token : await answer(`/dev/token?user=${encodeURIComponent(user)}`);

/** Returns the friends and blocks of a user, or nothing if the local stack does not tell, as it has a secret of its own. */
export async function relationsOf(userId: string): Promise<Relations | undefined> {
  try {
    return JSON.parse(await invoke("relationship", { method: "GET", userId }));
  } catch (error) {
    if (error instanceof HostError && error.status === 404) return undefined;
    throw error;
  }
}

/** Makes two users friends, or ends their friendship. Then notifies both, so that their pages show it. */
export async function befriend(userId: string, friendId: string, on = true): Promise<void> {
  await invoke("relationship", { method: on ? "PUT" : "DELETE", userId, friendId });
  await Promise.all([userId, friendId].map((to) => notify("unicast", to, FRIENDS, { userId, friendId }, userId)));
}

/** Blocks a user for another user, or unblocks them. Then notifies the blocking user's other devices. */
export async function block(userId: string, blockedId: string, on = true): Promise<void> {
  await invoke("relationship", { method: on ? "PUT" : "DELETE", userId, blockedId });
  await notify("unicast", userId, FRIENDS, {}, userId);
}

/** Notifies a user or the members of a group, if they are online. Users who block `from` do not get it. */
export async function notify(
  type: "unicast" | "multicast",
  to: string,
  notificationType: string,
  content: unknown,
  from: string,
): Promise<void> {
  await invoke("notification", { type, to, from, notificationType, content });
}

/** Lets the log of the local stack tell that these users are not friends, so that a message does not arrive. */
export async function tellDeveloper(sender: string, receiver: string): Promise<void> {
  await answer(`/dev/unheard?${new URLSearchParams({ sender, receiver })}`, { method: "POST" });
}

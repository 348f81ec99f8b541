/**
 * What the application around the chat does: it says who a user is and who is whose friend, and it notifies. The local
 * stack does that for this page, as long as it runs with the secret that everybody knows. In the cloud it is your back
 * end, by the internal API.
 */

export interface Ties {
  friends: string[];
  blocks: string[];
}

/** A refusal in the server's words. */
export class HostError extends Error {}

async function answer(path: string, init?: RequestInit): Promise<string> {
  const response = await fetch(path, { cache: "no-store", ...init });
  const text = await response.text();
  if (response.ok) return text;
  let message = response.statusText;
  try {
    message = JSON.parse(text).message ?? message;
  } catch {
    // Something else answered.
  }
  throw new HostError(message);
}

const invoke = (name: string, payload: object) =>
  answer(`/dev/${name}`, { method: "POST", body: JSON.stringify(payload) });

/** A token of that user. */
export const tokenOf = (user: string): Promise<string> => answer(`/dev/token?user=${encodeURIComponent(user)}`);

/** Whom a user is tied to. */
export const tiesOf = async (userId: string): Promise<Ties> =>
  JSON.parse(await invoke("relationship", { method: "GET", userId }));

/** Make two users friends, or end that. */
export const befriend = (userId: string, friendId: string, on = true): Promise<string> =>
  invoke("relationship", { method: on ? "PUT" : "DELETE", userId, friendId });

/** Let a user block another, or end that. */
export const block = (userId: string, blockedId: string, on = true): Promise<string> =>
  invoke("relationship", { method: on ? "PUT" : "DELETE", userId, blockedId });

/** Notify whoever is online: a user, or the members of a group. */
export const notify = (type: "unicast" | "multicast", to: string, content: string): Promise<string> =>
  invoke("notification", { type, to, notificationType: "greeting", content });
